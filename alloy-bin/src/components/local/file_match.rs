//! `local.file_match`: globs in, the files that match out, kept up to date.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::graph::{Component, Context, ExportType, Exports, export, target_values};
use crate::tailing::{Glob, find_changed};
use crate::telemetry::Target;

/// The decoded block.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// What to look for: the label `__path__` holds a glob, `__path_exclude__` one for paths to leave out.
    pub path_targets: Vec<Glob>,
    /// How often to look.
    pub sync_period: Duration,
    /// Files that were not changed for so long are left out; zero: none is.
    pub ignore_older_than: Duration,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let targets: Vec<Target> = body.required("path_targets");
        let mut path_targets = Vec::new();
        for (index, target) in targets.into_iter().enumerate() {
            if target.get("__path__").is_none_or(str::is_empty) {
                body.error_at("path_targets", format!("element {index} has no label __path__"));
                continue;
            }
            match Glob::new(target) {
                Ok(glob) => path_targets.push(glob),
                Err(error) => body.error_at("path_targets", format!("element {index}: {error}")),
            }
        }
        let sync_period = body.optional("sync_period", Duration::from_secs(10));
        if sync_period.is_zero() {
            body.error_at("sync_period", "must be longer than nothing");
        }
        let ignore_older_than = body.optional("ignore_older_than", Duration::ZERO);
        Arguments { path_targets, sync_period, ignore_older_than }
    }
}

/// The component.
pub struct FileMatch {
    exports: Exports,
    arguments: watch::Sender<Arc<Arguments>>,
    found: Mutex<Found>,
}

/// What is exported.
#[derive(Default)]
struct Found {
    fingerprint: Option<u64>,
    /// Shared with those who take them: a new file does not make all of them anew.
    targets: Arc<Vec<Value>>,
}

#[async_trait]
impl Component for FileMatch {
    const NAME: &'static str = "local.file_match";
    const EXPORTS: &'static [ExportType] = &[("targets", export::targets)];

    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let Arguments { path_targets, ignore_older_than, .. } = &arguments;
        let first = find_changed(path_targets, *ignore_older_than, None);
        let (exports, arguments) = (context.exports, watch::Sender::new(Arc::new(arguments)));
        let file_match = FileMatch { exports, arguments, found: Mutex::default() };
        // Who refers to the targets is built next: it shall see them from its beginning.
        file_match.export(first);
        Ok(file_match)
    }

    async fn run(&self, stop: CancellationToken) {
        let mut arguments = self.arguments.subscribe();
        loop {
            let now = arguments.borrow_and_update().clone();
            let period = now.sync_period;
            let before = self.found().fingerprint;
            let find = move || find_changed(&now.path_targets, now.ignore_older_than, before);
            let Ok(found) = tokio::task::spawn_blocking(find).await else { return };
            self.export(found);
            tokio::select! {
                () = stop.cancelled() => return,
                _ = arguments.changed() => {}
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        self.arguments.send_replace(Arc::new(arguments));
        Ok(())
    }
}

impl FileMatch {
    fn export(&self, (fingerprint, targets): (u64, BTreeSet<Target>)) {
        let mut found = self.found();
        if found.fingerprint != Some(fingerprint) {
            found.targets = Arc::new(target_values(&targets, &found.targets));
            found.fingerprint = Some(fingerprint);
            self.exports.set("targets", Value::Array(found.targets.clone()));
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // It is good after every step.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::tailing::find;

    use super::*;

    fn target(pairs: &[(&str, &str)]) -> Target {
        Target(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn each_file_gets_the_labels_of_what_found_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/{name}", folder.path().display());
        for name in ["a.log", "b.log", "old.log"] {
            std::fs::write(path(name), "").unwrap();
        }
        let long_ago = SystemTime::now() - Duration::from_secs(7200);
        std::fs::File::options().write(true).open(path("old.log")).unwrap().set_modified(long_ago).unwrap();
        let (all, a) = (path("*.log"), path("{a,a}.log"));
        let first = target(&[("__path__", &all), ("__path_exclude__", &path("b*")), ("job", "x")]);
        let second = target(&[("__path__", &a), ("job", "y")]);
        let globs = [first, second].map(|target| Glob::new(target).unwrap());
        let by_first = |name: &str| {
            target(&[("__path__", &path(name)), ("__path_exclude__", &path("b*")), ("job", "x")])
        };
        let by_second = target(&[("__path__", &path("a.log")), ("job", "y")]);
        let expected: BTreeSet<_> = [by_first("a.log"), by_second, by_first("old.log")].into();
        let young: BTreeSet<_> =
            expected.iter().filter(|found| **found != by_first("old.log")).cloned().collect();
        assert_eq!(find(&globs, Duration::ZERO), expected);
        assert_eq!(find(&globs, Duration::from_secs(3600)), young);
        let (known, _) = find_changed(&globs, Duration::ZERO, None);
        assert_eq!(find_changed(&globs, Duration::ZERO, Some(known)), (known, BTreeSet::new()));
        assert_eq!(find_changed(&globs[..1], Duration::ZERO, Some(known)).1.len(), 2);
        let other = Glob::new(target(&[("__path__", &a), ("job", "z")])).unwrap();
        let others = find_changed(&[globs[0].clone(), other], Duration::ZERO, Some(known)).1;
        assert_eq!(others.len(), 3, "the same files, other labels");
    }
}
