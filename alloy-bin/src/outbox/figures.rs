//! What is counted at an endpoint.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::telemetry::Histogram;

/// Counters of one endpoint. Items are samples or lines.
#[derive(Debug)]
pub struct Figures {
    /// Items taken into the log.
    pub accepted_items: AtomicU64,
    /// Items refused because the log had no room.
    pub refused_items: AtomicU64,
    /// Items that the endpoint has acknowledged.
    pub sent_items: AtomicU64,
    /// Bytes of acknowledged requests.
    pub sent_bytes: AtomicU64,
    /// Items sent again after an error that may pass.
    pub retried_items: AtomicU64,
    /// Items that the endpoint refused for good (4xx).
    pub rejected_items: AtomicU64,
    /// Requests answered, timed out or failed.
    pub requests: AtomicU64,
    /// Newest timestamp taken into the log, milliseconds.
    pub newest_accepted_ms: AtomicI64,
    /// Newest timestamp acknowledged, milliseconds.
    pub newest_sent_ms: AtomicI64,
    /// Time of one request.
    pub request_seconds: Histogram,
}

impl Default for Figures {
    fn default() -> Self {
        Figures {
            accepted_items: AtomicU64::new(0),
            refused_items: AtomicU64::new(0),
            sent_items: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            retried_items: AtomicU64::new(0),
            rejected_items: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            newest_accepted_ms: AtomicI64::new(i64::MIN),
            newest_sent_ms: AtomicI64::new(i64::MIN),
            request_seconds: Histogram::new(Histogram::SECONDS),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
