//! Which files are followed, and where another program has read them to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Arguments, Base, finished};
use tokio::time::Instant;

use crate::graph::SharedTarget;
use crate::tailing::{Glob, LegacyPositions, Source, find_changed, legacy_positions};
use crate::telemetry::{Labels, Target};

/// The files by key; nothing, if globs match what they did when `known` was told. A target without a path is said and left out.
pub(super) async fn sources(
    base: &Base,
    arguments: &Arc<Arguments>,
    known: &mut Option<u64>,
) -> Option<BTreeMap<u64, Source>> {
    let mut sources = BTreeMap::new();
    for target in targets(base, arguments, known).await? {
        let Some(path) = target.get("__path__").filter(|path| !path.is_empty()) else {
            tracing::warn!(component = %base.id, labels = ?target.0, "target has no __path__, it is left out");
            continue;
        };
        let labels = Labels::new(target.public_labels().chain([("filename", path)]));
        sources.insert(target.key(), Source { path: Path::new(path).into(), labels });
    }
    Some(sources)
}

/// Waits until globs are to be looked at again after that time; for ever if there are none.
pub(super) async fn look_again(arguments: &Arguments, looked_at: Instant) {
    match arguments.file_match {
        Some(file_match) => tokio::time::sleep_until(looked_at + file_match.sync_period).await,
        None => std::future::pending().await,
    }
}

/// The targets, or what they match.
async fn targets(base: &Base, arguments: &Arc<Arguments>, known: &mut Option<u64>) -> Option<Vec<Target>> {
    let before = known.take();
    let Some(file_match) = arguments.file_match else {
        return Some(arguments.targets.iter().map(SharedTarget::target).collect());
    };
    let mut globs = Vec::new();
    for target in &arguments.targets {
        let target = target.target();
        match Glob::new(target.clone()) {
            Ok(glob) => globs.push(glob),
            Err(error) => {
                tracing::warn!(component = %base.id, labels = ?target.0, %error, "target is left out");
            }
        }
    }
    let find = move || find_changed(&globs, file_match.ignore_older_than, before);
    let (fingerprint, found) = finished(tokio::task::spawn_blocking(find).await);
    *known = Some(fingerprint);
    (before != *known).then(|| found.into_iter().collect())
}

/// Positions of another program, if this is the first life of the component.
pub(super) async fn legacy(base: &Base, arguments: &Arguments, is_first: bool) -> LegacyPositions {
    let Some(path) = arguments.legacy_positions_file.clone().filter(|_| is_first) else {
        return LegacyPositions::new();
    };
    let shown = path.display().to_string();
    match finished(tokio::task::spawn_blocking(move || legacy_positions(&path)).await) {
        Ok(positions) => {
            tracing::info!(component = %base.id, path = shown, files = positions.len(), "took over positions");
            positions
        }
        Err(error) => {
            base.metrics.bookmark_errors.fetch_add(1, Relaxed);
            tracing::error!(component = %base.id, path = shown, %error, "cannot take over positions");
            LegacyPositions::new()
        }
    }
}
