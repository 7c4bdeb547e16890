//! What all exporters have in common: a page in memory, and the target that leads to it.

use std::collections::BTreeMap;

use crate::config::Value;
use crate::graph::{Context, ExportType, export};
use crate::http_client::{IN_MEMORY_ADDRESS, InMemoryPage, PageSource, serve_in_memory};
use crate::telemetry::Target;

/// What exporters export.
pub(super) const EXPORTS: &[ExportType] = &[("targets", export::targets)];

/// Exports the target with Alloy's labels, and serves the page that it leads to as long as the result lives.
pub(super) fn serve(context: &Context, component: &str, job: &str, page: PageSource) -> InMemoryPage {
    let id = &*context.id;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let instance = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()).unwrap_or(hostname);
    let path = format!("/api/v0/component/{id}/metrics");
    let labels = [
        ("__address__", IN_MEMORY_ADDRESS),
        ("__meta_component_id", id),
        ("__meta_component_name", component),
        ("__metrics_path__", &path),
        ("__scheme__", "http"),
        ("instance", &instance),
        ("job", job),
    ];
    let target = Target(BTreeMap::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned()))));
    context.exports.set("targets", Value::array([Value::from(&target)]));
    serve_in_memory(&path, page)
}
