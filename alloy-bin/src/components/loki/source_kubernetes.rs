//! `loki.source.kubernetes`: logs of containers through the Kubernetes API, each line once, shared among the cluster's members.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::follow::Follower;
use self::position::Position;
use self::targets::{Container, containers};
use super::reach::reach;
use super::saved::Saved;
use crate::config::{Body, Decode};
use crate::graph::{Component, Context, ExportType, Fanout, LogsReceiver};
use crate::kubernetes::{Access, Api};
use crate::ownership::{Inherited, Shard, Sharing, Turn};
use crate::telemetry::{Labels, LogBatch, Page, Target};

mod follow;
mod position;
mod targets;

/// How often positions are saved if they have changed. A power loss costs at most what was read since.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// So many containers are begun at once.
const BEGINS: usize = 16;
/// What followers have to say and is not heard yet.
const EVENTS: usize = 1024;

/// What the block says.
#[derive(Clone)]
pub struct Arguments {
    targets: Vec<Target>,
    forward_to: Vec<LogsReceiver>,
    access: Access,
    sharing: Sharing,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        Arguments {
            targets: body.required("targets"),
            forward_to: body.required("forward_to"),
            access: body.block("client").unwrap_or_default(),
            sharing: body.block("clustering").unwrap_or_default(),
        }
    }
}

/// The component.
pub struct SourceKubernetes {
    context: Context,
    figures: Arc<Figures>,
    arguments: watch::Sender<Arc<Arguments>>,
}

/// What is counted.
#[derive(Default)]
struct Figures {
    lines: AtomicU64,
    unreadable: AtomicU64,
    refused: AtomicU64,
    following: AtomicU64,
}

/// What a follower says.
enum Event {
    /// All before that position is in custody.
    Progress { key: u64, position: Position },
    /// It cannot be read now; `None`: it can.
    Trouble { key: u64, trouble: Option<String> },
}

#[async_trait]
impl Component for SourceKubernetes {
    const NAME: &'static str = "loki.source.kubernetes";
    const EXPORTS: &'static [ExportType] = &[];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        Api::shared(&arguments.access)?;
        let arguments = watch::Sender::new(Arc::new(arguments));
        Ok(SourceKubernetes { context, figures: Arc::default(), arguments })
    }

    async fn run(&self, stop: CancellationToken) {
        let mut arguments = self.arguments.subscribe();
        while !stop.is_cancelled() {
            let now = arguments.borrow_and_update().clone();
            if let Some(api) = reach(&now.access, &self.context.health, &mut arguments, &stop).await {
                // Ends early when containers are to be read or shared in another way.
                Driver::new(self, now, api).run(&mut arguments, &stop).await;
            }
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        Api::shared(&arguments.access)?;
        self.arguments.send_replace(Arc::new(arguments));
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let Figures { lines, unreadable, refused, following } = &*self.figures;
        let counters = [
            ("loki_source_kubernetes_lines_total", "Lines that were forwarded.", lines),
            ("loki_source_kubernetes_unreadable_lines_total", "Lines without a time, left out.", unreadable),
            ("loki_source_kubernetes_refusals_total", "How often a receiver had no room.", refused),
        ];
        for (name, help, value) in counters {
            page.counter(name, help, &[], value.load(Relaxed));
        }
        let help = "Containers whose logs are read here.";
        page.gauge("loki_source_kubernetes_containers", help, &[], following.load(Relaxed) as f64);
    }
}

/// A container that is read.
struct Running {
    stop: CancellationToken,
    /// Of its lines from now on.
    labels: watch::Sender<Labels>,
}

struct Driver {
    context: Context,
    figures: Arc<Figures>,
    arguments: Arc<Arguments>,
    api: Arc<Api>,
    shard: Shard,
    fanout: Fanout<LogBatch>,
    containers: BTreeMap<u64, Container>,
    running: HashMap<u64, Running>,
    followers: JoinSet<(u64, Option<Position>)>,
    begins: Arc<Semaphore>,
    saved: Saved<Position>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    troubles: BTreeMap<u64, String>,
    save_trouble: Option<String>,
}

impl Driver {
    fn new(component: &SourceKubernetes, arguments: Arc<Arguments>, api: Arc<Api>) -> Self {
        let context = component.context.clone();
        let (saved, error) = Saved::load(&context.storage);
        if let Some(error) = error {
            tracing::error!(component = %context.id, error, "saved positions are lost, logs are read from their beginning");
        }
        Driver {
            shard: context.ownership.shard_of_files(&context.id, arguments.sharing),
            fanout: Fanout::new(arguments.forward_to.clone()),
            containers: containers(&arguments.targets, &context.id),
            figures: component.figures.clone(),
            context,
            arguments,
            api,
            running: HashMap::new(),
            followers: JoinSet::new(),
            begins: Arc::new(Semaphore::new(BEGINS)),
            saved,
            events: mpsc::channel(EVENTS),
            troubles: BTreeMap::new(),
            save_trouble: None,
        }
    }

