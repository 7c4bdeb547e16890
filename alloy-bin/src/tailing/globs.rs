//! Targets whose path is a glob, and the files that match, each as a target.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Pattern, PatternError};
use crate::telemetry::Target;

/// A target whose label `__path__` holds a glob, and `__path_exclude__` one for paths to leave out.
#[derive(Debug, Clone)]
pub struct Glob {
    target: Target,
    pattern: Pattern,
}

impl Glob {
    /// Compiles the globs.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn new(target: Target) -> Result<Self, PatternError> {
        let label = |name| target.get(name).unwrap_or_default();
        let pattern = Pattern::new(label("__path__"), label("__path_exclude__"))?;
        Ok(Glob { target, pattern })
    }
}

/// The files that match now and were changed not longer ago than that (zero: whenever), each with the labels of the target that
/// it was found by. Blocks.
pub fn find(globs: &[Glob], ignore_older_than: Duration) -> BTreeSet<Target> {
    let oldest = SystemTime::now().checked_sub(ignore_older_than).filter(|_| !ignore_older_than.is_zero());
    let is_old = |path: &Path| {
        oldest.is_some_and(|oldest| {
            let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
            modified.is_ok_and(|modified| modified < oldest)
        })
    };
    let mut found = BTreeSet::new();
    for Glob { target, pattern } in globs {
        for path in pattern.files().into_iter().filter(|path| !is_old(path)) {
            let mut target = target.clone();
            target.0.insert("__path__".to_owned(), path.to_string_lossy().into_owned());
            found.insert(target);
        }
    }
    found
}
