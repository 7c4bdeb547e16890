//! The block `output`: who gets which signal.

use crate::config::{Body, Decode};
use crate::graph::{ConsumeError, Fanout, OtelConsumer};
use crate::outbox;
use crate::telemetry::{OtlpBatch, Signal};

/// The consumers of each signal.
#[derive(Clone)]
pub struct Output([Fanout<OtlpBatch>; 3]);

impl Decode for Output {
    fn decode(body: &mut Body<'_>) -> Self {
        Output(Signal::ALL.map(|signal| {
            let consumers: Vec<OtelConsumer> = body.optional(signal.name(), Vec::new());
            Fanout::new(consumers)
        }))
    }
}

impl Output {
    /// Offers the batch to all that want its signal.
    pub async fn offer(&self, batch: &OtlpBatch) -> Result<(), ConsumeError> {
        self.of(batch.signal).offer(batch).await
    }

    /// Those that want the signal.
    pub fn of(&self, signal: Signal) -> &Fanout<OtlpBatch> {
        &self.0[signal as usize]
    }

    /// Waits until all that was taken is durable.
    pub async fn durable(&self) {
        for fanout in &self.0 {
            fanout.durable().await;
        }
    }

    /// Has all send what they have.
    pub async fn flush(&self) {
        for fanout in &self.0 {
            fanout.flush().await;
        }
    }
}

/// A `debug_metrics` block. There are no metrics here that it could leave out.
pub struct DebugMetrics;

impl Decode for DebugMetrics {
    fn decode(body: &mut Body<'_>) -> Self {
        let why = "there are none here; leave the block out";
        outbox::only(body, "disable_high_cardinality_metrics", true, why);
        DebugMetrics
    }
}

#[cfg(test)]
impl Output {
    /// One consumer for all signals.
    pub fn all(consumer: OtelConsumer) -> Self {
        Output(Signal::ALL.map(|_| Fanout::new(vec![consumer.clone()])))
    }
}
