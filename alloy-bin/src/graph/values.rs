//! What components pass to each other by way of the configuration: receivers for `forward_to`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{ConsumeError, Consumer, LogsReceiver, MetricsReceiver, OtelConsumer, Unfinished};
use crate::config::{Capsule, CapsuleType, ConversionError, FromValue, Value};
use crate::telemetry::{LogBatch, OtlpBatch, SampleBatch};

/// How long a batch waits for a component that is being made anew. It has the log's last requests to send and a file to
/// open: seconds.
const CHANGING_PATIENCE: Duration = Duration::from_secs(15);

/// A receiver on its way from one component to another. It outlives the component behind it: when that is made anew,
/// batches wait, and nobody who sends to it has to know.
struct Gate<B: 'static> {
    /// `None` while the component is being made anew.
    inside: watch::Sender<Option<Arc<dyn Consumer<B>>>>,
}

#[async_trait]
impl<B: Sync + 'static> Consumer<B> for Gate<B> {
    async fn consume(&self, batch: &B) -> Result<(), ConsumeError> {
        let mut inside = self.inside.subscribe();
        let deadline = Instant::now() + CHANGING_PATIENCE;
        loop {
            let now = inside.borrow_and_update().clone();
            let refusal = match now {
                Some(consumer) => match consumer.consume(batch).await {
                    // It was stopped to be made anew while it had the batch, and has taken nothing.
                    Err(closed @ ConsumeError::Closed { .. }) if inside.has_changed().unwrap_or(false) => {
                        closed
                    }
                    result => return result,
                },
                None => {
                    let reason = "it is being made anew".to_owned();
                    ConsumeError::Closed { by: "the receiver".to_owned(), reason }
                }
            };
            if !matches!(timeout_at(deadline, inside.changed()).await, Ok(Ok(()))) {
                return Err(refusal);
            }
        }
    }

    async fn durable(&self) {
        let mut inside = self.inside.subscribe();
        // An error would mean that the gate is gone, and it is here.
        if let Ok(Some(consumer)) = inside.wait_for(Option::is_some).await.map(|now| now.clone()) {
            consumer.durable().await;
        }
    }

    fn joins(&self) -> bool {
        self.inside.borrow().as_ref().is_none_or(|consumer| consumer.joins())
    }

    fn unfinished(&self, batch: &B) -> Option<Unfinished> {
        match self.inside.borrow().clone() {
            Some(consumer) => consumer.unfinished(batch),
            // Whoever comes next may join lines.
            None => Some(Unfinished { from: 0, wait: CHANGING_PATIENCE }),
        }
    }

    async fn flush(&self) {
        let now = self.inside.borrow().clone();
        if let Some(consumer) = now {
            consumer.flush().await;
        }
    }
}

/// The receiver of a configuration that is only checked.
struct Nobody;

#[async_trait]
impl<B: Sync + 'static> Consumer<B> for Nobody {
    async fn consume(&self, _batch: &B) -> Result<(), ConsumeError> {
        Err(ConsumeError::Closed { by: "the check".to_owned(), reason: "nothing runs".to_owned() })
    }
}

impl CapsuleType for Gate<LogBatch> {
    const NAME: &'static str = "LogsReceiver";
}

impl CapsuleType for Gate<SampleBatch> {
    const NAME: &'static str = "MetricsReceiver";
}

impl CapsuleType for Gate<OtlpBatch> {
    const NAME: &'static str = "otelcol.Consumer";
}

/// Whether somebody may send to a component with these exports.
pub(super) fn has_receiver(exports: &Value) -> bool {
    let Value::Object(fields) = exports else { return false };
    fields.values().any(|value| as_gate(value).is_some())
}

fn gate<B: Sync>(receiver: Arc<dyn Consumer<B>>) -> Value
where
    Gate<B>: CapsuleType,
{
    Capsule::new(Arc::new(Gate { inside: watch::Sender::new(Some(receiver)) })).into()
}

impl From<LogsReceiver> for Value {
    fn from(receiver: LogsReceiver) -> Self {
        gate(receiver)
    }
}

impl From<MetricsReceiver> for Value {
    fn from(receiver: MetricsReceiver) -> Self {
        gate(receiver)
    }
}

impl From<OtelConsumer> for Value {
    fn from(consumer: OtelConsumer) -> Self {
        gate(consumer)
    }
}

impl FromValue for LogsReceiver {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        Arc::<Gate<LogBatch>>::from_value(value).map(|gate| gate as LogsReceiver)
    }
}

impl FromValue for MetricsReceiver {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        Arc::<Gate<SampleBatch>>::from_value(value).map(|gate| gate as MetricsReceiver)
    }
}

impl FromValue for OtelConsumer {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        Arc::<Gate<OtlpBatch>>::from_value(value).map(|gate| gate as OtelConsumer)
    }
}

/// What is done to a gate whose batches are of any kind.
trait AnyGate {
    fn close(&self) -> Box<dyn Fn() -> bool + Send>;
    fn adopt(&self, new: &Capsule) -> bool;
}

impl<B: Sync + 'static> AnyGate for Gate<B>
where
    Gate<B>: CapsuleType,
{
    fn close(&self) -> Box<dyn Fn() -> bool + Send> {
        let inside = self.inside.send_replace(None).map(|inside| Arc::downgrade(&inside));
        Box::new(move || inside.as_ref().is_none_or(|inside| inside.strong_count() == 0))
    }

    fn adopt(&self, new: &Capsule) -> bool {
        let Some(new) = new.downcast::<Gate<B>>() else { return false };
        self.inside.send_replace(new.inside.borrow().clone());
        true
    }
}

fn as_gate(value: &Value) -> Option<Arc<dyn AnyGate>> {
    let Value::Capsule(capsule) = value else { return None };
    fn is<B: Sync + 'static>(capsule: &Capsule) -> Option<Arc<dyn AnyGate>>
    where
        Gate<B>: CapsuleType,
    {
        capsule.downcast::<Gate<B>>().map(|gate| gate as Arc<dyn AnyGate>)
    }
    is::<LogBatch>(capsule).or_else(|| is::<SampleBatch>(capsule)).or_else(|| is::<OtlpBatch>(capsule))
}

/// Closes a receiver until another one is put in its place; the answer says whether all have let go of the old one.
pub(super) fn close(value: &Value) -> Option<Box<dyn Fn() -> bool + Send>> {
    as_gate(value).map(|gate| gate.close())
}

/// Puts a new receiver in the place of an old one of its kind. False: they are not two receivers of a kind.
pub(super) fn adopt(old: &Value, new: &Value) -> bool {
    match (as_gate(old), new) {
        (Some(old), Value::Capsule(new)) => old.adopt(new),
        _ => false,
    }
}

/// What stands for an export in a configuration that is only checked: its name, and a value of its type.
pub type ExportType = (&'static str, fn() -> Value);

/// Placeholders for [`Component::EXPORTS`](super::Component::EXPORTS).
pub mod export {
    use super::*;

    /// A list of targets.
    pub fn targets() -> Value {
        Value::Unknown("array")
    }

    /// What `forward_to` of metrics takes.
    pub fn metrics_receiver() -> Value {
        gate::<SampleBatch>(Arc::new(Nobody))
    }

    /// What `forward_to` of logs takes.
    pub fn logs_receiver() -> Value {
        gate::<LogBatch>(Arc::new(Nobody))
    }

    /// What `output` takes.
    pub fn otel_consumer() -> Value {
        gate::<OtlpBatch>(Arc::new(Nobody))
    }

    /// Any type.
    pub fn anything() -> Value {
        Value::ANYTHING
    }
}
