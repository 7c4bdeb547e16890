//! Delivery: what was accepted is in a log on disk until the endpoint has it.
//!
//! | file | what |
//! | --- | --- |
//! | `custody.rs` | the log of one endpoint and the thread that writes, syncs and tidies it |
//! | `record.rs` | one record of the log: a small header and a ready-to-send piece of a request body |
//! | `sender.rs` | reads the log, fills lanes, acknowledges |
//! | `lane.rs` | one request in flight: splices records into a request, retries until it is taken |
//! | `clearance.rs` | whether lines of a shared file are this node's to send |
//! | `apart.rs` | a request that is refused for what is in it: which parts of it are sent by themselves, and how many |
//! | `client.rs` | one POST and what its answer means |
//! | `otlp.rs` | the same for OTLP, which has its own codes |
//! | `rejection.rs` | why an endpoint refuses data for good |
//! | `budget.rs` | what all logs may take together |
//! | `options.rs` | everything that a component sets |
//! | `block.rs` | the `endpoint` and `wal` blocks of the configuration |
//! | `figures.rs` | what is counted |
//! | `group.rs` | the endpoints of one component together |
//!
//! ```text
//! component -- accept --> custody --> [ log on disk ] --> sender --> lane 0 --> POST
//!                                                              \--> lane 1 --> POST
//! ```
//!
//! Invariant: alone in the agent in naming `alloy_wal`.

mod apart;
mod block;
mod budget;
mod clearance;
mod client;
mod custody;
mod figures;
mod group;
mod lane;
mod options;
#[cfg(feature = "otelcol")]
mod otlp;
mod record;
mod rejection;
mod sender;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::graph::ConsumeError;
use crate::telemetry::Page;
pub use figures::Figures;
pub use group::Group;

pub use clearance::{Clear, Clearance};

pub use block::{EndpointBlock, WalBlock, check_backoff, meaningless, only};
pub use budget::{MaxSize, limit_logs};
pub use options::{
    Batching, Dialect, Endpoint, Form, LogLimits, NewerForm, OnTooManyRequests, Options, Retry, Splice,
};
pub use record::Piece;
pub use rejection::Rejection;

use custody::Custody;
use sender::Sender;

/// Why an outbox could not be opened or takes nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log has no room: its limit of bytes is reached, or the disk is full. Nothing was taken; try again later.
    #[error("{0}")]
    Full(String),
    /// The log has failed or is being closed. Nothing more is taken until the agent is restarted.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The error in the words of the graph.
    pub fn refusal(self, by: &str) -> ConsumeError {
        let by = by.to_owned();
        match self {
            Error::Full(reason) => ConsumeError::Full { by, reason },
            Error::Failed(reason) => ConsumeError::Closed { by, reason },
        }
    }
}

/// One endpoint with its log. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    custody: Arc<Custody>,
    sender: Arc<Sender>,
}

impl Outbox {
    /// Opens the endpoint's log, or makes it, and starts the thread that keeps it. What an earlier life left in the
    /// log is sent first, from the exact record on.
    pub fn open(options: Options) -> anyhow::Result<Self> {
        let options = Arc::new(options);
        let custody = Arc::new(Custody::open(&options)?);
        let sender = Arc::new(Sender::new(custody.clone(), options));
        Ok(Outbox { custody, sender })
    }

    /// Takes the pieces into custody, all or none: when this returns `Ok`, they are in the log's file and survive the
    /// death of the process. Only pieces that are larger together than one batch of the log (half a segment) are taken in
    /// parts; if a later part is refused, it is counted as refused and the answer is `Ok`.
    pub async fn accept(&self, pieces: &[Piece]) -> Result<(), Error> {
        let Some(clearance) = self.sender.clearance() else { return self.custody.accept(pieces).await };
        let origins = || pieces.iter().filter_map(|piece| piece.origin.as_ref());
        // Before: what is in the log may be delivered before this task goes on.
        origins().for_each(|origin| clearance.accepted(origin));
        let accepted = self.custody.accept(pieces).await;
        if accepted.is_err() {
            origins().for_each(|origin| clearance.withdrawn(origin));
        }
        accepted
    }

    /// Waits until everything that was accepted before the call is synced to the device.
    pub async fn durable(&self) {
        self.custody.durable().await;
    }

    /// Sends what is in the log without waiting for requests to fill up, until it is delivered or `patience` is over.
    pub async fn flush(&self, patience: Duration) {
        self.sender.flush(patience).await;
    }

    /// Sends until `stop` is cancelled, then for at most `flush` more; what is left stays in the log for the next start.
    pub async fn run(&self, stop: CancellationToken, flush: Duration) {
        self.sender.run(stop, flush).await;
        self.custody.close().await;
    }

    /// The endpoint's name, for labels.
    pub fn name(&self) -> &str {
        self.sender.name()
    }

    /// Whether records in the newer form are wanted: it is configured, and the endpoint has not refused it.
    pub fn wants_newer(&self) -> bool {
        self.sender.wants_newer()
    }

    /// Where it goes, for labels.
    pub fn url(&self) -> &str {
        self.sender.url()
    }

    /// What was counted.
    pub fn figures(&self) -> &Figures {
        self.custody.figures()
    }

    /// The state of the log: records and bytes not yet delivered, and the limits.
    pub fn log(&self) -> LogState {
        self.custody.state()
    }
}

/// The state of an endpoint's log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogState {
    /// Records not delivered.
    pub lag_records: u64,
    /// Their bytes on disk.
    pub lag_bytes: u64,
    /// How old the oldest of them is.
    pub lag: Duration,
    /// Bytes on disk in all.
    pub disk_bytes: u64,
    /// How many it may take.
    pub limit_bytes: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Syncs done.
    pub syncs: u64,
    /// Failed writes and syncs that were survived.
    pub storage_failures: u64,
    /// Records that a limit dropped before they were delivered.
    pub dropped_records: u64,
    /// Records that were found damaged.
    pub damaged_records: u64,
}

impl LogState {
    /// Writes the log's figures.
    pub fn collect(&self, page: &mut Page, labels: &[(&str, &str)]) {
        page.gauge(
            "alloy_wal_lag_records",
            "Records in the log that are not delivered.",
            labels,
            self.lag_records as f64,
        );
        page.gauge(
            "alloy_wal_lag_bytes",
            "Bytes in the log that are not delivered.",
            labels,
            self.lag_bytes as f64,
        );
        page.gauge(
            "alloy_wal_lag_seconds",
            "Age of the oldest record that is not delivered.",
            labels,
            self.lag.as_secs_f64(),
        );
        page.gauge("alloy_wal_disk_bytes", "Bytes of the log on disk.", labels, self.disk_bytes as f64);
        page.gauge(
            "alloy_wal_limit_bytes",
            "Bytes that the log may take on disk.",
            labels,
            self.limit_bytes as f64,
        );
        page.gauge("alloy_wal_segments", "Segments of the log.", labels, self.segments as f64);
        page.counter("alloy_wal_syncs_total", "Syncs of the log to the device.", labels, self.syncs);
        page.counter(
            "alloy_wal_storage_failures_total",
            "Failed writes and syncs that were survived.",
            labels,
            self.storage_failures,
        );
        page.counter(
            "alloy_wal_dropped_records_total",
            "Records that a limit dropped before they were delivered.",
            labels,
            self.dropped_records,
        );
        page.counter(
            "alloy_wal_damaged_records_total",
            "Records found damaged.",
            labels,
            self.damaged_records,
        );
    }
}

#[cfg(test)]
mod tests;
