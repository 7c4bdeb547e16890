//! How a batch passes from one component to the next.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::telemetry::{LogBatch, OtlpBatch, SampleBatch};

/// Refusals are rare and last long (a full log): the wait doubles from the first to the last of these.
const WAIT: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(2);

/// Takes batches. The next component, or a component's log.
///
/// # Contract
/// 1. `Ok` means custody: what the batch holds is in a log's file, or is dropped by intent (and counted).
/// 2. `Err` means that nothing of the batch was taken; the caller still has it and may offer it again.
/// 3. Batches of one lane are taken one after the other; the caller does not offer the next before this one's answer.
/// 4. Dropping the future before it is done may or may not have taken the batch.
/// 5. When `durable` is done, all that was taken before it was called survives power loss. Cancelling it is safe.
#[async_trait]
pub trait Consumer<B>: Send + Sync + 'static {
    /// Takes the batch into custody, or says why not.
    async fn consume(&self, batch: &B) -> Result<(), ConsumeError>;

    /// Waits until everything taken so far is durable. Who only hands batches on asks those who got them.
    async fn durable(&self) {}

    /// Whether lines may be joined with those that follow: then [`Consumer::unfinished`] is worth asking.
    fn joins(&self) -> bool {
        false
    }

    /// What of the batch is better offered later, together with what follows it. `None`: all may be taken now.
    ///
    /// Nothing is kept back by a receiver: what it has taken is in a log. So a source that can wait leaves these out of the batch,
    /// and offers the batch as it is when waiting has been of no use. Who takes a batch takes all of it.
    fn unfinished(&self, _batch: &B) -> Option<Unfinished> {
        None
    }

    /// Sends what was taken so far without waiting for more, and waits until it is delivered, but not for long: for a
    /// source whose keys move, so that the next owner's data does not come in front of its own.
    async fn flush(&self) {}
}

/// Where metrics go: the value behind `forward_to` and `receiver`.
pub type MetricsReceiver = Arc<dyn Consumer<SampleBatch>>;

/// Where logs go.
pub type LogsReceiver = Arc<dyn Consumer<LogBatch>>;

/// Where OTLP goes: the value behind `output` and `input`.
pub type OtelConsumer = Arc<dyn Consumer<OtlpBatch>>;

/// Why a batch was not taken.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// No room now: the log is at its limit or the disk is full. Nothing was taken; wait and offer it again.
    #[error("{by} has no room: {reason}")]
    Full {
        /// The component that refused.
        by: String,
        /// What is full.
        reason: String,
    },
    /// The receiving component is stopping or has failed. Nothing was taken; it may be back after a reload.
    #[error("{by} takes nothing now: {reason}")]
    Closed {
        /// The component that refused.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What of a batch may go on in what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// From this entry on, counted over all streams in their order.
    pub from: usize,
    /// How long it is worth waiting for what follows.
    pub wait: Duration,
}

impl Unfinished {
    /// What suits both.
    pub fn both(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => {
                Some(Unfinished { from: one.from.min(other.from), wait: one.wait.max(other.wait) })
            }
            (one, other) => one.or(other),
        }
    }
}

/// All receivers of one `forward_to`.
#[derive(Clone)]
pub struct Fanout<B> {
    receivers: Arc<[Arc<dyn Consumer<B>>]>,
}

impl<B: Sync + 'static> Fanout<B> {
    /// A fan-out to these receivers, in this order.
    pub fn new(receivers: Vec<Arc<dyn Consumer<B>>>) -> Self {
        Fanout { receivers: receivers.into() }
    }

    /// Whether there is nobody to send to.
    pub fn is_empty(&self) -> bool {
        self.receivers.is_empty()
    }

    /// Whether both lead to the same receivers.
    pub fn leads_to(&self, other: &Self) -> bool {
        let pairs = self.receivers.iter().zip(other.receivers.iter());
        self.receivers.len() == other.receivers.len()
            && pairs.into_iter().all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Waits until everything that the receivers have taken so far is durable: only then may a source save how far it is.
    pub async fn durable(&self) {
        for receiver in self.receivers.iter() {
            receiver.durable().await;
        }
    }

    /// Has the receivers send what they have; see [`Consumer::flush`].
    pub async fn flush(&self) {
        for receiver in self.receivers.iter() {
            receiver.flush().await;
        }
    }

    /// Whether one of the receivers joins lines; see [`Consumer::joins`].
    pub fn joins(&self) -> bool {
        self.receivers.iter().any(|receiver| receiver.joins())
    }

    /// What one of the receivers would rather have later; see [`Consumer::unfinished`].
    pub fn unfinished(&self, batch: &B) -> Option<Unfinished> {
        self.receivers.iter().map(|receiver| receiver.unfinished(batch)).fold(None, Unfinished::both)
    }

    /// Hands a batch on for somebody who may give it back: the first receiver may refuse it. When that one has it, giving it
    /// back would double it there, so the others are waited for.
    pub async fn hand_on(&self, batch: &B) -> Result<(), ConsumeError> {
        let Some((first, others)) = self.receivers.split_first() else { return Ok(()) };
        first.consume(batch).await?;
        for receiver in others {
            let mut wait = WAIT.start;
            while receiver.consume(batch).await.is_err() {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(WAIT.end);
            }
        }
        Ok(())
    }

    /// Offers the batch to each receiver once. The first error is returned, after all have been asked.
    pub async fn offer(&self, batch: &B) -> Result<(), ConsumeError> {
        let mut result = Ok(());
        for receiver in self.receivers.iter() {
            result = result.and(receiver.consume(batch).await);
        }
        result
    }

    /// Delivers the batch to each receiver, waiting for as long as one refuses: back-pressure for sources that
    /// can wait. `refused` hears each refusal. Receivers that took the batch are not asked again.
    pub async fn deliver(&self, batch: &B, refused: impl Fn(&ConsumeError) + Send + Sync) {
        for receiver in self.receivers.iter() {
            let mut wait = WAIT.start;
            while let Err(error) = receiver.consume(batch).await {
                refused(&error);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(WAIT.end);
            }
        }
    }
}
