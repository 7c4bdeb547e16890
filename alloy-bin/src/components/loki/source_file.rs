//! `loki.source.file`: follows log files and hands their lines on, each once, shared among the cluster's members.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::graph::{Component, Context, ExportType, Fanout, Health, LogsReceiver};
use crate::ownership::{Inherited, Ownership, Sharing, Turn};
use crate::tailing::{
    Begin, Bookmark, Bookmarks, Boot, Event, Journal, LegacyPositions, Metrics, Pool, Position, Recovery,
    Source,
};
use crate::telemetry::{Collect, LogBatch, Page};

mod arguments;
mod targets;

use targets::sources;

pub use arguments::{Arguments, Decompression, FileMatch, FileWatch, OnPositionsFileError};

use turns::{Turns, now_ns};

mod turns;

/// How often bookmarks are saved if they have changed. A power loss costs at most what was read since.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How long the last save waits for the receivers to be durable. Without it some lines are sent again.
const LAST_SAVE_MAX: Duration = Duration::from_secs(10);

/// The component.
pub struct SourceFile {
    base: Base,
    ownership: Ownership,
    arguments: watch::Sender<Arc<Arguments>>,
}

/// What stays the same for the component's whole life.
#[derive(Clone)]
struct Base {
    id: Arc<str>,
    storage: PathBuf,
    /// The boot in which the journal can be trusted.
    boot: Option<Boot>,
    health: Health,
    metrics: Arc<Metrics>,
}

#[async_trait]
impl Component for SourceFile {
    const NAME: &'static str = "loki.source.file";
    const EXPORTS: &'static [ExportType] = &[];

    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let Context { id, storage, ownership, health, .. } = context;
        let base = Base { id, storage, boot: Boot::current(), health, metrics: Arc::default() };
        Ok(SourceFile { base, ownership, arguments: watch::Sender::new(Arc::new(arguments)) })
    }

    async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let sharing = self.arguments.borrow().sharing;
            let shard = self.ownership.shard_of_files(&self.base.id, sharing);
            // Ends early when the files are to be shared in another way: the keys need another shard.
            drive(self.base.clone(), self.arguments.subscribe(), shard, &stop).await;
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        self.arguments.send_replace(Arc::new(arguments));
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        self.base.metrics.collect(page);
    }
}

/// Follows what is ours until `stop`, or until the files are to be shared in another way.
async fn drive(
    base: Base,
    mut arguments: watch::Receiver<Arc<Arguments>>,
    mut turns: impl Turns,
    stop: &CancellationToken,
) {
    let first = arguments.borrow_and_update().clone();
    let mut driver = Driver::new(base, first).await;
    turns.set_keys(driver.keys());
    let mut save_at = Instant::now() + SAVE_EVERY;
    let mut looked_at = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = arguments.changed() => {
                let new = arguments.borrow_and_update().clone();
                let old = &driver.arguments;
                let is_read_anew = old.pool_options().reading != new.pool_options().reading;
                if changed.is_err() || new.sharing != old.sharing || is_read_anew {
                    break;
                }
                driver.set_arguments(new).await;
                turns.set_keys(driver.keys());
            }
            () = targets::look_again(&driver.arguments, looked_at) => {
                looked_at = Instant::now();
                if driver.look().await {
                    turns.set_keys(driver.keys());
                }
            }
            turn = turns.next() => driver.handle_turn(turn, &turns),
            event = driver.pool.next() => driver.handle_event(event, &turns),
            Some(flushed) = driver.flushing.join_next() => driver.handle_flushed(flushed, &turns),
            result = saved(&mut driver.save) => driver.handle_saved(result),
            () = tokio::time::sleep_until(save_at) => {
                driver.start_save();
                driver.tell_health();
                save_at = Instant::now() + SAVE_EVERY;
            }
        }
    }
    driver.stop(&turns).await;
}

struct Driver {
    base: Base,
    arguments: Arc<Arguments>,
    fanout: Fanout<LogBatch>,
    targets: BTreeMap<u64, Source>,
    /// What globs were found to match, as a fingerprint.
    found: Option<u64>,
    /// The paths of the files that the pool has, also of those that are no targets any more.
    followed: BTreeMap<u64, Arc<str>>,
    bookmarks: Bookmarks,
    /// There were bookmarks, but they can't be read.
    are_bookmarks_lost: bool,
    /// Where another program has read to.
    legacy: LegacyPositions,
    journal: Option<Arc<Journal>>,
    pool: Pool,
    save: Option<JoinHandle<io::Result<()>>>,
    /// Why the last save has failed.
    save_error: Option<String>,
    /// Files that were left since the last save: only the journal knows how far they were read last.
    left: BTreeSet<u64>,
    /// Files whose last position is in the save that is under way, unless they were followed again since.
    saving: BTreeSet<u64>,
    /// Files that were left, with their positions, while what was read of them is sent.
    flushing: JoinSet<(u64, Option<Position>)>,
}

