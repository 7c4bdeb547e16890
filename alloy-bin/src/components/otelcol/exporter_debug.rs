//! `otelcol.exporter.debug`: writes what it gets into the agent's log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, ConversionError, Decode, FromValue, Value};
use crate::formats::print_otlp;
use crate::graph::{Component, ConsumeError, Consumer, Context, ExportType, OtelConsumer, export};
use crate::otlp::DebugMetrics;
use crate::outbox;
use crate::telemetry::OtlpBatch;

/// What the block says.
#[derive(Clone, Copy)]
pub struct Arguments {
    verbosity: Verbosity,
    /// Messages written in a second before some are left out.
    initial: u64,
    /// From then on, one of so many.
    thereafter: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verbosity {
    Basic,
    Normal,
    Detailed,
}

impl FromValue for Verbosity {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let choices =
            [("basic", Verbosity::Basic), ("normal", Verbosity::Normal), ("detailed", Verbosity::Detailed)];
        ConversionError::one_of(value, &choices)
    }
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        body.block::<DebugMetrics>("debug_metrics");
        outbox::only(
            body,
            "use_internal_logger",
            true,
            "it is the agent's log that is written to; leave it out",
        );
        Arguments {
            verbosity: body.optional("verbosity", Verbosity::Basic),
            initial: body.optional("sampling_initial", 2),
            thereafter: body.optional("sampling_thereafter", 500),
        }
    }
}

/// The component.
pub struct ExporterDebug {
    printer: Arc<Printer>,
}

struct Printer {
    id: Arc<str>,
    state: Mutex<State>,
}

struct State {
    arguments: Arguments,
    second: Instant,
    seen: u64,
}

impl State {
    /// Whether the next message is written.
    fn is_due(&mut self, now: Instant) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.seen) = (now, 0);
        }
        self.seen += 1;
        let Arguments { initial, thereafter, .. } = self.arguments;
        self.seen <= initial || (thereafter > 0 && (self.seen - initial).is_multiple_of(thereafter))
    }
}

#[async_trait]
impl Component for ExporterDebug {
    const NAME: &'static str = "otelcol.exporter.debug";
    const EXPORTS: &'static [ExportType] = &[("input", export::otel_consumer)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let state = Mutex::new(State { arguments, second: Instant::now(), seen: 0 });
        let printer = Arc::new(Printer { id: context.id.clone(), state });
        context.exports.set("input", Value::from(printer.clone() as OtelConsumer));
        Ok(ExporterDebug { printer })
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        self.printer.state.lock().unwrap_or_else(PoisonError::into_inner).arguments = arguments;
        Ok(())
    }
}

#[async_trait]
impl Consumer<OtlpBatch> for Printer {
    async fn consume(&self, batch: &OtlpBatch) -> Result<(), ConsumeError> {
        let verbosity = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if !state.is_due(Instant::now()) {
                return Ok(());
            }
            state.arguments.verbosity
        };
        let (id, signal, items, bytes) = (&*self.id, batch.signal.name(), batch.items, batch.body.len());
        match verbosity {
            Verbosity::Basic => tracing::info!(component_id = id, signal, items, bytes, "received"),
            Verbosity::Normal => {
                let content = names(&print_otlp(batch));
                tracing::info!(component_id = id, signal, items, bytes, content, "received");
            }
            Verbosity::Detailed => {
                let content = print_otlp(batch);
                tracing::info!(component_id = id, signal, items, bytes, content, "received");
            }
        }
        Ok(())
    }
}

/// What a message is about, in a few words: names and values, without where and when.
fn names(printed: &str) -> String {
    const SHOWN: [&str; 6] = ["name:", "as_double:", "as_int:", "count:", "string_value:", "severity_text:"];
    let lines = printed.lines().map(str::trim).filter(|line| SHOWN.iter().any(|name| line.starts_with(name)));
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_messages_of_a_second_are_written_and_then_some() {
        let arguments = Arguments { verbosity: Verbosity::Basic, initial: 2, thereafter: 3 };
        let start = Instant::now();
        let mut state = State { arguments, second: start, seen: 0 };
        let mut written = |at| (0..9).map(|_| state.is_due(at)).collect::<Vec<_>>();
        let expected = [true, true, false, false, true, false, false, true, false];
        assert_eq!(written(start), expected);
        assert_eq!(written(start + Duration::from_secs(1)), expected);
    }
}
