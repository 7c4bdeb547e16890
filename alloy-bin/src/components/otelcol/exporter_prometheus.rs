//! `otelcol.exporter.prometheus`: makes samples of OTLP metrics and hands them to components of the namespace `prometheus`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::formats::{Deltas, PrometheusOptions, Resource};
use crate::graph::{
    Component, ConsumeError, Consumer, Context, ExportType, Fanout, MetricsReceiver, OtelConsumer, export,
};
use crate::otlp::DebugMetrics;
use crate::outbox;
use crate::telemetry::{OtlpBatch, Page, SampleBatch, Signal};

/// What the block says.
pub struct Arguments {
    now: Now,
    gc_frequency: Duration,
}

/// What may change while it runs.
#[derive(Clone)]
struct Now {
    options: PrometheusOptions,
    next: Fanout<SampleBatch>,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        body.block::<DebugMetrics>("debug_metrics");
        let listed = "histograms with listed bounds become the classic series here; leave it out";
        outbox::only(body, "convert_classic_histograms_to_nhcb", false, listed);
        outbox::only(body, "start_timestamp_zero_ingestion", false, "no zeros are put in here; leave it out");
        // Alloy's default is false, as it is an experiment there. Whoever sends metadata on decides, here too.
        outbox::only(
            body,
            "honor_metadata",
            true,
            "metadata is always handed on; set metadata_config { send = false } in prometheus.remote_write",
        );
        let options = PrometheusOptions {
            target_info: body.optional("include_target_info", true),
            scope_info: body.optional("include_scope_info", false),
            scope_labels: body.optional("include_scope_labels", true),
            suffixes: body.optional("add_metric_suffixes", true),
            resource_labels: body.optional("resource_to_telemetry_conversion", false),
            keep_identifying: body.optional("keep_identifying_resource_attributes", false),
        };
        let gc_frequency = body.optional("gc_frequency", Duration::from_secs(300));
        if gc_frequency.is_zero() {
            body.error_at("gc_frequency", "must be above zero");
        }
        let forward_to: Vec<MetricsReceiver> = body.required("forward_to");
        Arguments { now: Now { options, next: Fanout::new(forward_to) }, gc_frequency }
    }
}

/// Resources whose samples are on their way at a time. Those of one lane go one after the other, as receivers want it and as
/// deltas have to be added up.
const TURNS: usize = 64;

/// The component.
pub struct ExporterPrometheus {
    bridge: Arc<Bridge>,
}

struct Bridge {
    now: Mutex<Now>,
    gc_frequency: Mutex<Duration>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    deltas: RwLock<Deltas>,
    samples: AtomicU64,
    dropped: AtomicU64,
}

impl Bridge {
    fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn age(&self) -> Duration {
        *self.gc_frequency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Component for ExporterPrometheus {
    const NAME: &'static str = "otelcol.exporter.prometheus";
    const EXPORTS: &'static [ExportType] = &[("input", export::otel_consumer)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let bridge = Arc::new(Bridge {
            now: Mutex::new(arguments.now),
            gc_frequency: Mutex::new(arguments.gc_frequency),
            turns: [const { tokio::sync::Mutex::const_new(()) }; TURNS],
            deltas: RwLock::default(),
            samples: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        context.exports.set("input", Value::from(bridge.clone() as OtelConsumer));
        Ok(ExporterPrometheus { bridge })
    }

    async fn run(&self, stop: CancellationToken) {
        while tokio::time::timeout(self.bridge.age(), stop.cancelled()).await.is_err() {
            let mut deltas = self.bridge.deltas.write().unwrap_or_else(PoisonError::into_inner);
            deltas.forget(Instant::now(), self.bridge.age());
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        *self.bridge.now.lock().unwrap_or_else(PoisonError::into_inner) = arguments.now;
        *self.bridge.gc_frequency.lock().unwrap_or_else(PoisonError::into_inner) = arguments.gc_frequency;
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let (samples, dropped) = (&self.bridge.samples, &self.bridge.dropped);
        page.counter(
            "alloy_otelcol_exporter_prometheus_samples_total",
            "Samples made of metrics and taken by the receivers.",
            &[],
            samples.load(Ordering::Relaxed),
        );
        page.counter(
            "alloy_otelcol_exporter_prometheus_dropped_points_total",
            "Data points that can't be said in Prometheus.",
            &[],
            dropped.load(Ordering::Relaxed),
        );
        let streams = self.bridge.deltas.read().unwrap_or_else(PoisonError::into_inner).len();
        let help = "Streams of deltas that are added up.";
        page.gauge("alloy_otelcol_exporter_prometheus_delta_streams", help, &[], streams as f64);
    }
}

#[async_trait]
impl Consumer<OtlpBatch> for Bridge {
    async fn consume(&self, batch: &OtlpBatch) -> Result<(), ConsumeError> {
        if batch.signal != Signal::Metrics {
            batch.dropped.note(batch.items.into(), "otelcol.exporter.prometheus takes metrics alone");
            return Ok(());
        }
        let Now { options, next } = self.now();
        let (mut dropped, mut reason) = (0, "");
        for resource in Resource::all(&batch.body) {
            let _turn = self.turns[(resource.lane % TURNS as u64) as usize].lock().await;
            let translated = {
                let deltas = self.deltas.read().unwrap_or_else(PoisonError::into_inner);
                resource.translate(options, &deltas, Instant::now())
            };
            if !translated.samples.is_empty() {
                // A message that is sent again because a later resource was refused becomes the same samples: nobody has two.
                next.offer(&translated.samples).await?;
                self.samples.fetch_add(translated.samples.len() as u64, Ordering::Relaxed);
            }
            if !translated.additions.is_empty() {
                self.deltas.write().unwrap_or_else(PoisonError::into_inner).commit(translated.additions);
            }
            dropped += translated.dropped;
            reason = if reason.is_empty() { translated.reason } else { reason };
        }
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
            batch.dropped.note(dropped, reason);
        }
        Ok(())
    }

    async fn durable(&self) {
        self.now().next.durable().await;
    }

    async fn flush(&self) {
        self.now().next.flush().await;
    }
}

#[cfg(test)]
mod tests;