impl Driver {
    async fn new(base: Base, arguments: Arc<Arguments>) -> Self {
        let (folder, boot) = (base.storage.clone(), base.boot.clone());
        let opened =
            finished(tokio::task::spawn_blocking(move || Recovery::open(&folder, boot.as_ref())).await);
        let Recovery { bookmarks, lost, journal } = opened;
        if let Some(error) = &lost {
            base.metrics.bookmark_errors.fetch_add(1, Relaxed);
            tracing::error!(component = %base.id, %error, policy = ?arguments.on_positions_file_error,
                "saved positions are lost");
        }
        let journal = journal.unwrap_or_else(|error| {
            base.metrics.bookmark_errors.fetch_add(1, Relaxed);
            tracing::error!(component = %base.id, %error, "no journal of positions, a crash would send lines again");
            None
        });
        if bookmarks.recovered().len() > 0 {
            tracing::info!(component = %base.id, files = bookmarks.recovered().len(),
                "the agent had ended without a last save, going on where it was");
        }
        let legacy = targets::legacy(&base, &arguments, bookmarks.is_new() && lost.is_none()).await;
        let fanout = Fanout::new(arguments.forward_to.clone());
        let journal = journal.map(Arc::new);
        let (id, metrics) = (base.id.clone(), base.metrics.clone());
        let mut found = None;
        Driver {
            pool: Pool::new(id, arguments.pool_options(), fanout.clone(), metrics, journal.clone()),
            targets: sources(&base, &arguments, &mut found).await.unwrap_or_default(),
            found,
            base,
            arguments,
            fanout,
            followed: BTreeMap::new(),
            bookmarks,
            are_bookmarks_lost: lost.is_some(),
            legacy,
            save_error: None,
            journal,
            save: None,
            left: BTreeSet::new(),
            saving: BTreeSet::new(),
            flushing: JoinSet::new(),
        }
    }

    fn keys(&self) -> Vec<(u64, String)> {
        self.targets.iter().map(|(key, source)| (*key, source.path.display().to_string())).collect()
    }

    async fn set_arguments(&mut self, arguments: Arc<Arguments>) {
        let old = std::mem::replace(&mut self.arguments, arguments);
        let new = &*self.arguments;
        let is_same_receiver = |(a, b): (&LogsReceiver, &LogsReceiver)| Arc::ptr_eq(a, b);
        let are_same_receivers = old.forward_to.len() == new.forward_to.len()
            && old.forward_to.iter().zip(&new.forward_to).all(is_same_receiver);
        if !are_same_receivers || old.file_watch != new.file_watch {
            self.fanout = Fanout::new(new.forward_to.clone());
            self.pool.reconfigure(new.pool_options(), self.fanout.clone());
        }
        self.look().await;
    }

    /// Looks which files there are. True: others than before.
    async fn look(&mut self) -> bool {
        let sources = sources(&self.base, &self.arguments, &mut self.found).await;
        sources.map(|sources| self.targets = sources).is_some()
    }

    fn handle_turn(&mut self, turn: Turn, turns: &impl Turns) {
        match turn {
            Turn::Start { key, state, .. } => {
                let Some(source) = self.targets.get(&key).cloned() else {
                    // It has gone from the targets since the turn was made.
                    turns.stopped(key, state);
                    return;
                };
                let inherited = state.as_ref().map(Inherited::decode).unwrap_or_default();
                let batches = inherited.batches.iter().filter_map(|batch| Position::decode(batch));
                let mut repeats: Vec<Position> = batches.collect();
                let custody = inherited.custody.as_deref().and_then(Position::decode);
                let first = if repeats.is_empty() { custody } else { Some(repeats.remove(0)) };
                match self.begin(key, &source, first) {
                    Some(begin) => {
                        let path = source.path.to_string_lossy().into();
                        if let (None, Begin::At(position)) = (self.followed.insert(key, path), begin) {
                            // Saved although the file may have nothing new.
                            self.note(key, position);
                        }
                        let from_ns = match begin {
                            Begin::At(position) => position.last_ns,
                            Begin::Beginning | Begin::Byte(_) => i64::MIN,
                            Begin::End => now_ns(),
                        };
                        let tenure = turns.begin(key, state.as_ref(), from_ns);
                        self.pool.start(key, source, begin, repeats, tenure);
                    }
                    None => turns.stopped(key, None),
                }
            }
            Turn::Stop { key } if self.targets.contains_key(&key) => self.pool.stop(key),
            // It is no target any more: what was written until now still counts.
            Turn::Stop { key } => self.pool.finish(key),
            // No owner of a file asks others for it.
            Turn::Try { .. } => {}
        }
    }

