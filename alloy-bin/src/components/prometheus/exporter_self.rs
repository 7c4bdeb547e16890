//! `prometheus.exporter.self`: the agent's own metrics as a target.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::graph::{Component, Context, ExportType, export};
use crate::http_client::IN_MEMORY_ADDRESS;
use crate::telemetry::Target;

/// There is nothing to set.
pub struct Arguments;

impl Decode for Arguments {
    fn decode(_body: &mut Body<'_>) -> Self {
        Arguments
    }
}

/// The component.
pub struct ExporterSelf;

#[async_trait]
impl Component for ExporterSelf {
    const NAME: &'static str = "prometheus.exporter.self";
    const EXPORTS: &'static [ExportType] = &[("targets", export::targets)];
    type Arguments = Arguments;

    fn build(_arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        context.exports.set("targets", Value::array([Value::from(&target(&context.id))]));
        Ok(ExporterSelf)
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, _arguments: Arguments) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The target with Alloy's labels.
fn target(id: &str) -> Target {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let instance = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()).unwrap_or(hostname);
    let path = format!("/api/v0/component/{id}/metrics");
    let labels = [
        ("__address__", IN_MEMORY_ADDRESS),
        ("__meta_component_id", id),
        ("__meta_component_name", ExporterSelf::NAME),
        ("__metrics_path__", &path),
        ("__scheme__", "http"),
        ("instance", &instance),
        ("job", "integrations/self"),
    ];
    Target(BTreeMap::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned()))))
}
