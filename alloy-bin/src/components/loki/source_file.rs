//! `loki.source.file`: follows log files and hands their lines on, each once, shared among the cluster's members.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::graph::{Component, Context, Fanout, LogsReceiver};
use crate::ownership::{Origin, Ownership, Shard, Sharing, Turn};
use crate::tailing::{Begin, Bookmark, Bookmarks, Event, Limits, Metrics, Pool, PoolOptions, Position, Source};
use crate::telemetry::{Labels, Target};

/// How often bookmarks are saved if they have changed. A crash costs at most what was read since.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How long the last save waits for the receivers to be durable. Without it some lines are sent again.
const LAST_SAVE_MAX: Duration = Duration::from_secs(10);

/// The decoded block.
#[derive(Clone)]
pub struct Arguments {
    /// The files: each target's label `__path__` names one.
    pub targets: Vec<Target>,
    /// Who gets the lines.
    pub forward_to: Vec<LogsReceiver>,
    /// Begin files that have no position at their end.
    pub tail_from_end: bool,
    /// Where to begin when the saved positions can't be read.
    pub on_positions_file_error: OnPositionsFileError,
    /// How often files are looked at.
    pub file_watch: FileWatch,
    /// Whether the cluster's members split the files.
    pub sharing: Sharing,
}

/// Where to begin when the saved positions can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnPositionsFileError {
    /// With the first line: lines may be sent again, none is lost.
    #[default]
    RestartFromBeginning,
    /// With the next line: lines may be lost, none is sent again.
    RestartFromEnd,
    /// Not at all, until the agent is restarted.
    Skip,
}

/// How often files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileWatch {
    /// The wait after something was read.
    pub poll_min: Duration,
    /// The longest wait: it doubles while nothing changes.
    pub poll_max: Duration,
}

impl Default for FileWatch {
    /// A quarter of a second; a whole one when idle, so that ten thousand idle files cost little.
    fn default() -> Self {
        FileWatch { poll_min: Duration::from_millis(250), poll_max: Duration::from_secs(1) }
    }
}

/// The component.
pub struct SourceFile {
    id: Arc<str>,
    storage: PathBuf,
    ownership: Ownership,
    arguments: watch::Sender<Arc<Arguments>>,
    metrics: Arc<Metrics>,
}

#[async_trait]
impl Component for SourceFile {
    const NAME: &'static str = "loki.source.file";

    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        Ok(SourceFile {
            id: context.id,
            storage: context.storage,
            ownership: context.ownership,
            arguments: watch::Sender::new(Arc::new(arguments)),
            metrics: Arc::default(),
        })
    }

    async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let sharing = self.arguments.borrow().sharing;
            let shard = self.ownership.shard(&self.id, sharing);
            let arguments = self.arguments.subscribe();
            let (id, storage) = (Arc::clone(&self.id), self.storage.clone());
            // Ends early when the files are to be shared in another way: the keys need another shard.
            drive(id, storage, arguments, Arc::clone(&self.metrics), shard, &stop).await;
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        self.arguments.send_replace(Arc::new(arguments));
        Ok(())
    }
}

impl SourceFile {
    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

/// What the work needs of a [`Shard`].
trait Turns: Send {
    fn set_keys(&self, keys: Vec<(u64, String)>);
    fn next(&mut self) -> impl Future<Output = Turn> + Send;
    fn stopped(&self, key: u64, state: Option<Bytes>);
    fn update_state(&self, key: u64, state: Bytes);
}

impl Turns for Shard {
    fn set_keys(&self, keys: Vec<(u64, String)>) {
        Shard::set_keys(self, keys);
    }

    fn next(&mut self) -> impl Future<Output = Turn> + Send {
        Shard::next(self)
    }

    fn stopped(&self, key: u64, state: Option<Bytes>) {
        Shard::stopped(self, key, state);
    }

    fn update_state(&self, key: u64, state: Bytes) {
        Shard::update_state(self, key, state);
    }
}

/// Follows what is ours until `stop`, or until the files are to be shared in another way.
async fn drive(
    id: Arc<str>,
    storage: PathBuf,
    mut arguments: watch::Receiver<Arc<Arguments>>,
    metrics: Arc<Metrics>,
    mut turns: impl Turns,
    stop: &CancellationToken,
) {
    let now = arguments.borrow_and_update().clone();
    let mut driver = Driver::new(id, storage, now, metrics).await;
    turns.set_keys(driver.keys());
    let mut save_at = Instant::now() + SAVE_EVERY;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = arguments.changed() => {
                let new = arguments.borrow_and_update().clone();
                if changed.is_err() || new.sharing != driver.arguments.sharing {
                    break;
                }
                driver.set_arguments(new);
                turns.set_keys(driver.keys());
            }
            turn = turns.next() => driver.handle_turn(turn, &turns),
            event = driver.pool.next() => driver.handle_event(event, &turns),
            () = tokio::time::sleep_until(save_at) => {
                driver.start_save();
                save_at = Instant::now() + SAVE_EVERY;
            }
        }
    }
    driver.stop(&turns).await;
}