    /// Where to begin a file; `None`: it is not to be read. What the cluster knows counts, though this node may have read more
    /// before it was started again: what it has not sent of that, it drops from its logs.
    fn begin(&self, key: u64, source: &Source, inherited: Option<Position>) -> Option<Begin> {
        let path = &*source.path.to_string_lossy();
        match inherited.or_else(|| self.bookmarks.find(key, path)) {
            Some(position) => Some(Begin::At(position)),
            None if self.are_bookmarks_lost => match self.arguments.on_positions_file_error {
                OnPositionsFileError::RestartFromBeginning => Some(Begin::Beginning),
                OnPositionsFileError::RestartFromEnd => Some(Begin::End),
                OnPositionsFileError::Skip => None,
            },
            None if self.legacy.contains_key(path) => {
                self.legacy.get(path).map(|offset| Begin::Byte(*offset))
            }
            None if self.arguments.tail_from_end => Some(Begin::End),
            None => Some(Begin::Beginning),
        }
    }

    fn handle_event(&mut self, event: Event, turns: &impl Turns) {
        match event {
            Event::Progress { key, position, sequence } => {
                self.note(key, position);
                turns.progress(key, position, sequence);
            }
            Event::Stopped { key, position } => {
                if let Some(position) = position {
                    self.note(key, position);
                }
                self.followed.remove(&key);
                self.left.insert(key);
                let (fanout, sharing) = (self.fanout.clone(), self.arguments.sharing);
                self.flushing.spawn(async move {
                    if sharing == Sharing::Clustered {
                        // What is not delivered by then the next owner sends again.
                        fanout.flush().await;
                    }
                    (key, position)
                });
            }
        }
    }

    fn handle_flushed(&mut self, flushed: Result<(u64, Option<Position>), JoinError>, turns: &impl Turns) {
        let (key, position) = finished(flushed);
        turns.stopped(key, position.map(|position| position.encode()));
    }

    fn note(&mut self, key: u64, position: Position) {
        if let Some(path) = self.followed.get(&key).cloned() {
            self.bookmarks.set(key, Bookmark { path, position, followed_s: now_s() });
        }
    }

    /// Saves what has changed, once it is durable. One save at a time: a slow disk makes them rarer, not many.
    fn start_save(&mut self) {
        if self.save.is_some() {
            return;
        }
        if let Some(snapshot) = self.bookmarks.poll_save(now_s()) {
            self.saving.append(&mut self.left);
            let (fanout, folder) = (self.fanout.clone(), self.base.storage.clone());
            self.save = Some(tokio::spawn(async move {
                // IMPORTANT: what is saved must not be ahead of the receivers' logs after a power loss.
                fanout.durable().await;
                finished(tokio::task::spawn_blocking(move || snapshot.save(&folder)).await)
            }));
        }
    }

    fn handle_saved(&mut self, result: io::Result<()>) {
        self.save = None;
        match result {
            Ok(()) => {
                self.save_error = None;
                let (followed, left) = (&self.followed, &self.left);
                let is_saved = |key: &u64| !followed.contains_key(key) && !left.contains(key);
                let saved = std::mem::take(&mut self.saving).into_iter().filter(is_saved);
                if let Some(journal) = &self.journal {
                    journal.release(saved);
                }
            }
            Err(error) => {
                self.bookmarks.handle_failed_save();
                // Said once: the health keeps saying it.
                if self.base.metrics.bookmark_errors.fetch_add(1, Relaxed) == 0 {
                    tracing::error!(component = %self.base.id, %error, "cannot save positions, trying again");
                }
                self.save_error = Some(error.to_string());
            }
        }
        self.tell_health();
    }

    fn tell_health(&self) {
        let Base { health, metrics, .. } = &self.base;
        let waiting = metrics.files_waiting.load(Relaxed);
        match &self.save_error {
            Some(error) => health.unhealthy(format!("cannot save positions: {error}")),
            None if waiting > 0 => {
                health.unhealthy(format!("{waiting} files are not read on, the receivers have no room"));
            }
            None => health.ok(),
        }
    }

    /// Ends what is under way and saves.
    async fn stop(mut self, turns: &impl Turns) {
        self.pool.stop_all();
        while !self.pool.is_empty() {
            let event = self.pool.next().await;
            self.handle_event(event, turns);
        }
        while let Some(flushed) = self.flushing.join_next().await {
            let (key, position) = finished(flushed);
            turns.stopped_for_good(key, position.map(|position| position.encode()));
        }
        let last_save = async {
            if self.save.is_some() {
                let result = saved(&mut self.save).await;
                self.handle_saved(result);
            }
            self.start_save();
            if self.save.is_some() {
                let result = saved(&mut self.save).await;
                self.handle_saved(result);
            }
        };
        if tokio::time::timeout(LAST_SAVE_MAX, last_save).await.is_err() {
            // It would wait for the receivers for ever, and could save over what the next life has saved.
            if let Some(save) = self.save.take() {
                save.abort();
            }
            tracing::warn!(component = %self.base.id, "positions are not saved, some lines may be sent again");
        }
    }
}

/// The save that is under way. Cancelling it is safe: the save goes on.
async fn saved(save: &mut Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    match save {
        Some(save) => finished(save.await),
        None => std::future::pending().await,
    }
}

/// What a task of ours gave; its panic goes on here.
fn finished<T>(result: Result<T, JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
