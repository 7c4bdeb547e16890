//! `discovery.file`: targets from JSON and YAML files, as Prometheus' file-based discovery reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::graph::{Component, Context, ExportType, Exports, Health, export};
use crate::tailing::Pattern;
use crate::telemetry::{Page, Target};

/// How often files are looked at: a look costs one `stat` each, and works on every file system.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Larger files are refused: tens of thousands of targets need a few MiB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The decoded block.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// Globs of the files.
    pub files: Vec<Pattern>,
    /// How often all files are read again even if they look unchanged.
    pub refresh_interval: Duration,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let globs: Vec<String> = body.required("files");
        let mut files = Vec::new();
        for glob in globs {
            match Pattern::new(&glob, "") {
                Ok(_) if Format::of(Path::new(&glob)).is_none() => {
                    body.error_at("files", format!("{glob:?} must end in .json, .yml or .yaml"));
                }
                Ok(pattern) => files.push(pattern),
                Err(error) => body.error_at("files", format!("{glob:?}: {error}")),
            }
        }
        Arguments { files, refresh_interval: body.optional("refresh_interval", Duration::from_secs(300)) }
    }
}

/// The component.
pub struct File {
    id: Arc<str>,
    exports: Exports,
    health: Health,
    arguments: watch::Sender<Arc<Arguments>>,
    found: Arc<Mutex<Found>>,
    read_errors: Arc<AtomicU64>,
}

/// The files with what was read of them, by path.
type Found = BTreeMap<PathBuf, Known>;

/// What is known of one file.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Time of the last change and size when it was read.
    seen: Option<(SystemTime, u64)>,
    /// What it last held when it could be read.
    targets: Vec<Target>,
    /// What is wrong with it now.
    error: Option<String>,
}

#[async_trait]
impl Component for File {
    const NAME: &'static str = "discovery.file";
    const EXPORTS: &'static [ExportType] = &[("targets", export::targets)];

    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let Context { id, exports, health, .. } = context;
        let file = File {
            id,
            exports,
            health,
            arguments: watch::Sender::new(Arc::new(arguments)),
            found: Arc::default(),
            read_errors: Arc::default(),
        };
        let first = look(&file.arguments.borrow(), &Found::new(), Reading::Everything);
        file.handle_look(first);
        Ok(file)
    }

    async fn run(&self, stop: CancellationToken) {
        let mut arguments = self.arguments.subscribe();
        let mut refreshed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = arguments.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = arguments.borrow_and_update().clone();
            let reading = if refreshed.elapsed() >= now.refresh_interval {
                refreshed = Instant::now();
                Reading::Everything
            } else {
                Reading::Changed
            };
            let before = self.lock().clone();
            let looked = tokio::task::spawn_blocking(move || look(&now, &before, reading)).await;
            let Ok(looked) = looked else { return };
            self.handle_look(looked);
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        self.arguments.send_replace(Arc::new(arguments));
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let help = "The number of File-SD read errors.";
        page.counter("prometheus_sd_file_read_errors_total", help, &[], self.read_errors.load(Relaxed));
        for (path, known) in self.lock().iter() {
            let Some((modified, _)) = known.seen else { continue };
            let seconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            let help = "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.";
            let labels = [("filename", &*path.to_string_lossy())];
            page.gauge("prometheus_sd_file_mtime_seconds", help, &labels, seconds);
        }
    }
}

