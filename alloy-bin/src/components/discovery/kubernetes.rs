//! `discovery.kubernetes`: targets from the objects of a Kubernetes API, with Prometheus' labels.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Value;
use crate::graph::{Component, Context, ExportType, Exports, Health, export, target_values};
use crate::kubernetes::{Api, Object, Role, Sources, Tally, Wanted};
use crate::telemetry::{Page, Target};

mod arguments;

/// How long changes are collected before they are looked at.
const COLLECT: Duration = Duration::from_millis(500);
/// From one export to the next, as in Prometheus: while pods come and go all the time, the rest of the agent hears of it this often.
const EXPORT_EVERY: Duration = Duration::from_secs(5);

/// The component.
pub struct Kubernetes {
    id: Arc<str>,
    exports: Exports,
    health: Health,
    arguments: watch::Sender<Arc<Wanted>>,
    known: Mutex<Known>,
    targets: AtomicUsize,
}

/// What was made of objects last.
#[derive(Default)]
struct Known {
    sources: Option<Arc<Sources>>,
    /// Of what `groups` were made, besides their own objects.
    others: Option<u64>,
    /// By the object's key: the object, and the targets of it as they are exported, sorted.
    groups: BTreeMap<Box<str>, Group>,
}

type Group = (Arc<dyn Any + Send + Sync>, Vec<Value>);

#[async_trait]
impl Component for Kubernetes {
    const NAME: &'static str = "discovery.kubernetes";
    const EXPORTS: &'static [ExportType] = &[("targets", export::targets)];
    type Arguments = Wanted;

    fn build(arguments: Wanted, context: Context) -> anyhow::Result<Self> {
        let Context { id, exports, health, .. } = context;
        // Nothing is asked before it runs, but where the server is has to be known.
        Api::shared(&arguments.access)?;
        exports.set("targets", Value::array([]));
        Ok(Kubernetes {
            id,
            exports,
            health,
            arguments: watch::Sender::new(Arc::new(arguments)),
            known: Mutex::default(),
            targets: AtomicUsize::new(0),
        })
    }

    async fn run(&self, stop: CancellationToken) {
        let mut arguments = self.arguments.subscribe();
        let mut exported = None;
        loop {
            let now = arguments.borrow_and_update().clone();
            let sources = match Sources::new(&now, &self.id) {
                Ok(sources) => Arc::new(sources),
                Err(error) => {
                    // It was found when they were given, and is gone since.
                    self.health.unhealthy(format!("{error:#}"));
                    tokio::select! {
                        () = stop.cancelled() => return,
                        _ = arguments.changed() => continue,
                        () = tokio::time::sleep(EXPORT_EVERY) => continue,
                    }
                }
            };
            // The old ones go after that: what both watch is watched on.
            (self.lock().others, self.lock().sources) = (None, Some(sources.clone()));
            let mut changes = sources.api.changes();
            changes.mark_changed();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = arguments.changed() => break,
                    _ = changes.changed() => {}
                }
                let at = exported.map_or(Instant::now(), |last| last + EXPORT_EVERY);
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = arguments.changed() => break,
                    () = tokio::time::sleep_until(at.max(Instant::now() + COLLECT)) => {}
                }
                changes.mark_unchanged();
                if self.look(&sources) {
                    exported = Some(Instant::now());
                }
            }
        }
    }

    fn update(&self, arguments: Wanted) -> anyhow::Result<()> {
        Api::shared(&arguments.access)?;
        self.arguments.send_if_modified(|before| {
            let is_other = **before != arguments;
            if is_other {
                *before = Arc::new(arguments);
            }
            is_other
        });
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let help = "Current number of discovered targets.";
        page.gauge("prometheus_sd_discovered_targets", help, &[], self.targets.load(Relaxed) as f64);
        let Some(sources) = self.lock().sources.clone() else { return };
        for (role, Tally { added, updated, deleted }) in sources.tallies() {
            for (event, count) in [("add", added), ("update", updated), ("delete", deleted)] {
                let help = "The number of Kubernetes events handled.";
                let labels = [("role", role), ("event", event)];
                page.counter("prometheus_sd_kubernetes_events_total", help, &labels, count.load(Relaxed));
            }
        }
    }
}

impl Kubernetes {
    /// Exports the targets as they are now, if they are others. True: they were.
    fn look(&self, sources: &Sources) -> bool {
        let troubles = sources.troubles();
        if troubles.is_empty() {
            self.health.ok();
        } else {
            self.health.unhealthy(format!("targets may be out of date: {}", troubles.join("; ")));
        }
        // What was found before goes on until all is known.
        if !sources.are_complete() {
            return false;
        }
        let mut known = self.lock();
        let others = sources.others();
        if known.others != Some(others) {
            known.others = Some(others);
            // Made anew, but what comes out the same stays the same value.
            known.groups.values_mut().for_each(|group| group.0 = Arc::new(()));
        }
        let has_changed = match sources.wanted.role {
            Role::Pod => known.update(sources.pods.all(), |pod| sources.pod(pod)),
            Role::Node => known.update(sources.nodes.all(), |node| sources.node(node)),
            Role::Service => known.update(sources.services.all(), |service| sources.service(service)),
            Role::Endpoints => {
                known.update(sources.endpoints.all(), |endpoints| sources.endpoints(endpoints))
            }
            Role::EndpointSlice => known.update(sources.slices.all(), |slice| sources.slice(slice)),
            Role::Ingress => known.update(sources.ingresses.all(), |ingress| sources.ingress(ingress)),
        };
        if has_changed {
            let targets: Vec<Value> =
                known.groups.values().flat_map(|(_, targets)| targets).cloned().collect();
            self.targets.store(targets.len(), Relaxed);
            self.exports.set("targets", Value::array(targets));
        }
        has_changed
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // It is good after every step.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Makes targets of the objects that are new or others. True: the targets are others.
    fn update<T: Object>(
        &mut self,
        objects: Vec<(Box<str>, Arc<T>)>,
        make: impl Fn(&T) -> Vec<Target>,
    ) -> bool {
        let keys: BTreeSet<&str> = objects.iter().map(|(key, _)| &**key).collect();
        let mut has_changed = false;
        self.groups.retain(|key, (_, targets)| {
            let stays = keys.contains(&**key);
            has_changed |= !stays && !targets.is_empty();
            stays
        });
        for (key, object) in objects {
            let old = self.groups.get(&key);
            let place = |any: &Arc<dyn Any + Send + Sync>| Arc::as_ptr(any).addr();
            if old.is_some_and(|(made_of, _)| place(made_of) == Arc::as_ptr(&object).addr()) {
                continue;
            }
            let mut targets = make(&object);
            targets.sort_unstable();
            let before = old.map_or(&[][..], |(_, targets)| targets);
            let targets = target_values(&targets, before);
            has_changed |= targets != before;
            self.groups.insert(key, (object, targets));
        }
        has_changed
    }
}
