//! What the graph says of itself: how loading went, and how the components are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::server;
use crate::telemetry::{Collect, Histogram, Page};

use super::running::Graph;

/// How loading went.
pub(super) struct Status {
    last: Mutex<Last>,
    failures: AtomicU64,
    evaluating: AtomicUsize,
    evaluations: Histogram,
}

#[derive(Default)]
struct Last {
    /// SHA-256 of the running configuration.
    hash: String,
    is_success: bool,
    success: Duration,
    files: BTreeMap<PathBuf, String>,
}

impl Default for Status {
    fn default() -> Self {
        Status {
            last: Mutex::default(),
            failures: AtomicU64::new(0),
            evaluating: AtomicUsize::new(0),
            evaluations: Histogram::new(Histogram::SECONDS),
        }
    }
}

impl Status {
    /// A configuration was read from these files.
    pub(super) fn attempted(&self, files: BTreeMap<PathBuf, String>) {
        self.lock().files = files;
    }

    pub(super) fn succeeded(&self, hash: String) {
        let mut last = self.lock();
        last.hash = hash;
        last.is_success = true;
        last.success = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.lock().is_success = false;
    }

    pub(super) fn hash(&self) -> String {
        self.lock().hash.clone()
    }

    pub(super) fn files(&self) -> BTreeMap<PathBuf, String> {
        self.lock().files.clone()
    }

    /// Something is being evaluated until this is dropped.
    pub(super) fn evaluating(&self) -> Evaluating<'_> {
        self.evaluating.fetch_add(1, Ordering::Relaxed);
        Evaluating(self)
    }

    /// One node was evaluated.
    pub(super) fn evaluation(&self, took: Duration) {
        self.evaluations.observe(took);
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().expect("no code panics while holding it")
    }
}

/// Something is being evaluated.
pub(super) struct Evaluating<'a>(&'a Status);

impl Drop for Evaluating<'_> {
    fn drop(&mut self) {
        self.0.evaluating.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Collect for Graph {
    fn collect(&self, page: &mut Page) {
        let status = self.status();
        {
            let last = status.lock();
            let help = "Hash of the currently active config file.";
            let labels = [("sha256", last.hash.as_str()), ("cluster_name", self.cluster_name())];
            page.gauge("alloy_config_hash", help, &labels, 1.0);
            let help = "Config loaded successfully.";
            page.gauge("alloy_config_last_load_successful", help, &[], f64::from(u8::from(last.is_success)));
            let help = "Timestamp of the last successful configuration load.";
            let seconds = last.success.as_secs_f64();
            page.gauge("alloy_config_last_load_success_timestamp_seconds", help, &[], seconds);
        }
        let help = "Configuration load failures.";
        page.counter("alloy_config_load_failures_total", help, &[], status.failures.load(Ordering::Relaxed));
        let help = "Tracks if the controller is currently in the middle of a graph evaluation.";
        let evaluating = status.evaluating.load(Ordering::Relaxed);
        page.gauge("alloy_component_controller_evaluating", help, &[], evaluating as f64);
        let help = "Time spent performing component evaluation.";
        page.histogram("alloy_component_evaluation_seconds", help, &[], &status.evaluations);

        let lives = self.lives();
        let trouble = lives.iter().filter(|live| live.context.health.trouble().is_some()).count();
        for (state, count) in [("healthy", lives.len() - trouble), ("unhealthy", trouble)] {
            let help = "Number of running components by health.";
            let labels = [("health_type", state)];
            page.gauge("alloy_component_controller_running_components", help, &labels, count as f64);
        }
        lives.iter().for_each(|live| live.collect(page));
    }
}

#[async_trait]
impl server::Reload for Graph {
    async fn reload(&self) -> Result<(), String> {
        Graph::reload(self).await
    }
}
