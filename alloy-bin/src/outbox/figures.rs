//! What is counted at an endpoint.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::Rejection;
use crate::telemetry::{Histogram, Page};

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
    /// The same by reason, in the order of [`Rejection::ALL`].
    pub rejected_by_reason: [AtomicU64; Rejection::ALL.len()],
    /// Items that were not sent because they had become too old.
    pub expired_items: AtomicU64,
    /// Requests answered, timed out or failed.
    pub requests: AtomicU64,
    /// The endpoint does not take the newer form: until the agent is restarted it gets the older one.
    pub newer_refused: AtomicBool,
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
            rejected_by_reason: Default::default(),
            expired_items: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            newer_refused: AtomicBool::new(false),
            newest_accepted_ms: AtomicI64::new(i64::MIN),
            newest_sent_ms: AtomicI64::new(i64::MIN),
            request_seconds: Histogram::new(Histogram::SECONDS),
        }
    }
}

impl Figures {
    /// The endpoint has refused so many items for good: they will never be delivered.
    pub fn rejected(&self, items: u64, reason: Rejection) {
        add(&self.rejected_items, items);
        add(&self.rejected_by_reason[reason as usize], items);
    }

    /// Writes how many items were refused for each reason that has come up.
    pub fn collect_rejected(&self, page: &mut Page, name: &str, labels: &[(&str, &str)]) {
        for (reason, count) in Rejection::ALL.iter().zip(&self.rejected_by_reason) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 || *reason == Rejection::OutOfOrder {
                let labels: Vec<_> = labels.iter().copied().chain([("reason", reason.name())]).collect();
                page.counter(name, "Refused by the endpoint for good, by reason.", &labels, count);
            }
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