    async fn run(mut self, arguments: &mut watch::Receiver<Arc<Arguments>>, stop: &CancellationToken) {
        self.set_keys();
        let mut save_at = Instant::now() + SAVE_EVERY;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = arguments.changed() => {
                    let new = arguments.borrow().clone();
                    let fanout = Fanout::new(new.forward_to.clone());
                    let old = &self.arguments;
                    if new.sharing != old.sharing || new.access != old.access || !fanout.leads_to(&self.fanout) {
                        arguments.mark_changed();
                        break;
                    }
                    arguments.mark_unchanged();
                    self.set_containers(&new.targets);
                    self.arguments = new;
                }
                turn = self.shard.next() => self.handle_turn(turn),
                Some(event) = self.events.1.recv() => self.handle_event(event),
                Some(ended) = self.followers.join_next() => {
                    let (key, position) = finished(ended);
                    self.handle_ended(key, position);
                    self.shard.end_tenure(key, position.map(|position| position.encode(0)));
                }
                () = tokio::time::sleep_until(save_at) => {
                    self.saved.keep(self.running.keys().map(|key| name(*key)));
                    self.save_trouble = self.saved.start_save(&self.fanout).await.err().map(|error| error.to_string());
                    self.tell_health();
                    save_at = Instant::now() + SAVE_EVERY;
                }
            }
        }
        self.stop().await;
    }

    fn set_containers(&mut self, targets: &[Target]) {
        let new = containers(targets, &self.context.id);
        for (key, running) in &self.running {
            if let Some(new) = new.get(key) {
                running.labels.send_replace(new.labels.clone());
            }
        }
        self.containers = new;
        self.set_keys();
    }

    fn set_keys(&self) {
        let keys = self.containers.iter().map(|(key, container)| (*key, container.title()));
        self.shard.set_keys(keys.collect());
    }

    fn handle_turn(&mut self, turn: Turn) {
        match turn {
            Turn::Start { key, state, .. } => self.start(key, state.as_ref()),
            Turn::Stop { key } => match self.running.get(&key) {
                Some(running) => running.stop.cancel(),
                None => self.shard.end_tenure(key, None),
            },
            // No owner asks others for it.
            Turn::Try { .. } => {}
        }
    }

    fn start(&mut self, key: u64, state: Option<&Bytes>) {
        let Some(container) = self.containers.get(&key).cloned() else {
            // It has gone from the targets since the turn was made.
            self.shard.end_tenure(key, state.cloned());
            return;
        };
        let inherited = state.map(Inherited::decode).unwrap_or_default();
        let batches: Vec<(Position, u32)> =
            inherited.batches.iter().filter_map(|batch| Position::decode(batch)).collect();
        let custody = inherited.custody.as_deref().and_then(Position::decode);
        let first = batches.first().copied().or(custody).map(|(position, _)| position);
        let saved = || self.saved.get(&name(key)).copied();
        let position = first.or_else(saved);
        let from_ns =
            position.filter(|position| position.nth > 0).map_or(i64::MIN, |position| position.max_ns);
        let tenure = self.shard.begin_tenure(key, state, from_ns, now_ns());
        let stop = CancellationToken::new();
        let labels = watch::Sender::new(container.labels.clone());
        let mine = labels.subscribe();
        self.running.insert(key, Running { stop: stop.clone(), labels });
        self.figures.following.store(self.running.len() as u64, Relaxed);
        let follower = Follower {
            api: self.api.clone(),
            component: self.context.id.clone(),
            key,
            container,
            labels: mine,
            fanout: self.fanout.clone(),
            figures: self.figures.clone(),
            begins: self.begins.clone(),
            events: self.events.0.clone(),
            stop,
            tenure,
            position,
            repeats: batches.into_iter().map(|(_, lines)| lines).collect(),
            sequence: 0,
        };
        let is_shared = self.arguments.sharing == Sharing::Clustered;
        let fanout = self.fanout.clone();
        self.followers.spawn(async move {
            let ended = follower.run().await;
            if is_shared {
                // What is not delivered by then the next owner sends again.
                fanout.flush().await;
            }
            ended
        });
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Progress { key, position } => {
                self.saved.set(&name(key), position);
                self.shard.note_custody(key, position.encode(0), position.max_ns, None);
            }
            Event::Trouble { key, trouble: None } => _ = self.troubles.remove(&key),
            Event::Trouble { key, trouble: Some(error) } => {
                if self.troubles.insert(key, error.clone()).is_none() {
                    let container = self.containers.get(&key).map(Container::title);
                    tracing::warn!(component = %self.context.id, container, error, "cannot read the container's log, trying again");
                }
            }
        }
    }

    fn handle_ended(&mut self, key: u64, position: Option<Position>) {
        self.running.remove(&key);
        self.troubles.remove(&key);
        self.figures.following.store(self.running.len() as u64, Relaxed);
        if let Some(position) = position {
            self.saved.set(&name(key), position);
        }
    }

    fn tell_health(&self) {
        let health = &self.context.health;
        match (&self.save_trouble, self.troubles.first_key_value()) {
            (Some(error), _) => health.unhealthy(format!("cannot save positions: {error}")),
            (None, Some((_, error))) => {
                let count = self.troubles.len();
                health.unhealthy(format!("the logs of {count} containers cannot be read: {error}"));
            }
            (None, None) => health.ok(),
        }
    }

    async fn stop(mut self) {
        self.running.values().for_each(|running| running.stop.cancel());
        loop {
            tokio::select! {
                // They may have to wait to be heard.
                Some(event) = self.events.1.recv() => self.handle_event(event),
                ended = self.followers.join_next() => {
                    let Some(ended) = ended else { break };
                    let (key, position) = finished(ended);
                    self.handle_ended(key, position);
                    self.shard.stopped_for_good(key, position.map(|position| position.encode(0)));
                }
            }
        }
        self.saved.finish(&self.fanout).await;
    }
}

/// In the file of positions.
fn name(key: u64) -> String {
    format!("{key:016x}")
}

fn now_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}

/// What a task of ours gave; its panic goes on here.
fn finished<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests;
