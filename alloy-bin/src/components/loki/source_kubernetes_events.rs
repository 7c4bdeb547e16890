//! `loki.source.kubernetes_events`: the events of a Kubernetes cluster as lines, each once, shared among the cluster's members.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::lines::{Event, Shape};
use super::reach::reach;
use super::saved::Saved;
use crate::config::{Body, ConversionError, Decode, FromValue, Value};
use crate::graph::{Component, Context, ExportType, Fanout, LogsReceiver};
use crate::kubernetes::{Access, Api, Change, Selection, Watcher};
use crate::ownership::{Shard, Sharing, Turn};
use crate::telemetry::{LogBatch, Page};

mod lines;

/// How often positions are saved if they have changed.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What the block says.
#[derive(Clone)]
pub struct Arguments {
    forward_to: Vec<LogsReceiver>,
    shape: Shape,
    /// Empty: all, as one.
    namespaces: BTreeSet<String>,
    access: Access,
    sharing: Sharing,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Format {
    #[default]
    Logfmt,
    Json,
}

impl FromValue for Format {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(value, &[("logfmt", Format::Logfmt), ("json", Format::Json)])
    }
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let format: Format = body.optional("log_format", Format::default());
        let job = body.optional("job_name", "loki.source.kubernetes_events".to_owned());
        if job.is_empty() {
            body.error_at("job_name", "must not be empty");
        }
        let namespaces: Vec<String> = body.optional("namespaces", Vec::new());
        Arguments {
            forward_to: body.required("forward_to"),
            shape: Shape { is_json: format == Format::Json, job },
            namespaces: namespaces.into_iter().collect(),
            access: body.block("client").unwrap_or_default(),
            sharing: body.block("clustering").unwrap_or_default(),
        }
    }
}

/// The component.
pub struct SourceKubernetesEvents {
    context: Context,
    lines: Arc<AtomicU64>,
    arguments: watch::Sender<Arc<Arguments>>,
}

#[async_trait]
impl Component for SourceKubernetesEvents {
    const NAME: &'static str = "loki.source.kubernetes_events";
    const EXPORTS: &'static [ExportType] = &[];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        Api::shared(&arguments.access)?;
        let arguments = watch::Sender::new(Arc::new(arguments));
        Ok(SourceKubernetesEvents { context, lines: Arc::default(), arguments })
    }

    async fn run(&self, stop: CancellationToken) {
        let mut arguments = self.arguments.subscribe();
        while !stop.is_cancelled() {
            let now = arguments.borrow_and_update().clone();
            if let Some(api) = reach(&now.access, &self.context.health, &mut arguments, &stop).await {
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
        let help = "Events that were forwarded.";
        page.counter("loki_source_kubernetes_events_lines_total", help, &[], self.lines.load(Relaxed));
    }
}

/// The version behind the last event of a namespace that is in custody.
type Position = u64;

/// What a namespace's task says.
struct News {
    key: u64,
    position: Option<Position>,
    trouble: Option<String>,
}

struct Driver {
    context: Context,
    lines: Arc<AtomicU64>,
    arguments: Arc<Arguments>,
    api: Arc<Api>,
    shard: Shard,
    fanout: Fanout<LogBatch>,
    namespaces: BTreeMap<u64, String>,
    running: HashMap<u64, CancellationToken>,
    tasks: JoinSet<(u64, Option<Position>)>,
    saved: Saved<Position>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    troubles: BTreeMap<u64, String>,
    save_trouble: Option<String>,
}

impl Driver {
    fn new(component: &SourceKubernetesEvents, arguments: Arc<Arguments>, api: Arc<Api>) -> Self {
        let context = component.context.clone();
        let (saved, error) = Saved::load(&context.storage);
        if let Some(error) = error {
            tracing::error!(component = %context.id, error, "saved positions are lost, all events that there are come again");
        }
        let names = arguments.namespaces.iter().cloned();
        let all = arguments.namespaces.is_empty().then(String::new);
        let key = |name: &String| twox_hash::XxHash64::oneshot(0, name.as_bytes());
        Driver {
            shard: context.ownership.shard(&context.id, arguments.sharing),
            fanout: Fanout::new(arguments.forward_to.clone()),
            namespaces: names.chain(all).map(|name| (key(&name), name)).collect(),
            lines: component.lines.clone(),
            context,
            arguments,
            api,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            saved,
            news: mpsc::channel(64),
            troubles: BTreeMap::new(),
            save_trouble: None,
        }
    }

    async fn run(mut self, arguments: &mut watch::Receiver<Arc<Arguments>>, stop: &CancellationToken) {
        let title = |name: &String| if name.is_empty() { "all namespaces".to_owned() } else { name.clone() };
        self.shard.set_keys(self.namespaces.iter().map(|(key, name)| (*key, title(name))).collect());
        let mut save_at = Instant::now() + SAVE_EVERY;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = arguments.changed() => {
                    arguments.mark_changed();
                    break;
                }
                turn = self.shard.next() => match turn {
                    Turn::Start { key, state, .. } => self.start(key, state.as_ref()),
                    Turn::Stop { key } => match self.running.get(&key) {
                        Some(stop) => stop.cancel(),
                        None => self.shard.stopped(key, None),
                    },
                    // No owner asks others for it.
                    Turn::Try { .. } => {}
                },
                Some(news) = self.news.1.recv() => self.handle_news(news),
                Some(ended) = self.tasks.join_next() => self.handle_ended(ended),
                () = tokio::time::sleep_until(save_at) => {
                    self.saved.keep(self.arguments.namespaces.iter().cloned().chain([String::new()]));
                    self.save_trouble = self.saved.start_save(&self.fanout).await.err().map(|error| error.to_string());
                    self.tell_health();
                    save_at = Instant::now() + SAVE_EVERY;
                }
            }
        }
        self.running.values().for_each(CancellationToken::cancel);
        while !self.tasks.is_empty() {
            tokio::select! {
                // They may have to wait to be heard.
                Some(news) = self.news.1.recv() => self.handle_news(news),
                Some(ended) = self.tasks.join_next() => self.handle_ended(ended),
            }
        }
        self.saved.finish(&self.fanout).await;
    }

    fn start(&mut self, key: u64, state: Option<&Bytes>) {
        let Some(namespace) = self.namespaces.get(&key).cloned() else {
            self.shard.stopped(key, state.cloned());
            return;
        };
        let inherited = state.and_then(|state| Some(Position::from_le_bytes(state[..].try_into().ok()?)));
        let position = inherited.or_else(|| self.saved.get(&namespace).copied());
        let stop = CancellationToken::new();
        self.running.insert(key, stop.clone());
        let selection = Selection { namespace, ..Selection::default() };
        let version = position.map(|position| position.to_string().into());
        let reader = Reader {
            watcher: Watcher::new(self.api.clone(), selection, version),
            component: self.context.id.clone(),
            key,
            fanout: self.fanout.clone(),
            shape: self.arguments.shape.clone(),
            lines: self.lines.clone(),
            news: self.news.0.clone(),
            position,
            listed: Vec::new(),
        };
        let is_shared = self.arguments.sharing == Sharing::Clustered;
        self.tasks.spawn(async move {
            let fanout = reader.fanout.clone();
            let ended = reader.run(stop).await;
            if is_shared {
                fanout.flush().await;
            }
            ended
        });
    }

    fn handle_news(&mut self, news: News) {
        let News { key, position, trouble } = news;
        if let (Some(position), Some(namespace)) = (position, self.namespaces.get(&key)) {
            self.saved.set(namespace, position);
            self.shard.update_state(key, Bytes::copy_from_slice(&position.to_le_bytes()));
        }
        match trouble {
            Some(error) => _ = self.troubles.insert(key, error),
            None => _ = self.troubles.remove(&key),
        }
        self.tell_health();
    }

    fn handle_ended(&mut self, ended: Result<(u64, Option<Position>), tokio::task::JoinError>) {
        // Its panic goes on here.
        let (key, position) = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        self.running.remove(&key);
        self.troubles.remove(&key);
        self.shard.stopped(key, position.map(|position| Bytes::copy_from_slice(&position.to_le_bytes())));
    }

    fn tell_health(&self) {
        let health = &self.context.health;
        match (&self.save_trouble, self.troubles.first_key_value()) {
            (Some(error), _) => health.unhealthy(format!("cannot save positions: {error}")),
            (None, Some((_, error))) => health.unhealthy(format!("events cannot be read: {error}")),
            (None, None) => health.ok(),
        }
    }
}

