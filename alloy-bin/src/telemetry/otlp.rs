//! A batch of OTLP: the request's message as it came, never taken apart on its way from a receiver to an exporter.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// What a message is about. Each kind has its own service, path and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// `ExportMetricsServiceRequest`; its items are data points.
    Metrics,
    /// `ExportLogsServiceRequest`; its items are log records.
    Logs,
    /// `ExportTraceServiceRequest`; its items are spans.
    Traces,
}

impl Signal {
    /// All, in the order of their numbers.
    pub const ALL: [Signal; 3] = [Signal::Metrics, Signal::Logs, Signal::Traces];

    /// As in configurations and labels.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
            Signal::Traces => "traces",
        }
    }
}

/// One message. A clone shares its bytes and its [`Dropped`].
#[derive(Debug, Clone)]
pub struct OtlpBatch {
    /// What it is about.
    pub signal: Signal,
    /// An `Export...ServiceRequest` in protobuf that was checked field by field. Messages of a signal may be concatenated.
    pub body: Bytes,
    /// Data points, log records or spans in it.
    pub items: u32,
    /// What consumers have dropped of it by intent: the sender is told.
    pub dropped: Arc<Dropped>,
}

impl OtlpBatch {
    /// A batch of which nothing is dropped yet.
    pub fn new(signal: Signal, body: Bytes, items: u32) -> Self {
        OtlpBatch { signal, body, items, dropped: Arc::default() }
    }
}

/// How many items consumers have dropped because they cannot use them, and the first reason.
#[derive(Debug, Default)]
pub struct Dropped(Mutex<(u64, String)>);

impl Dropped {
    /// Counts items that will never be delivered although `consume` says `Ok`.
    pub fn note(&self, items: u64, reason: &str) {
        let mut dropped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.0 += items;
        if dropped.1.is_empty() {
            reason.clone_into(&mut dropped.1);
        }
    }

    /// How many, and why.
    pub fn so_far(&self) -> (u64, String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
