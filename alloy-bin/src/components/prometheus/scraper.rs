//! Scrapes this member's share of a component's targets in their slots, each in its own way, and passes each page on.

mod fallback;
mod options;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::fallback::{Failures, Fallback};
pub(super) use self::options::{Clustering, Options};
use crate::graph::{Context, Fanout, Removal};
use crate::http_client::HttpClient;
use crate::ownership::{Shard, Sharing, Turn};
use crate::scraping::{self, Before, Ended, Fetcher, ScrapeFigures, Series, Settings, SlotFile, Spec};
use crate::telemetry::{Page, SampleBatch};

/// The targets of one component.
pub(super) struct Scraper {
    id: Arc<str>,
    sharing: Sharing,
    slots: Arc<SlotFile>,
    shard: Shard,
    figures: Arc<ScrapeFigures>,
    plan: Mutex<Arc<Plan>>,
    replanned: Notify,
    running: AtomicUsize,
    moved: AtomicU64,
    removal: Removal,
}

/// All targets of the component, whoever scrapes them.
pub(super) struct Plan {
    /// By their keys.
    pub(super) targets: HashMap<u64, (Arc<Spec>, Arc<Way>)>,
    /// Who hears of the end of targets that are gone.
    pub(super) receivers: Fanout<SampleBatch>,
    /// How often this member tries what others scrape for it; `None`: they do not.
    pub(super) fallback: Option<Duration>,
}

/// How a target is scraped.
pub(super) struct Way {
    settings: Arc<Settings>,
    receivers: Fanout<SampleBatch>,
    fetcher: Fetcher,
}

impl Way {
    /// `before`: of which connections are kept, if the client is the same.
    pub(super) fn new(settings: Settings, receivers: Fanout<SampleBatch>, before: Option<&Way>) -> Self {
        let fetcher = match before.filter(|before| before.settings.http == settings.http) {
            Some(before) => before.fetcher.clone(),
            None => Fetcher::new(HttpClient::new(&settings.http)),
        };
        let settings = match before.filter(|before| *before.settings == settings) {
            Some(before) => before.settings.clone(),
            None => Arc::new(settings),
        };
        Way { settings, receivers, fetcher }
    }

    fn is_as(&self, other: &Way) -> bool {
        let same_settings = Arc::ptr_eq(&self.settings, &other.settings) || self.settings == other.settings;
        same_settings && self.receivers.leads_to(&other.receivers)
    }
}

impl Scraper {
    pub(super) fn new(context: &Context, sharing: Sharing) -> anyhow::Result<Self> {
        Ok(Scraper {
            shard: context.ownership.shard(&context.id, sharing),
            id: context.id.clone(),
            slots: open_slots(&context.storage)?,
            sharing,
            figures: Arc::default(),
            plan: Mutex::new(Arc::new(Plan {
                targets: HashMap::new(),
                receivers: Fanout::new(Vec::new()),
                fallback: None,
            })),
            replanned: Notify::new(),
            running: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            removal: context.removal.clone(),
        })
    }

    /// Whether this can go on with other arguments.
    pub(super) fn check(&self, sharing: Sharing) -> anyhow::Result<()> {
        anyhow::ensure!(sharing == self.sharing, "clustering can only be switched by a restart of the agent");
        Ok(())
    }

    pub(super) fn adopt(&self, plan: Plan) {
        let names: Vec<_> = plan.targets.values().map(|(spec, _)| (spec.key, spec.name.clone())).collect();
        // The plan comes first: a target that has to stop looks into it whether it is gone or only moves.
        *self.plan.lock().expect("no code panics while holding it") = Arc::new(plan);
        self.shard.set_keys(names);
        self.replanned.notify_one();
    }

    pub(super) async fn run(&self, stop: CancellationToken) {
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
                            let receivers = self.current().receivers.clone();
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

    pub(super) fn collect(&self, page: &mut Page) {
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

    fn current(&self) -> Arc<Plan> {
        self.plan.lock().expect("no code panics while holding it").clone()
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
        let Some((spec, way)) = plan.targets.get(&key).cloned() else {
            // Gone between two lines: the shard will ask to stop it, and is answered then.
            return;
        };
        let stop = CancellationToken::new();
        let shared = (way.fetcher.clone(), way.receivers.clone(), self.figures.clone());
        let done_ms = before.done_ms.or_else(|| self.last_life(key, &way.settings));
        if let (Some(slot_ms), Series::Handed(_)) = (done_ms, &before.series) {
            // What was handed over is not needed twice: the successor's copy has the slot alone.
            self.shard.update_state(key, encode(slot_ms, &[]));
        }
        let before = Before { done_ms, ..before };
        let (keep, slots) = (self.shard.keeper(), self.slots.clone());
        let failures = plan.fallback.map(|_| Failures::new(key, self.shard.keeper(), spec.name.clone()));
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
        let life = scraping::live(spec.clone(), way.settings.clone(), shared, before, taken, stop.clone());
        let falls_back = plan.fallback.is_some();
        targets.insert(key, Life { task: tokio::spawn(life), stop, spec, way, falls_back });
    }

    /// Brings running targets in line with new arguments: those whose page, pace or receivers have changed begin anew.
    async fn replan(&self, targets: &mut HashMap<u64, Life>) {
        let plan = self.current();
        let changed = targets.iter().filter(|(key, life)| {
            let same = |spec: &Arc<Spec>| {
                Arc::ptr_eq(spec, &life.spec) || spec.url == life.spec.url && spec.labels == life.spec.labels
            };
            let falls_back = plan.fallback.is_some() == life.falls_back;
            let goes_on =
                |(spec, way): &(Arc<Spec>, Arc<Way>)| same(spec) && way.is_as(&life.way) && falls_back;
            plan.targets.get(key).is_some_and(|now| !goes_on(now))
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
        if let Err(error) = self.current().receivers.offer(&ended.farewell()).await {
            tracing::debug!(component_id = &*self.id, %error, "the end of a target's series was refused");
        }
    }
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
    way: Arc<Way>,
    falls_back: bool,
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
