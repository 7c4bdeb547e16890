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

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Nanoseconds since the Unix epoch.
    pub timestamp_ns: i64,
    /// The line without its end, UTF-8. A slice of the buffer it was read into.
    pub line: Bytes,
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
