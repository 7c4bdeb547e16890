//! A batch of log lines, grouped by stream.

use std::sync::Arc;

use bytes::Bytes;

use super::Labels;

/// Lines that are delivered together. Batches of one lane (a file's key) are delivered in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub struct LogBatch {
    /// The lines, grouped by label set.
    pub streams: Vec<LogStream>,
    /// What keeps order among batches: the key of the file or target that the lines came from.
    pub lane: u64,
    /// When the source had the lines, in nanoseconds since the Unix epoch: what counts as now for whoever works on them. A batch that is
    /// read again after a crash has the same, and comes out the same.
    pub taken_ns: i64,
    /// Where the lines were read, if that is shared with other nodes. Who makes another batch of these lines hands it on.
    pub origin: Option<Origin>,
}

/// Where lines were read that another node may have to read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The component that read them.
    pub component: Arc<str>,
    /// The file, by the key that says who owns it.
    pub key: u64,
    /// Which time of ownership it was.
    pub tenure: u64,
    /// Counts the batches of that tenure, from 0.
    pub sequence: u64,
    /// The time of the first line: it grows from batch to batch of a key, whoever reads.
    pub base_ns: i64,
    /// All that it takes to read the same batch again, in the component's own encoding.
    pub batch: Bytes,
}

/// The lines of one label set, oldest first.
#[derive(Debug, Clone)]
pub struct LogStream {
    /// The stream.
    pub labels: Labels,
    /// Its lines.
    pub entries: Vec<LogEntry>,
}

/// The label that says whose a stream is: it is not sent, but makes a header of the request.
pub const TENANT_LABEL: &str = "__tenant_id__";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Nanoseconds since the Unix epoch.
    pub timestamp_ns: i64,
    /// The line without its end, UTF-8. A slice of the buffer it was read into.
    pub line: Bytes,
    /// What is said of this line alone: Loki's structured metadata.
    pub metadata: Option<Labels>,
}

impl LogEntry {
    /// A line without metadata.
    pub fn new(timestamp_ns: i64, line: impl Into<Bytes>) -> Self {
        LogEntry { timestamp_ns, line: line.into(), metadata: None }
    }
}

impl LogBatch {
    /// Another batch, made of lines of this one.
    pub fn with_streams(&self, streams: Vec<LogStream>) -> LogBatch {
        LogBatch { streams, lane: self.lane, taken_ns: self.taken_ns, origin: self.origin.clone() }
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.streams.iter().map(|stream| stream.entries.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
