//! The machine as its files show it: reading them, and tables that say which figure is in which of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use super::arguments::Arguments;
use crate::telemetry::Page;

/// What is measured, and what is remembered between two scrapes.
pub(super) struct Host {
    /// Where the files are, and what is wanted of them.
    pub(super) arguments: Arguments,
    /// What each processor has spent in each mode at most.
    pub(super) spent: Mutex<BTreeMap<String, Vec<f64>>>,
    /// Mount points that do not answer.
    pub(super) stuck: Arc<Mutex<BTreeSet<String>>>,
    /// The collectors that failed the last time.
    pub(super) failing: Mutex<BTreeSet<&'static str>>,
}

impl Host {
    pub(super) fn proc(&self, file: &str) -> PathBuf {
        self.arguments.procfs_path.join(file)
    }

    pub(super) fn sys(&self, file: &str) -> PathBuf {
        self.arguments.sysfs_path.join(file)
    }

    /// The path is absolute, as on the host.
    pub(super) fn root(&self, path: &str) -> PathBuf {
        self.arguments.rootfs_path.join(path.trim_start_matches('/'))
    }
}

/// A metric: its name, its help, and what a figure is multiplied with to be in its unit.
#[derive(Clone, Copy)]
pub(super) struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    factor: f64,
}

pub(super) const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "counter", help, factor: 1.0 }
}

pub(super) const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "gauge", help, factor: 1.0 }
}

impl Metric {
    /// In another unit than the files.
    pub(super) const fn times(self, factor: f64) -> Self {
        Metric { factor, ..self }
    }

    pub(super) fn put(&self, page: &mut Page, labels: &[(&str, &str)], value: f64) {
        page.sample((self.name, ""), (self.kind, self.help), labels, scaled(value, self.factor));
    }
}

/// 49925 thousandths are 49.925, and not 49.925000000000004 as times 0.001.
pub(super) fn scaled(value: f64, factor: f64) -> f64 {
    if factor < 1.0 { value / (1.0 / factor).round() } else { value * factor }
}

/// Metrics whose names are made of what the files say.
pub(super) fn named(
    page: &mut Page,
    kind: &'static str,
    name: &str,
    help: impl Into<Cow<'static, str>>,
    labels: &[(&str, &str)],
    value: f64,
) {
    page.sample((name, ""), (kind, help), labels, value);
}

/// A folder with a figure in each file: those that are there and have one.
pub(super) fn files(page: &mut Page, folder: &Path, labels: &[(&str, &str)], table: &[(&str, Metric)]) {
    for (file, metric) in table {
        if let Some(value) = figure(&folder.join(file)) {
            metric.put(page, labels, value);
        }
    }
}

/// As [`files`], for metrics whose help is made of their names: the file, the name's end, the factor.
pub(super) fn properties(
    page: &mut Page,
    folder: &Path,
    labels: &[(&str, &str)],
    (prefix, help): (&str, fn(&str) -> String),
    table: &[(&str, &str, f64)],
) {
    for (file, name, factor) in table {
        if let Some(value) = figure(&folder.join(file)) {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            named(page, kind, &format!("{prefix}{name}"), help(name), labels, scaled(value, *factor));
        }
    }
}

/// Columns, each with a figure of its own.
pub(super) fn columns<'t>(
    page: &mut Page,
    fields: impl IntoIterator<Item = &'t str>,
    labels: &[(&str, &str)],
    table: &[Metric],
) -> io::Result<()> {
    for (field, metric) in fields.into_iter().zip(table) {
        metric.put(page, labels, parse(field)?);
    }
    Ok(())
}

/// The text of a file. Each run of bytes that are none, as batteries have them in their names, is one U+FFFD.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    for chunk in std::fs::read(path)?.utf8_chunks() {
        let goes_on = chunk.valid().is_empty() && text.ends_with('\u{fffd}');
        text += chunk.valid();
        if !goes_on && !chunk.invalid().is_empty() {
            text.push('\u{fffd}');
        }
    }
    Ok(text)
}

/// The text of a small file, without the line's end.
pub(super) fn text(path: &Path) -> io::Result<String> {
    Ok(read(path)?.trim().to_owned())
}

/// The figure in a file, decimal or `0x`. Drivers say in many ways that they have none just now.
pub(super) fn figure(path: &Path) -> Option<f64> {
    let text = text(path).ok()?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|value| value as f64),
        None => text.parse().ok(),
    }
}

/// The figure in a file that must have one.
pub(super) fn required(path: &Path) -> io::Result<f64> {
    parse(&text(path)?)
}

pub(super) fn parse<T: FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| malformed(text))
}

pub(super) fn hex(text: &str) -> io::Result<f64> {
    u64::from_str_radix(text, 16).map(|value| value as f64).map_err(|_| malformed(text))
}

pub(super) fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected: {text:?}"))
}

/// There is nothing to measure here.
pub(super) fn nothing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// The folders of this folder, in the order of their names: what comes behind the prefix, and where it is.
pub(super) fn folders(folder: &Path, prefix: &str) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(rest) = name.strip_prefix(prefix)
            && entry.path().is_dir()
        {
            found.insert(rest.to_owned(), entry.path());
        }
    }
    Ok(found)
}

/// Those that are numbered: `cpu0`, `cpu1`, and not `cpufreq`. None if there is no such folder.
pub(super) fn numbered(folder: &Path, prefix: &str) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut found = match folders(folder, prefix) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        found => found?,
    };
    found.retain(|number, _| number.starts_with(|c: char| c.is_ascii_digit()));
    Ok(found)
}

/// `0-2,5` -> 0, 1, 2, 5.
pub(super) fn ranges(text: &str) -> io::Result<Vec<u32>> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(parse::<u32>(first)?..=parse::<u32>(last)?);
    }
    Ok(all)
}