impl File {
    fn handle_look(&self, looked: Looked) {
        self.read_errors.fetch_add(looked.errors, Relaxed);
        let mut found = self.lock();
        for (path, known) in &looked.found {
            let before = found.get(path).and_then(|before| before.error.as_ref());
            if let Some(error) = known.error.as_ref().filter(|error| before != Some(*error)) {
                tracing::error!(component = %self.id, path = %path.display(), %error,
                    "cannot read targets, keeping the last good ones");
            }
        }
        let trouble: Vec<String> = looked
            .found
            .iter()
            .filter_map(|(path, known)| Some(format!("{}: {}", path.display(), known.error.as_ref()?)))
            .collect();
        *found = looked.found;
        // Each target once, in an order that does not depend on files being renamed.
        let targets: BTreeSet<&Target> = found.values().flat_map(|known| &known.targets).collect();
        self.exports.set("targets", Value::array(targets.into_iter().map(Value::from)));
        if trouble.is_empty() {
            self.health.ok();
        } else {
            self.health.unhealthy(trouble.join("; "));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Found> {
        // It is only ever replaced as a whole.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Files that look different from when they were last read.
    Changed,
    /// All.
    Everything,
}

/// What a look gave.
struct Looked {
    found: Found,
    errors: u64,
}

/// Looks at all files and reads those that need it. Blocks.
fn look(arguments: &Arguments, before: &Found, reading: Reading) -> Looked {
    let mut looked = Looked { found: Found::new(), errors: 0 };
    for path in arguments.files.iter().flat_map(Pattern::files) {
        let mut known = before.get(&path).cloned().unwrap_or_default();
        let seen = std::fs::metadata(&path).and_then(|found| Ok((found.modified()?, found.len()))).ok();
        if reading == Reading::Everything || seen.is_none() || known.seen != seen {
            known.seen = seen;
            match read(&path) {
                Ok(targets) => known = Known { seen, targets, error: None },
                Err(error) => {
                    known.error = Some(format!("{error:#}"));
                    looked.errors += 1;
                }
            }
        }
        looked.found.insert(path, known);
    }
    looked
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

fn read(path: &Path) -> anyhow::Result<Vec<Target>> {
    let size = std::fs::metadata(path)?.len();
    anyhow::ensure!(size <= FILE_BYTES_MAX, "{size} bytes are more than the limit of {FILE_BYTES_MAX}");
    let text = std::fs::read_to_string(path)?;
    let groups: Option<Vec<Group>> = match Format::of(path) {
        Some(Format::Json) => serde_json::from_str(&text).context("not a list of target groups in JSON")?,
        _ if text.trim().is_empty() => None,
        _ => serde_saphyr::from_str(&text).context("not a list of target groups in YAML")?,
    };
    let mut targets = Vec::new();
    for group in groups.unwrap_or_default() {
        for address in group.targets {
            let mut labels = group.labels.clone().unwrap_or_default();
            labels.insert("__address__".to_owned(), address);
            labels.insert("__meta_filepath".to_owned(), path.to_string_lossy().into_owned());
            targets.push(Target(labels));
        }
    }
    Ok(targets)
}

enum Format {
    Json,
    Yaml,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(Format::Json),
            "yml" | "yaml" => Some(Format::Yaml),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(folder: &Path) -> Arguments {
        let glob = |end: &str| Pattern::new(&format!("{}/*.{end}", folder.display()), "").unwrap();
        Arguments {
            files: vec![glob("{yml,yaml}"), glob("json")],
            refresh_interval: Duration::from_secs(300),
        }
    }

    fn addresses(looked: &Looked) -> Vec<(&str, &str)> {
        let targets = looked.found.values().flat_map(|known| &known.targets);
        targets.map(|target| (target.get("__address__").unwrap(), target.get("job").unwrap_or("-"))).collect()
    }

    #[test]
    fn both_formats_give_one_target_per_address() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.json", r#"[{"targets": ["a:1", "a:2"], "labels": {"job": "x"}}, {"targets": ["b:1"]}]"#);
        write("b.yml", "- targets: ['c:1']\n  labels:\n    job: y\n    shard: 7\n- targets: []\n");
        write("c.yaml", "# nothing yet\n");
        write("d.txt", "[]");
        let looked = look(&arguments(folder.path()), &Found::new(), Reading::Everything);
        assert_eq!(looked.errors, 0, "{:?}", looked.found);
        assert_eq!(addresses(&looked), [("a:1", "x"), ("a:2", "x"), ("b:1", "-"), ("c:1", "y")]);
        let yaml = folder.path().join("b.yml");
        let target = &looked.found[&yaml].targets[0];
        assert_eq!(target.get("__meta_filepath"), yaml.to_str());
        assert_eq!(target.get("shard"), Some("7"));
    }

    #[test]
    fn a_broken_file_keeps_its_last_good_targets() {
        let folder = tempfile::tempdir().unwrap();
        let (good, other) = (folder.path().join("a.json"), folder.path().join("b.json"));
        std::fs::write(&good, r#"[{"targets": ["a:1"]}]"#).unwrap();
        std::fs::write(&other, r#"[{"targets": ["b:1"]}]"#).unwrap();
        let arguments = arguments(folder.path());
        let first = look(&arguments, &Found::new(), Reading::Everything);

        std::fs::write(&good, r#"[{"targets": ["a:1", "#).unwrap();
        std::fs::remove_file(&other).unwrap();
        let broken = look(&arguments, &first.found, Reading::Changed);
        assert_eq!((addresses(&broken), broken.errors), (vec![("a:1", "-")], 1));
        assert!(broken.found[&good].error.as_ref().unwrap().contains("line 1"), "{:?}", broken.found);

        let again = look(&arguments, &broken.found, Reading::Changed);
        assert_eq!(again.errors, 0, "it is not read again before it changes");

        std::fs::write(&good, r#"[{"targets": ["a:2"], "labels": null}]"#).unwrap();
        let repaired = look(&arguments, &again.found, Reading::Changed);
        assert_eq!((addresses(&repaired), repaired.found[&good].error.clone()), (vec![("a:2", "-")], None));
    }

    #[test]
    fn what_is_no_list_of_groups_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        };
        check("a.json", "");
        check("a.json", "{}");
        check("a.json", r#"[{"target": ["a:1"]}]"#);
        check("a.json", r#"[{"targets": "a:1"}]"#);
        check("a.yml", "targets: [a]");
        check("a.yml", "- [");
    }
}
