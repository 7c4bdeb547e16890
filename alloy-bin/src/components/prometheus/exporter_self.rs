//! `prometheus.exporter.self`: the agent's own metrics as a target.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::exporter;
use crate::config::{Body, Decode};
use crate::graph::{Component, Context, ExportType};
use crate::http_client::{InMemoryPage, OWN_PAGE, in_memory_page};

/// There is nothing to set.
pub struct Arguments;

impl Decode for Arguments {
    fn decode(_body: &mut Body<'_>) -> Self {
        Arguments
    }
}

/// The component.
pub struct ExporterSelf {
    _page: InMemoryPage,
}

#[async_trait]
impl Component for ExporterSelf {
    const NAME: &'static str = "prometheus.exporter.self";
    const EXPORTS: &'static [ExportType] = exporter::EXPORTS;
    type Arguments = Arguments;

    fn build(_arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let own = Arc::new(|| in_memory_page(OWN_PAGE).map(|page| page()).unwrap_or_default());
        Ok(ExporterSelf { _page: exporter::serve(&context, Self::NAME, "integrations/self", own) })
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, _arguments: Arguments) -> anyhow::Result<()> {
        Ok(())
    }
}
