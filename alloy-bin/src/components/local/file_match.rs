//! `local.file_match`: globs in, the files that match out, kept up to date.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::graph::{Component, Context, ExportType, Exports, export};
use crate::tailing::{Glob, find};
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
}

#[async_trait]
impl Component for FileMatch {
    const NAME: &'static str = "local.file_match";
    const EXPORTS: &'static [ExportType] = &[("targets", export::targets)];

    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        // Who refers to the targets is built next: it shall see them from its beginning.
        context.exports.set("targets", value(&find(&arguments.path_targets, arguments.ignore_older_than)));
        Ok(FileMatch { exports: context.exports, arguments: watch::Sender::new(Arc::new(arguments)) })
    }

    async fn run(&self, stop: CancellationToken) {
        let mut arguments = self.arguments.subscribe();
        loop {
            let now = arguments.borrow_and_update().clone();
            let period = now.sync_period;
            let Ok(found) =
                tokio::task::spawn_blocking(move || find(&now.path_targets, now.ignore_older_than)).await
            else {
                return;
            };
            self.exports.set("targets", value(&found));
            drop(found);
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

fn value(targets: &BTreeSet<Target>) -> Value {
    Value::array(targets.iter().map(Value::from))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

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
    }
}
