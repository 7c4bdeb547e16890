//! `otelcol.exporter.otlphttp`: keeps OTLP in a log for each signal, and sends it from there over HTTP.

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
    urls: [String; 3],
    common: Common,
}

/// The `client` block.
#[derive(PartialEq)]
struct Client {
    common: ClientBlock,
    timeout: Duration,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        outbox::only(body, "encoding", "proto".to_owned(), "requests are protobuf here; leave it out");
        let client: Client = body.required_block("client");
        let base = client.common.endpoint.trim_end_matches('/').to_owned();
        let path = |signal: Signal| format!("{base}/v1/{}", signal.name());
        let urls = [
            body.optional("metrics_endpoint", path(Signal::Metrics)),
            body.optional("logs_endpoint", path(Signal::Logs)),
            body.optional("traces_endpoint", path(Signal::Traces)),
        ];
        for (name, url) in ["metrics_endpoint", "logs_endpoint", "traces_endpoint"].into_iter().zip(&urls) {
            if let Err(reason) = parse_url(url)
                && body.has(name)
            {
                body.error_at(name, reason);
            }
        }
        Arguments { client, urls, common: Common::read(body) }
    }
}

impl Decode for Client {
    fn decode(body: &mut Body<'_>) -> Self {
        const KEPT: &str = "connections are kept, up to one for each request at a time; leave it out";
        body.unsupported(&["compression_params", "cookies"]);
        outbox::meaningless(
            body,
            &[
                ("http2_ping_timeout", KEPT),
                ("http2_read_idle_timeout", KEPT),
                ("idle_conn_timeout", KEPT),
                ("max_conns_per_host", KEPT),
                ("max_idle_conns", KEPT),
                ("max_idle_conns_per_host", KEPT),
            ],
        );
        outbox::only(body, "disable_keep_alives", false, KEPT);
        outbox::only(
            body,
            "force_attempt_http2",
            true,
            "HTTP/2 is spoken where the endpoint offers it; leave it out",
        );
        let client = Client {
            common: ClientBlock::read(body).with_proxy(body),
            timeout: body.optional("timeout", Duration::from_secs(30)),
        };
        if client.timeout.is_zero() {
            body.error_at("timeout", "must be above zero");
        }
        if client.common.insecure && client.common.endpoint.starts_with("https://") {
            body.error_at("endpoint", "is reached with TLS as it says, and the block tls says insecure");
        }
        if !client.common.endpoint.is_empty()
            && let Err(reason) = parse_url(&client.common.endpoint)
        {
            body.error_at("endpoint", reason);
        }
        client
    }
}

/// The component.
pub struct ExporterOtlphttp {
    arguments: Arguments,
    exporter: Arc<Exporter>,
}

#[async_trait]
impl Component for ExporterOtlphttp {
    const NAME: &'static str = "otelcol.exporter.otlphttp";
    const EXPORTS: &'static [ExportType] = &[("input", export::otel_consumer)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let [metrics, logs, traces] = &arguments.urls;
        let url = |text: &str| -> anyhow::Result<Uri> { parse_url(text).map_err(anyhow::Error::msg) };
        let destination = Destination {
            client: &arguments.client.common,
            urls: [url(metrics)?, url(logs)?, url(traces)?],
            dialect: Dialect::OtlpHttp,
            timeout: arguments.client.timeout,
        };
        let exporter =
            Arc::new(Exporter::open(&arguments.common, &destination, context.id.clone(), &context.storage)?);
        context.exports.set("input", Value::from(exporter.clone() as OtelConsumer));
        Ok(ExporterOtlphttp { arguments, exporter })
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