struct Driver {
    id: Arc<str>,
    storage: PathBuf,
    arguments: Arc<Arguments>,
    fanout: Fanout<crate::telemetry::LogBatch>,
    targets: BTreeMap<u64, Source>,
    bookmarks: Bookmarks,
    /// There were bookmarks, but they can't be read.
    are_bookmarks_lost: bool,
    pool: Pool,
    save: Option<JoinHandle<std::io::Result<()>>>,
    metrics: Arc<Metrics>,
}

impl Driver {
    async fn new(id: Arc<str>, storage: PathBuf, arguments: Arc<Arguments>, metrics: Arc<Metrics>) -> Self {
        let folder = storage.clone();
        let loaded = tokio::task::spawn_blocking(move || Bookmarks::load(&folder)).await;
        let loaded = loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let are_bookmarks_lost = loaded.is_err();
        let bookmarks = loaded.unwrap_or_else(|error| {
            metrics.bookmark_errors.fetch_add(1, Relaxed);
            tracing::error!(component = %id, %error, policy = ?arguments.on_positions_file_error,
                "saved positions are lost");
            Bookmarks::default()
        });
        let fanout = Fanout::new(arguments.forward_to.clone());
        let pool = Pool::new(id.clone(), options(&arguments), fanout.clone(), metrics.clone());
        let targets = sources(&id, &arguments);
        let save = None;
        Driver { id, storage, arguments, fanout, targets, bookmarks, are_bookmarks_lost, pool, save, metrics }
    }

    fn keys(&self) -> Vec<(u64, String)> {
        self.targets.iter().map(|(key, source)| (*key, source.path.display().to_string())).collect()
    }

    fn set_arguments(&mut self, arguments: Arc<Arguments>) {
        let old = std::mem::replace(&mut self.arguments, arguments);
        let new = &*self.arguments;
        let is_same_receiver = |(a, b): (&LogsReceiver, &LogsReceiver)| Arc::ptr_eq(a, b);
        let are_same_receivers = old.forward_to.len() == new.forward_to.len()
            && old.forward_to.iter().zip(&new.forward_to).all(is_same_receiver);
        if !are_same_receivers || old.file_watch != new.file_watch {
            self.fanout = Fanout::new(new.forward_to.clone());
            self.pool.reconfigure(options(new), self.fanout.clone());
        }
        self.targets = sources(&self.id, new);
    }

    fn handle_turn(&mut self, turn: Turn, turns: &impl Turns) {
        match turn {
            Turn::Start { key, state, origin } => {
                let Some(source) = self.targets.get(&key).cloned() else {
                    // It has gone from the targets since the turn was made.
                    turns.stopped(key, state);
                    return;
                };
                match self.begin(key, &source, state.as_deref(), &origin) {
                    Some(begin) => self.pool.start(key, source, begin),
                    None => turns.stopped(key, None),
                }
            }
            Turn::Stop { key } if self.targets.contains_key(&key) => self.pool.stop(key),
            // It is no target any more: what was written until now still counts.
            Turn::Stop { key } => self.pool.finish(key),
        }
    }

    /// Where to begin a file; `None`: it is not to be read.
    fn begin(&self, key: u64, source: &Source, state: Option<&[u8]>, origin: &Origin) -> Option<Begin> {
        let handed = state.and_then(Position::decode);
        let saved = self.bookmarks.find(key, &source.path.to_string_lossy());
        let known = match (handed, saved) {
            // A replica of what this node itself had read may be older than what this node has saved.
            (Some(replica), Some(saved)) if matches!(origin, Origin::Replica { .. }) => {
                let is_same_file = replica.identity.inode == saved.identity.inode;
                Some(if is_same_file && saved.offset > replica.offset { saved } else { replica })
            }
            (handed, saved) => handed.or(saved),
        };
        match known {
            Some(position) => Some(Begin::At(position)),
            None if self.are_bookmarks_lost => match self.arguments.on_positions_file_error {
                OnPositionsFileError::RestartFromBeginning => Some(Begin::Beginning),
                OnPositionsFileError::RestartFromEnd => Some(Begin::End),
                OnPositionsFileError::Skip => None,
            },
            None if self.arguments.tail_from_end => Some(Begin::End),
            None => Some(Begin::Beginning),
        }
    }

    fn handle_event(&mut self, event: Event, turns: &impl Turns) {
        match event {
            Event::Progress { key, position } => {
                self.note(key, position);
                turns.update_state(key, position.encode());
            }
            Event::Stopped { key, path, position } => {
                if let (Some(path), Some(position)) = (path, position) {
                    self.set(key, path, position);
                }
                turns.stopped(key, position.map(|position| position.encode()));
            }
        }
    }
}
