//! From entries of the journal to lines with labels.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::entries::Entry;
use crate::relabel::{LabelSet, Rules};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream};

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// The line is a JSON object of all fields instead of the message.
    pub is_json: bool,
    /// Labels of every line.
    pub labels: BTreeMap<String, String>,
    /// What makes labels of the fields, `__journal_...`.
    pub rules: Rules,
}

/// Syslog's words for priorities.
const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"];

/// The lines of the entries, oldest first in each stream. Entries that the rules drop, or that have no message, give none.
pub(super) fn batch(shape: &Shape, id: &str, entries: &[Entry]) -> LogBatch {
    let mut streams: BTreeMap<Vec<(String, String)>, Vec<LogEntry>> = BTreeMap::new();
    for entry in entries {
        let (Some(timestamp_ns), Some(line)) = (entry.timestamp_ns(), line(shape, entry)) else { continue };
        if let Some(labels) = labels(shape, id, entry) {
            streams.entry(labels).or_default().push(LogEntry::new(timestamp_ns, line));
        }
    }
    let stream = |(labels, entries): (Vec<(String, String)>, _)| {
        let labels = Labels::new(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        LogStream { labels, entries }
    };
    let lane = twox_hash::XxHash64::oneshot(0, id.as_bytes());
    // Not the clock: what is read again after a crash has to come out the same.
    let taken_ns = entries.iter().rev().find_map(Entry::timestamp_ns).unwrap_or_default();
    LogBatch { streams: streams.into_iter().map(stream).collect(), lane, taken_ns, origin: None }
}

fn line(shape: &Shape, entry: &Entry) -> Option<Bytes> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    if shape.is_json {
        let fields: BTreeMap<&str, String> =
            entry.0.iter().rev().map(|(name, value)| (name.as_str(), text(value))).collect();
        return Some(serde_json::to_vec(&fields).expect("text is always JSON").into());
    }
    entry.message().map(|message| text(message).into())
}

/// The labels of an entry's stream; `None`: it is dropped.
fn labels(shape: &Shape, id: &str, entry: &Entry) -> Option<Vec<(String, String)>> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in entry.0.iter().rev().filter(|(name, _)| name != "MESSAGE") {
        let value = String::from_utf8_lossy(value).into_owned();
        if name == "PRIORITY" {
            let word = value.parse().ok().and_then(|number: usize| PRIORITIES.get(number));
            fields.insert(
                "__journal_priority_keyword".to_owned(),
                word.copied().unwrap_or_default().to_owned(),
            );
        }
        fields.insert(format!("__journal_{}", name.to_ascii_lowercase()), value);
    }
    fields.insert("job".to_owned(), id.to_owned());
    fields.extend(shape.labels.clone());
    let mut labels = LabelSet::new(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    if !shape.rules.apply(&mut labels) {
        return None;
    }
    let public = labels.into_pairs().into_iter().filter(|(name, _)| !name.starts_with("__"));
    let public: Vec<_> = public.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    (!public.is_empty()).then_some(public)
}
