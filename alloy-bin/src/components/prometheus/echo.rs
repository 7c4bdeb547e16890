//! `prometheus.echo`: writes what it gets into the agent's log.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, ConversionError, Decode, FromValue, Value};
use crate::graph::{Component, ConsumeError, Consumer, Context, ExportType, MetricsReceiver, export};
use crate::telemetry::{LabelsRef, Sample, SampleBatch};

/// What the block says.
pub struct Arguments {
    format: Format,
}

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl FromValue for Format {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(value, &[("text", Format::Text), ("openmetrics", Format::OpenMetrics)])
    }
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        Arguments { format: body.optional("format", Format::Text) }
    }
}

/// The component.
pub struct Echo {
    receiver: Arc<Printer>,
}

/// What the receiver holds.
struct Printer {
    id: Arc<str>,
    format: Mutex<Format>,
}

#[async_trait]
impl Component for Echo {
    const NAME: &'static str = "prometheus.echo";
    const EXPORTS: &'static [ExportType] = &[("receiver", export::metrics_receiver)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let receiver = Arc::new(Printer { id: context.id.clone(), format: Mutex::new(arguments.format) });
        context.exports.set("receiver", Value::from(receiver.clone() as MetricsReceiver));
        Ok(Echo { receiver })
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        *self.receiver.format.lock().expect("no code panics while holding it") = arguments.format;
        Ok(())
    }
}

#[async_trait]
impl Consumer<SampleBatch> for Printer {
    async fn consume(&self, batch: &SampleBatch) -> Result<(), ConsumeError> {
        let format = *self.format.lock().expect("no code panics while holding it");
        tracing::info!(component_id = &*self.id, metrics = render(batch, format), "received metrics");
        Ok(())
    }
}

/// The samples by metric, both in the order of their names. What kind a metric is does not travel with samples.
fn render(batch: &SampleBatch, format: Format) -> String {
    let mut families: BTreeMap<&str, Vec<Sample<'_>>> = BTreeMap::new();
    for sample in batch.iter() {
        let name = sample.labels.get("__name__").unwrap_or_default();
        families.entry(name).or_default().push(sample);
    }
    let mut text = String::new();
    for (name, samples) in families {
        let kind = match format {
            Format::Text => "untyped",
            Format::OpenMetrics => "unknown",
        };
        let _ = writeln!(text, "# TYPE {} {kind}", quoted_name(name));
        for sample in samples {
            write_sample(&mut text, name, &sample, format);
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn write_sample(text: &mut String, name: &str, sample: &Sample<'_>, format: Format) {
    // A name that is no word stands between the braces, in quotes.
    let is_word = is_word(name);
    text.push_str(if is_word { name } else { "" });
    let mut parts: Vec<String> = Vec::new();
    parts.extend((!is_word).then(|| quoted_name(name)));
    parts.extend(labels(sample.labels));
    if !parts.is_empty() {
        let _ = write!(text, "{{{}}}", parts.join(","));
    }
    let value = match sample.value {
        value if value == f64::INFINITY => "+Inf".to_owned(),
        value if value == f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    };
    let _ = match format {
        Format::Text => writeln!(text, " {value} {}", sample.timestamp_ms),
        Format::OpenMetrics => writeln!(text, " {value} {}", sample.timestamp_ms as f64 / 1e3),
    };
}

fn labels(labels: LabelsRef<'_>) -> impl Iterator<Item = String> {
    let others = labels.iter().filter(|(name, _)| *name != "__name__");
    others.map(|(name, value)| format!("{}=\"{}\"", quoted_name(name), escape(value)))
}

fn quoted_name(name: &str) -> String {
    if is_word(name) { name.to_owned() } else { format!("\"{}\"", escape(name)) }
}

/// A name of the old kind, which needs no quotes.
fn is_word(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().all(allowed) && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> SampleBatch {
        let mut batch = SampleBatch::new(0);
        batch.push([("__name__", "up"), ("instance", "a:1")], 1_500, 1.0);
        batch.push([("__name__", "x"), ("path", "a\\b\"c\nd")], 1_500, f64::INFINITY);
        batch.push([("__name__", "x")], 1_500, f64::NAN);
        batch.push([("__name__", "http.time"), ("my.label", "ü")], 1_500, 0.25);
        batch
    }

    #[test]
    fn samples_are_written_by_metric_as_text() {
        assert_eq!(
            render(&batch(), Format::Text),
            "# TYPE \"http.time\" untyped\n{\"http.time\",\"my.label\"=\"ü\"} 0.25 1500\n\
             # TYPE up untyped\nup{instance=\"a:1\"} 1 1500\n\
             # TYPE x untyped\nx{path=\"a\\\\b\\\"c\\nd\"} +Inf 1500\nx NaN 1500\n"
        );
    }

    #[test]
    fn openmetrics_has_seconds_and_an_end() {
        let text = render(&batch(), Format::OpenMetrics);
        assert!(text.contains("# TYPE up unknown\nup{instance=\"a:1\"} 1 1.5\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert_eq!(render(&SampleBatch::new(0), Format::OpenMetrics), "# EOF\n");
    }
}
