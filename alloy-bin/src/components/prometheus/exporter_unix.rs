//! `prometheus.exporter.unix`: what a node exporter measures of the machine, under the same names.
//!
//! | file | what |
//! | --- | --- |
//! | `arguments.rs` | the block, and which collectors run |
//! | `collectors.rs` | the collectors by name, those that are not here too |
//! | `host.rs` | reading the machine's files; tables of what is in them |
//! | the others | collectors: a file is read, its figures go onto the page |

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::arguments::Arguments;
use self::host::{Host, gauge};
use super::exporter;
use crate::graph::{Component, Context, ExportType};
use crate::http_client::InMemoryPage;
use crate::telemetry::Page;

mod arguments;
mod collectors;
mod disks;
mod filesystem;
mod hardware;
mod host;
mod hwmon;
mod kernel;
mod memory;
mod network;
mod processors;
mod systemd;
mod textfile;
mod zfs;

/// The component.
pub struct ExporterUnix {
    host: Arc<RwLock<Arc<Host>>>,
    _page: InMemoryPage,
}

#[async_trait]
impl Component for ExporterUnix {
    const NAME: &'static str = "prometheus.exporter.unix";
    const EXPORTS: &'static [ExportType] = exporter::EXPORTS;
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let host = Arc::new(RwLock::new(Arc::new(Host::new(arguments))));
        let page = {
            let host = host.clone();
            Arc::new(move || {
                let host = host.read().unwrap_or_else(PoisonError::into_inner).clone();
                host.page()
            })
        };
        Ok(ExporterUnix { host, _page: exporter::serve(&context, Self::NAME, "integrations/unix", page) })
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        *self.host.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Host::new(arguments));
        Ok(())
    }
}

impl Host {
    fn new(arguments: Arguments) -> Self {
        Host { arguments, spent: BTreeMap::new().into(), stuck: Arc::default(), failing: Default::default() }
    }

    /// Asks all collectors. What one of them has found before it failed is kept.
    fn page(&self) -> String {
        let duration =
            gauge("node_scrape_collector_duration_seconds", "node_exporter: Duration of a collector scrape.");
        let success = gauge("node_scrape_collector_success", "node_exporter: Whether a collector succeeded.");
        let mut page = Page::default();
        for collector in &self.arguments.collectors {
            let begin = Instant::now();
            let outcome = (collector.collect)(self, &mut page);
            let labels = [("collector", collector.name)];
            duration.put(&mut page, &labels, begin.elapsed().as_secs_f64());
            success.put(&mut page, &labels, f64::from(outcome.is_ok()));
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(()) => drop(failing.remove(collector.name)),
                // The machine has no such thing.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    if failing.insert(collector.name) {
                        tracing::warn!(collector = collector.name, %error, "a collector fails");
                    }
                }
            }
        }
        page.render()
    }
}

#[cfg(test)]
mod tests;
