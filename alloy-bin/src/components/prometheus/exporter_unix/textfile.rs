//! Files with metrics that other programs have written: `*.prom`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::host::{Host, gauge};
use crate::formats::{Item, Statement, TextFormat, parse_text};
use crate::tailing::{Glob, find};
use crate::telemetry::{MetricType, Page, Target};

pub(super) fn textfile(host: &Host, page: &mut Page) -> io::Result<()> {
    let mtime = gauge("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.");
    let mut is_wrong = false;
    if let Some(directory) = &host.arguments.textfile_directory {
        for path in paths(directory, &mut is_wrong) {
            let name = path.to_string_lossy();
            match take(&path, page) {
                Ok(changed) => mtime.put(page, &[("file", &name)], changed),
                Err(error) => {
                    tracing::debug!(file = %name, %error, "a file with metrics is left out");
                    is_wrong = true;
                }
            }
        }
    }
    gauge("node_textfile_scrape_error", "1 if there was an error opening or reading a file, 0 otherwise")
        .put(page, &[], f64::from(is_wrong));
    Ok(())
}

/// The files; the directory may be a glob of directories.
fn paths(directory: &str, is_wrong: &mut bool) -> Vec<PathBuf> {
    let pattern = format!("{}/*.prom", directory.trim_end_matches('/'));
    *is_wrong = !directory.contains(['*', '?', '[', '{']) && std::fs::read_dir(directory).is_err();
    let Ok(glob) = Glob::new(Target(BTreeMap::from([("__path__".to_owned(), pattern)]))) else {
        *is_wrong = true;
        return Vec::new();
    };
    find(&[glob], Duration::ZERO)
        .iter()
        .filter_map(|target| target.get("__path__").map(PathBuf::from))
        .collect()
}

/// One sample as it will be shown.
struct Sample {
    family: String,
    suffix: &'static str,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Puts a file onto the page, all or nothing, and says when it was written.
fn take(path: &Path, page: &mut Page) -> anyhow::Result<f64> {
    let body = std::fs::read(path)?;
    let mut kinds: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut samples = Vec::new();
    let mut has_timestamps = false;
    parse_text(&body, TextFormat::Prometheus, &mut |item| match item {
        Item::Metadata(name, Statement::Type(kind)) => drop(kinds.insert(name.to_owned(), type_name(kind))),
        Item::Metadata(name, Statement::Help(help)) => drop(helps.insert(name.to_owned(), help.into_owned())),
        Item::Metadata(..) => {}
        Item::Series(series) => {
            has_timestamps |= series.timestamp_ms.is_some();
            let is_whole = |base: &&str| matches!(kinds.get(*base), Some(&("histogram" | "summary")));
            let part = ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|suffix| Some((series.name.strip_suffix(suffix).filter(is_whole)?, suffix)));
            let (family, suffix) = part.unwrap_or((series.name, ""));
            let labels =
                series.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            samples.push(Sample { family: family.to_owned(), suffix, labels, value: series.value });
        }
    })?;
    anyhow::ensure!(!has_timestamps, "it has timestamps, which a file cannot keep");
    for sample in samples {
        let kind = kinds.get(&sample.family).copied().unwrap_or("untyped");
        let help: Cow<'static, str> = match helps.get(&sample.family) {
            Some(help) => help.clone().into(),
            None => format!("Metric read from {}", path.display()).into(),
        };
        let labels: Vec<_> =
            sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        page.sample((&sample.family, sample.suffix), (kind, help), &labels, sample.value);
    }
    let changed = std::fs::metadata(path)?.modified()?;
    Ok(changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as f64)
}

fn type_name(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
        MetricType::Summary => "summary",
        _ => "untyped",
    }
}
