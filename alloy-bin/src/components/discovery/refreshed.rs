//! The frame of discovery that looks again and again: keeps what was last good, exports changes only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Decode, Value};
use crate::graph::{Component, Context, ExportType, Exports, Health, export, target_values};
use crate::telemetry::{Histogram, Page, Target};

/// A way to find targets.
///
/// # Contract
/// 1. A look names everything that there is; what it does not name is gone, and so are its targets.
/// 2. A look that takes longer than it may ends by itself. It may be dropped at any time.
#[async_trait]
pub trait Discover: Default + Send + Sync + 'static {
    /// `discovery.dns`.
    const NAME: &'static str;

    /// What the block says.
    type Arguments: Decode + Send + Sync + 'static;

    /// From the end of one look to the next.
    fn interval(arguments: &Self::Arguments) -> Duration;

    /// Looks while the component is made, if that is quick and always possible; it may block.
    fn first_look(&self, _arguments: &Self::Arguments) -> Option<Looked> {
        None
    }

    /// Looks.
    async fn look(&self, arguments: &Arc<Self::Arguments>) -> Looked;

    /// Writes its own figures.
    fn collect(&self, _page: &mut Page, _figures: &Figures) {}
}

/// What a look found, by where: the name of a file, a URL, a name to look up.
pub(super) type Looked = BTreeMap<String, Outcome>;

/// What was found in one place.
#[derive(Debug)]
pub enum Outcome {
    /// These targets.
    Targets(Vec<Target>),
    /// The same as last time, good or bad.
    Unchanged,
    /// It cannot be read; the targets that were last found there go on.
    Failed(String),
}

/// What all ways of discovery count.
#[derive(Debug)]
pub struct Figures {
    /// Places that were looked at.
    pub looks: AtomicU64,
    /// Places that could not be read.
    pub failures: AtomicU64,
    targets: AtomicUsize,
    seconds: Histogram,
}

/// What is known of one place.
#[derive(Default)]
struct Known {
    /// As they are exported, and shared with that; sorted, each once.
    targets: Vec<Value>,
    trouble: Option<String>,
}

/// The component made of a way to find targets.
pub struct Refreshed<D: Discover> {
    id: Arc<str>,
    exports: Exports,
    health: Health,
    arguments: watch::Sender<Arc<D::Arguments>>,
    known: Mutex<BTreeMap<String, Known>>,
    figures: Figures,
    discover: D,
}

#[async_trait]
impl<D: Discover> Component for Refreshed<D> {
    const NAME: &str = D::NAME;
    const EXPORTS: &[ExportType] = &[("targets", export::targets)];
    type Arguments = D::Arguments;

    fn build(arguments: D::Arguments, context: Context) -> anyhow::Result<Self> {
        let Context { id, exports, health, .. } = context;
        exports.set("targets", Value::array([]));
        let figures = Figures {
            looks: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            targets: AtomicUsize::new(0),
            seconds: Histogram::new(Histogram::SECONDS),
        };
        let arguments = watch::Sender::new(Arc::new(arguments));
        let refreshed = Refreshed {
            id,
            exports,
            health,
            arguments,
            known: Mutex::default(),
            figures,
            discover: D::default(),
        };
        let first = refreshed.discover.first_look(&refreshed.arguments.borrow());
        if let Some(first) = first {
            refreshed.handle_look(first);
        }
        Ok(refreshed)
    }

    async fn run(&self, stop: CancellationToken) {
        let mut arguments = self.arguments.subscribe();
        loop {
            let now = arguments.borrow_and_update().clone();
            let started = Instant::now();
            tokio::select! {
                () = stop.cancelled() => return,
                looked = self.discover.look(&now) => self.handle_look(looked),
            }
            self.figures.seconds.observe(started.elapsed());
            tokio::select! {
                () = stop.cancelled() => return,
                _ = arguments.changed() => {}
                () = tokio::time::sleep(D::interval(&now)) => {}
            }
        }
    }

    fn update(&self, arguments: D::Arguments) -> anyhow::Result<()> {
        self.arguments.send_replace(Arc::new(arguments));
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let mechanism = [("mechanism", D::NAME.trim_start_matches("discovery."))];
        let figures = &self.figures;
        let failures = figures.failures.load(Relaxed);
        let help = "Number of refresh failures for the given SD mechanism.";
        page.counter("prometheus_sd_refresh_failures_total", help, &mechanism, failures);
        let help = "The duration of a SD refresh cycle for the given mechanism.";
        page.histogram("prometheus_sd_refresh_duration_seconds", help, &mechanism, &figures.seconds);
        let help = "Current number of discovered targets.";
        page.gauge("prometheus_sd_discovered_targets", help, &[], figures.targets.load(Relaxed) as f64);
        self.discover.collect(page, figures);
    }
}

impl<D: Discover> Refreshed<D> {
    fn handle_look(&self, looked: Looked) {
        // It is good after every step.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let places = known.len();
        known.retain(|place, _| looked.contains_key(place));
        let mut has_changed = known.len() != places;
        for (place, outcome) in looked {
            if !matches!(outcome, Outcome::Unchanged) {
                self.figures.looks.fetch_add(1, Relaxed);
            }
            let before = known.entry(place.clone()).or_default();
            match outcome {
                Outcome::Unchanged => {}
                Outcome::Targets(mut targets) => {
                    targets.sort_unstable();
                    targets.dedup();
                    let targets = target_values(&targets, &before.targets);
                    if before.trouble.take().is_some() {
                        tracing::info!(component_id = &*self.id, place, "targets can be read again");
                    }
                    if before.targets != targets {
                        before.targets = targets;
                        has_changed = true;
                    }
                }
                Outcome::Failed(error) => {
                    self.figures.failures.fetch_add(1, Relaxed);
                    if before.trouble.as_ref() != Some(&error) {
                        tracing::error!(
                            component_id = &*self.id,
                            place,
                            error,
                            "cannot read targets, keeping the last good ones"
                        );
                    }
                    before.trouble = Some(error);
                }
            }
        }
        let troubles =
            known.iter().filter_map(|(place, known)| Some(format!("{place}: {}", known.trouble.as_ref()?)));
        let troubles: Vec<String> = troubles.collect();
        if troubles.is_empty() {
            self.health.ok();
        } else {
            self.health.unhealthy(troubles.join("; "));
        }
        if has_changed {
            // Nothing is found in two places: each target says where it is from.
            let targets: Vec<Value> = known.values().flat_map(|known| &known.targets).cloned().collect();
            self.figures.targets.store(targets.len(), Relaxed);
            self.exports.set("targets", Value::array(targets));
        }
    }
}
