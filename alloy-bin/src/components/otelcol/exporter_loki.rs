//! `otelcol.exporter.loki`: makes lines of OTLP logs and hands them to components of the namespace `loki`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::formats::{first_resource, otlp_to_loki};
use crate::graph::{
    Component, ConsumeError, Consumer, Context, ExportType, Fanout, LogsReceiver, OtelConsumer, export,
};
use crate::telemetry::{LogBatch, OtlpBatch, Page, Signal};

/// What the block says.
pub struct Arguments(Fanout<LogBatch>);

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let forward_to: Vec<LogsReceiver> = body.required("forward_to");
        Arguments(Fanout::new(forward_to))
    }
}

/// The component.
pub struct ExporterLoki {
    bridge: Arc<Bridge>,
}

struct Bridge {
    next: Mutex<Fanout<LogBatch>>,
    processed: AtomicU64,
    failed: AtomicU64,
}

impl Bridge {
    fn next(&self) -> Fanout<LogBatch> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Component for ExporterLoki {
    const NAME: &'static str = "otelcol.exporter.loki";
    const EXPORTS: &'static [ExportType] = &[("input", export::otel_consumer)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let (next, processed, failed) = (Mutex::new(arguments.0), AtomicU64::new(0), AtomicU64::new(0));
        let bridge = Arc::new(Bridge { next, processed, failed });
        context.exports.set("input", Value::from(bridge.clone() as OtelConsumer));
        Ok(ExporterLoki { bridge })
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        *self.bridge.next.lock().unwrap_or_else(PoisonError::into_inner) = arguments.0;
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let [processed, failed] =
            [&self.bridge.processed, &self.bridge.failed].map(|it| it.load(Ordering::Relaxed));
        let mut counter = |name: &str, help, value| page.counter(name, help, &[], value);
        counter("otelcol_exporter_loki_entries_total", "Log records that were read.", processed + failed);
        counter("otelcol_exporter_loki_entries_processed_total", "Log records that became lines.", processed);
        counter("otelcol_exporter_loki_entries_failed_total", "Log records that can't be lines.", failed);
    }
}

#[async_trait]
impl Consumer<OtlpBatch> for Bridge {
    async fn consume(&self, batch: &OtlpBatch) -> Result<(), ConsumeError> {
        if batch.signal != Signal::Logs {
            batch.dropped.note(batch.items.into(), "otelcol.exporter.loki takes logs alone");
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Who has sent it, mostly: its lines stay in order.
        let lane = twox_hash::XxHash3_64::oneshot(first_resource(batch));
        let (lines, dropped, reason) = otlp_to_loki(batch, lane, now.as_nanos() as i64);
        if !lines.is_empty() {
            self.next().hand_on(&lines).await?;
        }
        self.processed.fetch_add(lines.len() as u64, Ordering::Relaxed);
        if dropped > 0 {
            self.failed.fetch_add(dropped, Ordering::Relaxed);
            batch.dropped.note(dropped, reason);
        }
        Ok(())
    }

    async fn durable(&self) {
        self.next().durable().await;
    }

    async fn flush(&self) {
        self.next().flush().await;
    }
}
