//! `loki.echo`: writes what it gets into the agent's log.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::graph::{Component, ConsumeError, Consumer, Context, ExportType, LogsReceiver, export};
use crate::telemetry::LogBatch;

/// What the block says: nothing.
pub struct Arguments;

impl Decode for Arguments {
    fn decode(_body: &mut Body<'_>) -> Self {
        Arguments
    }
}

/// The component.
pub struct Echo;

/// What the receiver holds.
struct Printer {
    id: Arc<str>,
}

#[async_trait]
impl Component for Echo {
    const NAME: &'static str = "loki.echo";
    const EXPORTS: &'static [ExportType] = &[("receiver", export::logs_receiver)];
    type Arguments = Arguments;

    fn build(_arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let receiver = Arc::new(Printer { id: context.id.clone() });
        context.exports.set("receiver", Value::from(receiver as LogsReceiver));
        Ok(Echo)
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, _arguments: Arguments) -> anyhow::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Consumer<LogBatch> for Printer {
    async fn consume(&self, batch: &LogBatch) -> Result<(), ConsumeError> {
        for stream in &batch.streams {
            for entry in &stream.entries {
                tracing::info!(
                    component_id = &*self.id,
                    entry = %String::from_utf8_lossy(&entry.line),
                    entry_timestamp_ns = entry.timestamp_ns,
                    labels = %stream.labels.as_ref(),
                    structured_metadata = entry.metadata.as_ref().map(|pairs| pairs.as_ref().to_string()),
                    "received log entry"
                );
            }
        }
        Ok(())
    }
}
