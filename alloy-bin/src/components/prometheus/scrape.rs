//! `prometheus.scrape`: scrapes its share of the targets in their slots and passes each page on.

mod arguments;
mod fallback;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::arguments::Arguments;
use self::fallback::{Failures, Fallback};
use crate::formats::accept_header;
use crate::graph::{Component, Context, ExportType, Fanout, Health, MadeOf, Removal};
use crate::http_client::HttpClient;
use crate::ownership::{Shard, Sharing, Turn};
use crate::scraping::{
    self, Before, Common, Compression, Ended, Fetcher, Limits, ScrapeFigures, Series, Settings, SlotFile,
    Spec, SpecError,
};
use crate::telemetry::{Page, SampleBatch, Target};

/// The component.
pub struct Scrape {
    id: Arc<str>,
    sharing: Sharing,
    slots: Arc<SlotFile>,
    shard: Shard,
    figures: Arc<ScrapeFigures>,
    /// `None` until the arguments are first adopted.
    plan: Mutex<Option<Arc<Plan>>>,
    replanned: Notify,
    running: AtomicUsize,
    moved: AtomicU64,
    health: Health,
    removal: Removal,
}

/// What the arguments mean for each target.
struct Plan {
    targets: HashMap<u64, Arc<Spec>>,
    /// The same by what they are made of.
    made: MadeOf<Result<Arc<Spec>, SpecError>>,
    common: Common,
    fetcher: Fetcher,
    way: Way,
}

/// What they mean for all targets alike.
#[derive(Clone)]
struct Way {
    settings: Arc<Settings>,
    receivers: Fanout<SampleBatch>,
    falls_back: bool,
}

impl Way {
    fn is_as(&self, other: &Way) -> bool {
        let same_settings = Arc::ptr_eq(&self.settings, &other.settings) || self.settings == other.settings;
        same_settings && self.receivers.leads_to(&other.receivers) && self.falls_back == other.falls_back
    }
}

