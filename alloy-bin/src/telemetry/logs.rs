//! A batch of log lines, grouped by stream.

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
    /// How many lines.
    pub fn len(&self) -> usize {
        self.streams.iter().map(|stream| stream.entries.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
