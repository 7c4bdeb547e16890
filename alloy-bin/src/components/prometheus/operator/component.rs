//! Watches monitors and what they select, and tells the scraper.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::scraper::Scraper;
use super::arguments::Arguments;
use super::monitor::Monitors;
use super::state::State;
use crate::graph::{Component, Context, ExportType, Health};
use crate::kubernetes::Api;
use crate::telemetry::Page;

/// How long changes are collected before they are looked at.
const COLLECT: Duration = Duration::from_millis(500);
/// From one plan to the next, as in Prometheus' discovery.
const PLAN_EVERY: Duration = Duration::from_secs(5);
/// Problems that the health names; the log has all.
const PROBLEMS_SHOWN: usize = 5;

/// The component made of a kind of monitor.
pub struct Operator<M: Monitors> {
    id: Arc<str>,
    scraper: Scraper,
    health: Health,
    arguments: RwLock<Arc<Arguments<M>>>,
    updated: Notify,
    monitors: AtomicUsize,
    problems: AtomicUsize,
}

#[async_trait]
impl<M: Monitors> Component for Operator<M> {
    const NAME: &str = M::NAME;
    const EXPORTS: &'static [ExportType] = &[];
    type Arguments = Arguments<M>;

    fn build(arguments: Arguments<M>, context: Context) -> anyhow::Result<Self> {
        // Nothing is asked before it runs, but where the server is has to be known.
        Api::shared(&arguments.access)?;
        Ok(Operator {
            scraper: Scraper::new(&context, arguments.clustering.sharing)?,
            id: context.id,
            health: context.health,
            arguments: RwLock::new(Arc::new(arguments)),
            updated: Notify::new(),
            monitors: AtomicUsize::new(0),
            problems: AtomicUsize::new(0),
        })
    }

    async fn run(&self, stop: CancellationToken) {
        tokio::join!(self.scraper.run(stop.clone()), self.find(stop));
    }

    fn update(&self, arguments: Arguments<M>) -> anyhow::Result<()> {
        self.scraper.check(arguments.clustering.sharing)?;
        Api::shared(&arguments.access)?;
        *self.arguments.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(arguments);
        self.updated.notify_one();
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        self.scraper.collect(page);
        let gauges = [
            ("alloy_operator_monitors", "Monitors that are selected.", &self.monitors),
            (
                "alloy_operator_problems",
                "Monitors and endpoints that cannot be scraped, and why not.",
                &self.problems,
            ),
        ];
        for (name, help, value) in gauges {
            page.gauge(name, help, &[], value.load(Relaxed) as f64);
        }
    }
}

impl<M: Monitors> Operator<M> {
    async fn find(&self, stop: CancellationToken) {
        let mut state: Option<State<M>> = None;
        loop {
            let arguments = self.arguments.read().unwrap_or_else(PoisonError::into_inner).clone();
            match State::new(arguments, state.take()) {
                Ok(new) => {
                    let state = state.insert(new);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.updated.notified() => {}
                        () = self.follow(state) => {}
                    }
                }
                Err(error) => {
                    // It was found when they were given, and is gone since.
                    self.health.unhealthy(format!("{error:#}"));
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.updated.notified() => {}
                        () = tokio::time::sleep(PLAN_EVERY) => {}
                    }
                }
            }
        }
    }

    /// Never ends. Cancelling it is safe.
    async fn follow(&self, state: &mut State<M>) {
        let mut changes = state.api.changes();
        loop {
            changes.mark_unchanged();
            let has_changed = self.look(state).await;
            let soonest = Instant::now() + if has_changed { PLAN_EVERY } else { COLLECT };
            let sync = (!state.has_begun).then(|| state.since + state.arguments.sync_timeout);
            let until = [state.secrets.until(), sync].into_iter().flatten().min();
            let wait = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                () = wait => {}
            }
            tokio::time::sleep_until(soonest.max(Instant::now() + COLLECT)).await;
        }
    }

    /// True: there is another plan.
    async fn look(&self, state: &mut State<M>) -> bool {
        state.make().await;
        state.watch(&self.id);
        let is_known = state.is_known();
        let is_late = state.since.elapsed() >= state.arguments.sync_timeout;
        // A plan with a part of the targets would leave the others to nobody.
        if !state.has_begun && !is_known && !is_late {
            self.show(state);
            return false;
        }
        state.has_begun = true;
        let has_changed = state.find();
        self.show(state);
        if has_changed {
            self.scraper.adopt(state.plan());
        }
        has_changed
    }

    fn show(&self, state: &mut State<M>) {
        let problems = state.problems();
        for problem in problems.iter().filter(|problem| !state.shown.contains(*problem)) {
            tracing::warn!(
                component_id = &*self.id,
                problem,
                "a monitor cannot be followed in full; the others are"
            );
        }
        self.monitors.store(state.monitors(), Relaxed);
        self.problems.store(problems.len(), Relaxed);
        let troubles = state.troubles();
        let shown: Vec<&str> = problems.iter().take(PROBLEMS_SHOWN).map(String::as_str).collect();
        let text = [
            (!troubles.is_empty()).then(|| format!("targets may be out of date: {}", troubles.join("; "))),
            (!problems.is_empty())
                .then(|| format!("{} problems with monitors: {}", problems.len(), shown.join("; "))),
        ];
        let text: Vec<String> = text.into_iter().flatten().collect();
        if text.is_empty() {
            self.health.ok()
        } else {
            self.health.unhealthy(text.join("; "))
        }
        state.shown = problems.into_iter().collect();
    }
}
