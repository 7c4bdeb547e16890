//! From the streams of a request to batches.

use std::collections::BTreeMap;

use crate::formats::PushedStream;
use crate::relabel::{LabelSet, Rules};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream, TENANT_LABEL};

/// What becomes of the streams.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Labels of every line; they win over its own.
    pub labels: BTreeMap<String, String>,
    /// What rewrites the labels.
    pub rules: Rules,
    /// Keeps the sender's timestamps; else a line's timestamp is the time at which it came.
    pub use_incoming_timestamp: bool,
}

/// What a request has become.
#[derive(Debug, Default)]
pub(super) struct Shaped {
    /// By the index of their lane: a stream always has the same.
    pub(super) batches: BTreeMap<usize, LogBatch>,
    /// Lines that the rules have dropped, or have left without a label.
    pub(super) dropped: u64,
    /// What is wrong with a stream that was left out.
    pub(super) wrong: Option<String>,
}

impl Shape {
    /// Sorts the streams into lanes. The lines get the times from `first_ns` on, each its own, so that none passes for another.
    pub(super) fn shape(
        &self,
        streams: Vec<PushedStream>,
        tenant: Option<&str>,
        lanes: &[u64],
        first_ns: i64,
    ) -> Shaped {
        let mut shaped = Shaped::default();
        let mut times = first_ns..;
        for PushedStream { labels, entries } in streams {
            let own = match labels {
                Ok(own) => own,
                Err(reason) => {
                    shaped.wrong.get_or_insert(reason);
                    continue;
                }
            };
            if own.is_empty() && self.labels.is_empty() && tenant.is_none() {
                let reason = "a stream without labels, and there are none for all";
                shaped.wrong.get_or_insert_with(|| reason.to_owned());
                continue;
            }
            let Some(labels) = self.relabel(&own, tenant) else {
                shaped.dropped += entries.len() as u64;
                continue;
            };
            let stamp = |mut entry: LogEntry| {
                let taken_ns = times.next().expect("no clock shows the year 2262");
                if entry.timestamp_ns == 0 || !self.use_incoming_timestamp {
                    entry.timestamp_ns = taken_ns;
                }
                entry
            };
            let entries: Vec<LogEntry> = entries.into_iter().map(stamp).collect();
            if entries.is_empty() {
                continue;
            }
            let index = (labels.as_ref().fingerprint() % lanes.len() as u64) as usize;
            let batch =
                || LogBatch { streams: Vec::new(), lane: lanes[index], taken_ns: first_ns, origin: None };
            shaped.batches.entry(index).or_insert_with(batch).streams.push(LogStream { labels, entries });
        }
        shaped
    }

    /// The labels of a stream; `None`: it is dropped.
    fn relabel(&self, own: &[(String, String)], tenant: Option<&str>) -> Option<Labels> {
        let fixed = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let before = Labels::new(own.chain(fixed));
        let mut set = LabelSet::new(before.iter());
        if !self.rules.apply(&mut set) {
            return None;
        }
        let mut public = set.into_pairs();
        public.retain(|(name, _)| !name.starts_with("__"));
        if public.is_empty() {
            return None;
        }
        public.extend(tenant.map(|tenant| (TENANT_LABEL.into(), tenant.into())));
        Some(Labels::new(public))
    }
}