impl Scrape {
    /// Targets that cannot be scraped are reported and left out; the others go on.
    fn plan(&self, arguments: Arguments) -> Plan {
        let falls_back = arguments.falls_back;
        let params = arguments.params.into_iter();
        let params =
            params.flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)));
        let common = Common {
            scheme: arguments.scheme,
            path: arguments.metrics_path,
            params: params.collect(),
            job: arguments.job_name.unwrap_or_else(|| self.id.to_string()),
            excluded_labels: arguments.excluded_labels,
        };
        let before = self.plan.lock().expect("no code panics while holding it").clone();
        let none = MadeOf::default();
        let made =
            before.as_ref().filter(|before| before.common == common).map_or(&none, |before| &before.made);
        let spec = |target: &Target| Spec::new(target, &common).map(Arc::new);
        let (made, specs) = MadeOf::new(&arguments.targets, made, spec);
        let mut targets = HashMap::with_capacity(specs.len());
        let mut errors = Vec::new();
        for spec in specs {
            match spec {
                Ok(spec) => {
                    targets.insert(spec.key, spec);
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        match errors.first() {
            Some(first) => {
                tracing::warn!(
                    component_id = &*self.id,
                    targets = errors.len(),
                    first,
                    "targets cannot be scraped and are left out"
                );
                self.health
                    .unhealthy(format!("{} targets cannot be scraped; the first: {first}", errors.len()));
            }
            None => self.health.ok(),
        }
        let settings = Settings {
            interval: arguments.interval,
            http: arguments.http,
            limits: Limits {
                timeout: arguments.timeout,
                body_bytes: if arguments.body_size_limit.0 == 0 {
                    usize::MAX
                } else {
                    arguments.body_size_limit.0 as usize
                },
                compression: if arguments.compression { Compression::Gzip } else { Compression::Identity },
            },
            accept: accept_header(&arguments.protocols, arguments.escaping),
            fallback: arguments.fallback,
            policy: arguments.policy,
            extra_metrics: arguments.extra_metrics,
            refusal: too_many(targets.len(), arguments.target_limit),
        };
        // Targets that stay keep their connections.
        let fetcher = match before.as_ref().filter(|before| before.way.settings.http == settings.http) {
            Some(before) => before.fetcher.clone(),
            None => Fetcher::new(HttpClient::new(&settings.http)),
        };
        let settings = match before.filter(|before| *before.way.settings == settings) {
            Some(before) => before.way.settings.clone(),
            None => Arc::new(settings),
        };
        let way = Way { settings, receivers: Fanout::new(arguments.forward_to), falls_back };
        Plan { targets, made, common, fetcher, way }
    }

    fn adopt(&self, arguments: Arguments) {
        let plan = Arc::new(self.plan(arguments));
        let names: Vec<_> = plan.targets.values().map(|spec| (spec.key, spec.name.clone())).collect();
        // The plan comes first: a target that has to stop looks into it whether it is gone or only moves.
        *self.plan.lock().expect("no code panics while holding it") = Some(plan);
        self.shard.set_keys(names);
        self.replanned.notify_one();
    }

    fn current(&self) -> Arc<Plan> {
        let plan = self.plan.lock().expect("no code panics while holding it");
        plan.clone().expect("build adopts arguments before anything runs")
    }

    /// The last slot that this agent took before a restart. After a longer absence every target waits for its next slot:
    /// to catch all of them up would be to scrape them all at once.
    fn last_life(&self, key: u64, settings: &Settings) -> Option<i64> {
        let absence_ms = 2 * settings.interval.as_millis() as i64;
        self.slots.last_life(key).filter(|slot_ms| scraping::now_ms() - slot_ms < absence_ms)
    }

    /// Starts a target, if the plan still has it.
    fn begin(&self, targets: &mut HashMap<u64, Life>, key: u64, before: Before) {
        let plan = self.current();
        let Some(spec) = plan.targets.get(&key).cloned() else {
            // Gone between two lines: the shard will ask to stop it, and is answered then.
            return;
        };
        let stop = CancellationToken::new();
        let shared = (plan.fetcher.clone(), plan.way.receivers.clone(), self.figures.clone());
        let done_ms = before.done_ms.or_else(|| self.last_life(key, &plan.way.settings));
        if let (Some(slot_ms), Series::Handed(_)) = (done_ms, &before.series) {
            // What was handed over is not needed twice: the successor's copy has the slot alone.
            self.shard.update_state(key, encode(slot_ms, &[]));
        }
        let before = Before { done_ms, ..before };
        let (keep, slots) = (self.shard.keeper(), self.slots.clone());
        let failures =
            plan.way.falls_back.then(|| Failures::new(key, self.shard.keeper(), spec.name.clone()));
        let taken = move |slot_ms: i64, error: Option<String>| {
            keep.update_state(key, encode(slot_ms, &[]));
            if let Some(failures) = &failures {
                failures.note(error.is_none());
            }
            keep.note(key, slot_ms, error);
            if let Err(error) = slots.note(key, slot_ms) {
                tracing::debug!(%error, "cannot note a slot; a restart will wait for the target's next one");
            }
        };
        let life =
            scraping::live(spec.clone(), plan.way.settings.clone(), shared, before, taken, stop.clone());
        targets.insert(key, Life { task: tokio::spawn(life), stop, spec, way: plan.way.clone() });
    }

    /// Brings running targets in line with new arguments: those whose page, pace or receivers have changed begin anew.
    async fn replan(&self, targets: &mut HashMap<u64, Life>) {
        let plan = self.current();
        let changed = targets.iter().filter(|(key, life)| {
            let same = |spec: &Arc<Spec>| {
                Arc::ptr_eq(spec, &life.spec) || spec.url == life.spec.url && spec.labels == life.spec.labels
            };
            plan.targets.get(key).is_some_and(|spec| !same(spec) || !plan.way.is_as(&life.way))
        });
        let changed: Vec<u64> = changed.map(|(key, _)| *key).collect();
        for key in &changed {
            targets[key].stop.cancel();
        }
        for key in changed {
            let Some(life) = targets.remove(&key) else { continue };
            let before = ended(life.task.await).map(Ended::into_before).unwrap_or_default();
            self.begin(targets, key, before);
        }
    }

    /// A target has stopped: ends its series if it is gone for good, and answers the shard.
    async fn finish(&self, key: u64, mut ended: Option<Ended>) {
        let plan = self.current();
        if let Err(error) = self.slots.forget(key) {
            tracing::debug!(component_id = &*self.id, %error, "cannot forget a slot");
        }
        if let Some(ended) = &mut ended
            && !plan.targets.contains_key(&key)
        {
            self.end_series(ended).await;
        }
        let state = ended.and_then(|ended| Some((ended.last_slot_ms?, ended.series().unwrap_or_default())));
        self.shard.stopped(key, state.map(|(slot_ms, series)| encode(slot_ms, &series)));
    }

    /// The target is gone for good.
    async fn end_series(&self, ended: &mut Ended) {
        if let Err(error) = self.current().way.receivers.offer(&ended.farewell()).await {
            tracing::debug!(component_id = &*self.id, %error, "the end of a target's series was refused");
        }
    }
}

/// As Prometheus does: over the limit, all targets are down.
fn too_many(targets: usize, limit: usize) -> Option<String> {
    (limit > 0 && targets > limit).then(|| format!("{targets} targets are more than {limit} (target_limit)"))
}

/// Where the last slots are kept. Targets that had none for a day are forgotten.
fn open_slots(storage: &Path) -> anyhow::Result<Arc<SlotFile>> {
    const FORGET_AFTER_MS: i64 = 86_400_000;
    let slots = SlotFile::open(storage, scraping::now_ms(), FORGET_AFTER_MS);
    Ok(Arc::new(slots.with_context(|| format!("cannot keep slots in {}", storage.display()))?))
}

/// A target that is running here.
struct Life {
    task: JoinHandle<Ended>,
    stop: CancellationToken,
    spec: Arc<Spec>,
    way: Way,
}

/// A target's end; a panic of its task is one too, without anything to hand over.
fn ended(result: Result<Ended, tokio::task::JoinError>) -> Option<Ended> {
    result.inspect_err(|error| tracing::error!(%error, "a target's task has failed")).ok()
}

/// A target's state for its next owner: the last slot that was taken, and if it has stopped the series of that slot.
fn encode(slot_ms: i64, series: &[u8]) -> Bytes {
    [&slot_ms.to_le_bytes(), series].concat().into()
}

fn decode(mut state: Bytes) -> Before {
    let Some(slot) = state.first_chunk() else { return Before::default() };
    let done_ms = Some(i64::from_le_bytes(*slot));
    let series = state.split_off(8);
    Before { done_ms, series: if series.is_empty() { Series::Unknown } else { Series::Handed(series) } }
}

#[async_trait]
impl Component for Scrape {
    const NAME: &'static str = "prometheus.scrape";
    const EXPORTS: &'static [ExportType] = &[];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let scrape = Scrape {
            shard: context.ownership.shard(&context.id, arguments.sharing),
            id: context.id,
            slots: open_slots(&context.storage)?,
            sharing: arguments.sharing,
            figures: Arc::default(),
            plan: Mutex::default(),
            replanned: Notify::new(),
            running: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            health: context.health,
            removal: context.removal,
        };
        scrape.adopt(arguments);
        Ok(scrape)
    }

    async fn run(&self, stop: CancellationToken) {
        let mut targets: HashMap<u64, Life> = HashMap::new();
        let mut stopping = JoinSet::new();
        let mut fallback = Fallback::new(self);
        loop {
            self.running.store(targets.len(), Ordering::Relaxed);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.replanned.notified() => self.replan(&mut targets).await,
                turn = self.shard.next() => match turn {
                    Turn::Start { key, state, .. } => self.begin(&mut targets, key, state.map(decode).unwrap_or_default()),
                    Turn::Stop { key } => match targets.remove(&key) {
                        Some(life) => {
                            life.stop.cancel();
                            let receivers = self.current().way.receivers.clone();
                            stopping.spawn(async move {
                                let ended = ended(life.task.await);
                                receivers.flush().await;
                                (key, ended)
                            });
                        }
                        None => self.shard.stopped(key, None),
                    },
                    Turn::Try { key } => fallback.try_one(key),
                },
                () = fallback.work() => {}
                Some(stopped) = stopping.join_next() => if let Ok((key, ended)) = stopped {
                    self.moved.fetch_add(u64::from(self.current().targets.contains_key(&key)), Ordering::Relaxed);
                    self.finish(key, ended).await;
                },
            }
        }
        targets.values().for_each(|life| life.stop.cancel());
        for life in targets.into_values() {
            let ended = ended(life.task.await);
            if let Some(mut ended) = ended
                && self.removal.is_announced()
            {
                self.end_series(&mut ended).await;
            }
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        anyhow::ensure!(
            arguments.sharing == self.sharing,
            "clustering can only be switched by a restart of the agent"
        );
        self.adopt(arguments);
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let figures = &self.figures;
        page.gauge(
            "prometheus_scrape_targets_gauge",
            "Targets that this component scrapes.",
            &[],
            self.running.load(Ordering::Relaxed) as f64,
        );
        page.counter(
            "prometheus_scrape_targets_moved_total",
            "Targets that have moved to another member of the cluster.",
            &[],
            count(&self.moved),
        );
        page.counter("alloy_scrape_pages_total", "Pages scraped.", &[], count(&figures.scrapes));
        page.counter(
            "alloy_scrape_failures_total",
            "Scrapes that brought no page.",
            &[],
            count(&figures.failures),
        );
        page.counter("alloy_scrape_samples_total", "Samples scraped.", &[], count(&figures.samples));
        page.counter(
            "alloy_scrape_refused_samples_total",
            "Samples that a receiver refused because its log was full.",
            &[],
            count(&figures.refused_samples),
        );
        page.counter(
            "alloy_scrape_slots_caught_up_total",
            "Slots taken late because their owner was gone.",
            &[],
            count(&figures.caught_up),
        );
        page.counter(
            "alloy_scrape_slots_missed_total",
            "Slots that nobody took.",
            &[],
            count(&figures.missed),
        );
    }
}

#[cfg(test)]
mod tests;
