//! `discovery.file`: targets from JSON and YAML files, as Prometheus' file-based discovery reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::groups::{self, BYTES_MAX, Format};
use super::refreshed::{Discover, Figures, Looked, Outcome};
use crate::config::{Body, Decode};
use crate::tailing::Pattern;
use crate::telemetry::{Page, Target};

/// How often files are looked at: a look costs one `stat` each, and works on every file system.
const LOOK_EVERY: Duration = Duration::from_secs(5);

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
                Ok(_) if format_of(Path::new(&glob)).is_none() => {
                    body.error_at("files", format!("{glob:?} must end in .json, .yml or .yaml"));
                }
                Ok(pattern) => files.push(pattern),
                Err(error) => body.error_at("files", format!("{glob:?}: {error}")),
            }
        }
        Arguments { files, refresh_interval: body.optional("refresh_interval", Duration::from_secs(300)) }
    }
}

/// The component, in the frame of discovery that looks again and again.
#[derive(Default)]
pub struct File {
    seen: Arc<Mutex<Seen>>,
}

/// How the files looked when they were last read.
#[derive(Debug, Default)]
struct Seen {
    /// Time of the last change and size.
    files: BTreeMap<PathBuf, Option<(SystemTime, u64)>>,
    refreshed: Option<Instant>,
}

#[async_trait]
impl Discover for File {
    const NAME: &'static str = "discovery.file";
    type Arguments = Arguments;

    fn interval(_: &Arguments) -> Duration {
        LOOK_EVERY
    }

    fn first_look(&self, arguments: &Arguments) -> Option<Looked> {
        Some(look(arguments, &mut lock(&self.seen)))
    }

    async fn look(&self, arguments: &Arc<Arguments>) -> Looked {
        let (arguments, seen) = (arguments.clone(), self.seen.clone());
        let looked = tokio::task::spawn_blocking(move || look(&arguments, &mut lock(&seen))).await;
        looked.unwrap_or_default()
    }

    fn collect(&self, page: &mut Page, figures: &Figures) {
        let help = "The number of File-SD read errors.";
        page.counter("prometheus_sd_file_read_errors_total", help, &[], figures.failures.load(Relaxed));
        for (path, seen) in &lock(&self.seen).files {
            let Some((modified, _)) = seen else { continue };
            let seconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            let help = "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.";
            let labels = [("filename", &*path.to_string_lossy())];
            page.gauge("prometheus_sd_file_mtime_seconds", help, &labels, seconds);
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // A file that was read but not noted is read again.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at all files and reads those that look different, or all if it is time for that. Blocks.
fn look(arguments: &Arguments, seen: &mut Seen) -> Looked {
    let everything = seen.refreshed.is_none_or(|refreshed| refreshed.elapsed() >= arguments.refresh_interval);
    if everything {
        seen.refreshed = Some(Instant::now());
    }
    let before = std::mem::take(&mut seen.files);
    let mut looked = Looked::new();
    for path in arguments.files.iter().flat_map(Pattern::files) {
        let now = std::fs::metadata(&path).and_then(|found| Ok((found.modified()?, found.len()))).ok();
        let outcome = if !everything && now.is_some() && before.get(&path) == Some(&now) {
            Outcome::Unchanged
        } else {
            match read(&path) {
                Ok(targets) => Outcome::Targets(targets),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            }
        };
        looked.insert(path.to_string_lossy().into_owned(), outcome);
        seen.files.insert(path, now);
    }
    looked
}

fn read(path: &Path) -> anyhow::Result<Vec<Target>> {
    let size = std::fs::metadata(path)?.len();
    anyhow::ensure!(size <= BYTES_MAX as u64, "{size} bytes are more than the limit of {BYTES_MAX}");
    let text = std::fs::read_to_string(path)?;
    let format = format_of(path).unwrap_or(Format::Yaml);
    groups::targets(&text, format, ("__meta_filepath", &path.to_string_lossy()))
}

fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "json" => Some(Format::Json),
        "yml" | "yaml" => Some(Format::Yaml),
        _ => None,
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
        let targets = looked.values().filter_map(|outcome| match outcome {
            Outcome::Targets(targets) => Some(targets),
            _ => None,
        });
        let targets = targets.flatten();
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
        let looked = look(&arguments(folder.path()), &mut Seen::default());
        assert_eq!(looked.len(), 3, "{looked:?}");
        assert_eq!(addresses(&looked), [("a:1", "x"), ("a:2", "x"), ("b:1", "-"), ("c:1", "y")]);
        let yaml = folder.path().join("b.yml").to_str().unwrap().to_owned();
        let Outcome::Targets(targets) = &looked[&yaml] else { panic!("{looked:?}") };
        assert_eq!(targets[0].get("__meta_filepath"), Some(yaml.as_str()));
        assert_eq!(targets[0].get("shard"), Some("7"));
    }

    #[test]
    fn a_file_is_read_when_it_looks_different_and_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let (good, other) = (folder.path().join("a.json"), folder.path().join("b.json"));
        std::fs::write(&good, r#"[{"targets": ["a:1"]}]"#).unwrap();
        std::fs::write(&other, r#"[{"targets": ["b:1"]}]"#).unwrap();
        let mut arguments = arguments(folder.path());
        let mut seen = Seen::default();
        assert_eq!(addresses(&look(&arguments, &mut seen)), [("a:1", "-"), ("b:1", "-")]);

        std::fs::write(&good, r#"[{"targets": ["a:1", "#).unwrap();
        std::fs::remove_file(&other).unwrap();
        let broken = look(&arguments, &mut seen);
        let outcomes: Vec<&Outcome> = broken.values().collect();
        assert!(
            matches!(outcomes.as_slice(), [Outcome::Failed(error)] if error.contains("line 1")),
            "{broken:?}"
        );
        let again = look(&arguments, &mut seen);
        assert!(again.values().all(|outcome| matches!(outcome, Outcome::Unchanged)), "{again:?}");

        std::fs::write(&good, r#"[{"targets": ["a:2"], "labels": null}]"#).unwrap();
        assert_eq!(addresses(&look(&arguments, &mut seen)), [("a:2", "-")]);
        assert_eq!(addresses(&look(&arguments, &mut seen)), []);
        arguments.refresh_interval = Duration::ZERO;
        assert_eq!(addresses(&look(&arguments, &mut seen)), [("a:2", "-")]);
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
