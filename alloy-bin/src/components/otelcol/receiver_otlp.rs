//! `otelcol.receiver.otlp`: takes OTLP over gRPC and HTTP, and says that it is taken when it is in custody.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode};
use crate::graph::{Component, Context, ExportType};
use crate::otlp::{DebugMetrics, GrpcSettings, HttpSettings, Ingest, Output, Port};
use crate::telemetry::Page;

/// What the block says.
pub struct Arguments {
    grpc: Option<Arc<GrpcSettings>>,
    http: Option<Arc<HttpSettings>>,
    output: Output,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        body.block::<DebugMetrics>("debug_metrics");
        let arguments = Arguments {
            grpc: body.block("grpc").map(Arc::new),
            http: body.block("http").map(Arc::new),
            output: body.required_block("output"),
        };
        if arguments.grpc.is_none() && arguments.http.is_none() {
            body.error("neither a block \"grpc\" nor a block \"http\" is there: it would listen to nothing");
        }
        arguments
    }
}

/// The component.
pub struct ReceiverOtlp {
    grpc: Option<(Arc<GrpcSettings>, Port)>,
    http: Option<(Arc<HttpSettings>, Port)>,
    ingest: Arc<Ingest>,
    id: Arc<str>,
}

#[async_trait]
impl Component for ReceiverOtlp {
    const NAME: &'static str = "otelcol.receiver.otlp";
    const EXPORTS: &'static [ExportType] = &[];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let grpc = arguments.grpc.map(|settings| settings.bind().map(|port| (settings, port))).transpose()?;
        let http = arguments.http.map(|settings| settings.bind().map(|port| (settings, port))).transpose()?;
        let ingest = Arc::new(Ingest::new(arguments.output));
        Ok(ReceiverOtlp { grpc, http, ingest, id: context.id })
    }

    async fn run(&self, stop: CancellationToken) {
        let address = |port: &Port| port.address().to_string();
        let grpc = self.grpc.as_ref().map(|(_, port)| address(port)).unwrap_or_default();
        let http = self.http.as_ref().map(|(_, port)| address(port)).unwrap_or_default();
        tracing::info!(component_id = &*self.id, grpc, http, "listening for OTLP");
        let grpc = async {
            if let Some((settings, port)) = &self.grpc {
                settings.clone().serve(port, self.ingest.clone(), stop.clone()).await;
            }
        };
        let http = async {
            if let Some((settings, port)) = &self.http {
                settings.clone().serve(port, self.ingest.clone(), stop.clone()).await;
            }
        };
        let draining = async {
            stop.cancelled().await;
            self.ingest.drain();
        };
        tokio::join!(grpc, http, draining);
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        let same = arguments.grpc.as_ref() == self.grpc.as_ref().map(|(settings, _)| settings)
            && arguments.http.as_ref() == self.http.as_ref().map(|(settings, _)| settings);
        anyhow::ensure!(same, "another way to listen needs the ports to be opened anew");
        self.ingest.set_output(arguments.output);
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        self.ingest.collect(page);
    }
}
