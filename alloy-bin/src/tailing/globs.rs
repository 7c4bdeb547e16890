//! Targets whose path is a glob, and the files that match, each as a target.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use twox_hash::XxHash64;

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
    find_changed(globs, ignore_older_than, None).1
}

/// As [`find`], with a fingerprint of what was found by which targets, and nothing if it is that of before.
pub fn find_changed(
    globs: &[Glob],
    ignore_older_than: Duration,
    before: Option<u64>,
) -> (u64, BTreeSet<Target>) {
    let oldest = SystemTime::now().checked_sub(ignore_older_than).filter(|_| !ignore_older_than.is_zero());
    let is_old = |path: &Path| {
        oldest.is_some_and(|oldest| {
            let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
            modified.is_ok_and(|modified| modified < oldest)
        })
    };
    let mut hasher = XxHash64::with_seed(0);
    let files = |Glob { target, pattern }: &Glob| {
        let mut paths = pattern.files();
        paths.retain(|path| !is_old(path));
        (&target.0, &paths).hash(&mut hasher);
        paths
    };
    let paths: Vec<Vec<PathBuf>> = globs.iter().map(files).collect();
    let fingerprint = hasher.finish();
    let mut found = BTreeSet::new();
    if before == Some(fingerprint) {
        return (fingerprint, found);
    }
    for (Glob { target, .. }, paths) in globs.iter().zip(paths) {
        for path in paths {
            let mut target = target.clone();
            target.0.insert("__path__".to_owned(), path.to_string_lossy().into_owned());
            found.insert(target);
        }
    }
    (fingerprint, found)
}