/// Reads the events of one namespace, or of all.
struct Reader {
    watcher: Watcher<Event>,
    component: Arc<str>,
    key: u64,
    fanout: Fanout<LogBatch>,
    shape: Shape,
    lines: Arc<AtomicU64>,
    news: mpsc::Sender<News>,
    position: Option<Position>,
    /// Those of a list that are new, until it is complete: they are not listed in the order in which they happened.
    listed: Vec<(Event, Position)>,
}

impl Reader {
    async fn run(mut self, stop: CancellationToken) -> (u64, Option<Position>) {
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => break,
                change = self.watcher.next() => change,
            };
            // What is not taken by then is read again.
            tokio::select! {
                biased;
                () = self.handle(change) => {}
                () = stop.cancelled() => break,
            }
        }
        (self.key, self.position)
    }

    async fn handle(&mut self, change: Change<Event>) {
        match change {
            Change::Page { is_first, items, complete } => {
                if is_first {
                    self.listed.clear();
                }
                let behind = self.position.unwrap_or(0);
                let items = items.into_iter().map(|(event, version)| (event, number(&version)));
                self.listed.extend(items.filter(|(_, version)| *version > behind));
                let Some(version) = complete else { return };
                let mut events = std::mem::take(&mut self.listed);
                events.sort_by_key(|(_, version)| *version);
                let version = number(&version);
                if version < behind {
                    tracing::warn!(component = %self.component, version, behind,
                        "the API server is behind what was read: events since its backup may be missing");
                }
                self.deliver(events.iter().map(|(event, _)| event)).await;
                self.tell(Some(version), None).await;
            }
            Change::Applied(event, version) => {
                self.deliver([&event]).await;
                self.tell(Some(number(&version)), None).await;
            }
            // An event that expires is no news.
            Change::Deleted(_, version) | Change::Reached(version) => {
                self.tell(Some(number(&version)), None).await
            }
            Change::Trouble(error) => {
                tracing::warn!(component = %self.component, error, "cannot read events, trying again");
                self.tell(None, Some(error)).await;
            }
        }
    }

    async fn deliver<'e>(&self, events: impl IntoIterator<Item = &'e Event>) {
        let batch = lines::batch(&self.shape, &self.component, self.key, events);
        if !batch.is_empty() {
            self.fanout.deliver(&batch, |_| ()).await;
            self.lines.fetch_add(batch.len() as u64, Relaxed);
        }
    }

    async fn tell(&mut self, position: Option<Position>, trouble: Option<String>) {
        self.position = position.or(self.position);
        // The receiver is there as long as we are.
        let _ = self.news.send(News { key: self.key, position, trouble }).await;
    }
}

/// Versions are numbers that grow; the API promises that since 1.35, and it has always been so.
fn number(version: &str) -> Position {
    version.parse().unwrap_or(0)
}
