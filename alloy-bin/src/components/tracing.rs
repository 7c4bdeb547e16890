//! `tracing`: spans of the agent's own work, as OTLP. A block of Alloy's that is a component in all but its name: it sends to others,
//! and is started and stopped between them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode};
use crate::formats::otlp_from_json;
use crate::graph::{Component, ConsumeError, Context, ExportType, Fanout, OtelConsumer};
use crate::telemetry::{OtlpBatch, Page, Signal, WorkDone, note_work, random, take_work};

/// How often spans are sent.
const PACE: Duration = Duration::from_secs(1);
/// Spans in a message. Those of one pace have at most 2 MiB.
const BATCH: usize = 512;
/// A span is a few hundred bytes; the agent's own longest text is the error of a configuration.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What the block says.
pub struct Arguments {
    fraction: f64,
    write_to: Vec<OtelConsumer>,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["sampler"]);
        let fraction: f64 = body.optional("sampling_fraction", 0.1);
        if !(0.0..=1.0).contains(&fraction) {
            body.error_at("sampling_fraction", "a fraction is from 0 to 1".to_owned());
        }
        Arguments { fraction, write_to: body.optional("write_to", Vec::new()) }
    }
}

/// The component.
pub struct Tracing {
    node: String,
    now: Mutex<(f64, Fanout<OtlpBatch>)>,
    spans: AtomicU64,
    dropped: AtomicU64,
}

impl Tracing {
    /// Sends what was done since the last time.
    async fn send(&self) {
        let (done, left_out) = take_work();
        self.spans.fetch_add(done.len() as u64 + left_out, Ordering::Relaxed);
        self.dropped.fetch_add(left_out, Ordering::Relaxed);
        let (_, consumers) = self.now.lock().expect("no code panics while holding it").clone();
        for done in done.chunks(BATCH) {
            if let Err(error) = self.offer(done, &consumers).await {
                self.dropped.fetch_add(done.len() as u64, Ordering::Relaxed);
                tracing::warn!(%error, spans = done.len(), "own spans were dropped");
            }
        }
    }

    async fn offer(&self, done: &[WorkDone], consumers: &Fanout<OtlpBatch>) -> anyhow::Result<()> {
        let text = message(done, &self.node).to_string();
        let batch = otlp_from_json(Signal::Traces, text.as_bytes(), MESSAGE_BYTES_MAX)?;
        let taken: Result<(), ConsumeError> = consumers.offer(&batch).await;
        Ok(taken?)
    }
}

#[async_trait]
impl Component for Tracing {
    const NAME: &'static str = "tracing";
    const EXPORTS: &'static [ExportType] = &[];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let now = Mutex::new((arguments.fraction, Fanout::new(arguments.write_to)));
        Ok(Tracing {
            node: context.ownership.me(),
            now,
            spans: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    async fn run(&self, stop: CancellationToken) {
        loop {
            // Again each time: an update changes it.
            note_work(self.now.lock().expect("no code panics while holding it").0);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(PACE) => self.send().await,
            }
        }
        note_work(0.0);
        self.send().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        let now = (arguments.fraction, Fanout::new(arguments.write_to));
        *self.now.lock().expect("no code panics while holding it") = now;
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let help = "Spans of the agent's own work.";
        page.counter("alloy_tracing_spans_total", help, &[], self.spans.load(Ordering::Relaxed));
        let help = "Spans of the agent's own work that nobody has taken.";
        page.counter("alloy_tracing_dropped_spans_total", help, &[], self.dropped.load(Ordering::Relaxed));
    }
}

/// An `ExportTraceServiceRequest`.
fn message(done: &[WorkDone], node: &str) -> Json {
    let attribute = |(name, value): (&str, &str)| json!({ "key": name, "value": { "stringValue": value } });
    let version = env!("CARGO_PKG_VERSION");
    let resource = [("service.name", "alloy"), ("service.version", version), ("service.instance.id", node)];
    let span = |done: &WorkDone| {
        let begin = done.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let attributes = done.attributes.iter().map(|(name, value)| attribute((name, value)));
        let status = match &done.error {
            Some(why) => json!({ "code": 2, "message": why }),
            None => json!({}),
        };
        json!({
            "traceId": format!("{:016x}{:016x}", random(), random()),
            "spanId": format!("{:016x}", random()),
            "name": done.name,
            // What asks others is a client; all else is internal.
            "kind": if done.attributes.iter().any(|(name, _)| *name == "url.full") { 3 } else { 1 },
            "startTimeUnixNano": begin.as_nanos().to_string(),
            "endTimeUnixNano": (begin + done.took).as_nanos().to_string(),
            "attributes": attributes.collect::<Vec<_>>(),
            "status": status,
        })
    };
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource.map(attribute) },
        "scopeSpans": [{ "scope": { "name": "alloy", "version": version }, "spans": done.iter().map(span).collect::<Vec<_>>() }],
    }] })
}
