//! `otelcol.exporter.otlp`: keeps OTLP in a log for each signal, and sends it from there over gRPC.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::graph::{Component, Context, ExportType, OtelConsumer, export};
use crate::http_client::parse_url;
use crate::otlp::{ClientBlock, Common, Destination, Exporter};
use crate::outbox::{self, Dialect};
use crate::telemetry::{Page, Signal};

/// What the block says.
#[derive(PartialEq)]
pub struct Arguments {
    client: Client,
    timeout: Duration,
    common: Common,
}

/// The `client` block.
#[derive(PartialEq)]
struct Client(ClientBlock);

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let arguments = Arguments {
            client: body.required_block("client"),
            timeout: body.optional("timeout", Duration::from_secs(5)),
            common: Common::read(body),
        };
        if arguments.timeout.is_zero() {
            body.error_at("timeout", "must be above zero");
        }
        arguments
    }
}

impl Decode for Client {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["authority", "keepalive"]);
        let one = "a connection goes to an address that answers, and is kept; leave it out, and put a load balancer \
                   in front of several receivers";
        outbox::meaningless(body, &[("balancer_name", one)]);
        outbox::only(body, "wait_for_ready", false, "what can't be sent waits in the log; leave it out");
        let client = Client(ClientBlock::read(body));
        if !client.0.endpoint.is_empty()
            && let Err(reason) = client.urls()
        {
            body.error_at("endpoint", reason);
        }
        client
    }
}

impl Client {
    /// The services of the three signals. A scheme in the endpoint wins over `insecure`, as in the Collector.
    fn urls(&self) -> Result<[Uri; 3], String> {
        let endpoint = self.0.endpoint.trim_start_matches("dns://").trim_start_matches('/');
        let base = match endpoint.split_once("://") {
            Some(("http" | "https", _)) => endpoint.to_owned(),
            Some(_) => return Err(format!("{endpoint:?} is not an address such as \"host:4317\"")),
            None if self.0.insecure => format!("http://{endpoint}"),
            None => format!("https://{endpoint}"),
        };
        let base = base.trim_end_matches('/').to_owned();
        let url = |signal| {
            let service = match signal {
                Signal::Metrics => "metrics.v1.MetricsService",
                Signal::Logs => "logs.v1.LogsService",
                Signal::Traces => "trace.v1.TraceService",
            };
            parse_url(&format!("{base}/opentelemetry.proto.collector.{service}/Export"))
        };
        Ok([url(Signal::Metrics)?, url(Signal::Logs)?, url(Signal::Traces)?])
    }
}

/// The component.
pub struct ExporterOtlp {
    arguments: Arguments,
    exporter: Arc<Exporter>,
}

#[async_trait]
impl Component for ExporterOtlp {
    const NAME: &'static str = "otelcol.exporter.otlp";
    const EXPORTS: &'static [ExportType] = &[("input", export::otel_consumer)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let destination = Destination {
            client: &arguments.client.0,
            urls: arguments.client.urls().map_err(anyhow::Error::msg)?,
            dialect: Dialect::OtlpGrpc,
            timeout: arguments.timeout,
        };
        let exporter =
            Arc::new(Exporter::open(&arguments.common, &destination, context.id.clone(), &context.storage)?);
        context.exports.set("input", Value::from(exporter.clone() as OtelConsumer));
        Ok(ExporterOtlp { arguments, exporter })
    }

    async fn run(&self, stop: CancellationToken) {
        self.exporter.run(stop).await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        anyhow::ensure!(
            arguments == self.arguments,
            "other arguments need the connections and logs to be opened anew"
        );
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        self.exporter.collect(page);
    }
}
