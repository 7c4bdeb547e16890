//! Many tails. One sweep looks at all files that are due; those with something new get one of a bounded number of
//! readers, which reads and delivers until the file is caught up or its turn is over. Files that have been idle for
//! a while are watched instead, where the file system tells of changes.
//!
//! Bounds: at most [`READERS_MAX`] files are read at once, each with one block in memory, so all buffers
//! together are below `READERS_MAX x 256 KiB = 16 MiB`, however many files there are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::disk::{self, Seen};
use super::ledger::{Claims, Ledger};
use super::reader::{Done, Outcome, Reader, Shared};
use super::tail::{Begin, CLOSE_AFTER, Reading, Tail};
use super::watches::{Setter, Watches};
use super::{Journal, Metrics, Position};
use crate::graph::Fanout;
use crate::telemetry::{Labels, LogBatch};

/// How many files are read at once.
const READERS_MAX: usize = 64;

/// How long the rest of a file that is no longer a target is read.
const FINISH_MAX: Duration = Duration::from_secs(30);

/// How often a watched file is looked at all the same: for changes that the kernel does not tell of.
const WATCHED_POLL: Duration = Duration::from_secs(30);

/// So many quiet files are held open, for the case that they are removed before the rest is read. A process has 1,024
/// descriptors where nobody gave it more.
const QUIET_OPEN_MAX: usize = 256;

/// How a pool works.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// How often a file that changes is looked at.
    pub poll_min: Duration,
    /// How often a file is looked at that has not changed for long: the wait doubles up to this.
    pub poll_max: Duration,
    /// How long after it was found a file is read first.
    pub initial_delay: Duration,
    /// How files are read.
    pub reading: Reading,
}

/// What to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path.
    pub path: Arc<Path>,
    /// The stream that its lines become.
    pub labels: Labels,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The position of a file has changed: a batch is being offered, or is in custody.
    Progress {
        /// The file's key.
        key: u64,
        /// How far it is delivered, and what is under way.
        position: Position,
        /// The number of the batch that is offered now, or next.
        sequence: u64,
    },
    /// The file is no longer followed.
    Stopped {
        /// Its key.
        key: u64,
        /// How far it was delivered; `None` if it was never opened.
        position: Option<Position>,
    },
}

/// Follows many files and delivers their lines.
pub struct Pool {
    shared: Arc<Shared>,
    /// Boxed: a map of large values is half empty.
    files: BTreeMap<u64, Box<File>>,
    /// When to look at which file.
    due: BTreeSet<(Instant, u64)>,
    /// `None`: the system has none to give, so all files are looked at.
    watches: Option<Watches>,
    ledger: Arc<Ledger>,
    /// Files with something to read, first come, first served.
    ready: VecDeque<u64>,
    readers: JoinSet<Option<Done>>,
    sweep: Option<JoinHandle<Looks>>,
    sweep_at: Instant,
    events: mpsc::Receiver<Event>,
    stopped: VecDeque<Event>,
}

/// What a sweep saw.
type Looks = Vec<Look>;

struct Look {
    key: u64,
    seen: io::Result<Seen>,
    /// The watch that was set on it before.
    watch: Option<i32>,
}

struct File {
    path: Arc<Path>,
    labels: Labels,
    /// Which time of ownership this is, if the file is shared.
    tenure: Option<u64>,
    /// Absent while a reader has it.
    tail: Option<Tail>,
    is_ready: bool,
    wait: Duration,
    due: Instant,
    watch: Option<i32>,
    leaving: Leaving,
    /// Stops the reader after the batch that is under way.
    stop: CancellationToken,
    /// The last error that was logged: it is said once, until it goes away or another comes.
    error: Option<String>,
}

/// Whether a file is to be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// It is not.
    No,
    /// When its rest is read, at the latest at this time.
    WhenRead(Instant),
    /// Now.
    Now,
}

impl Pool {
    /// An empty pool. It works while [`Pool::next`] is polled.
    pub fn new(
        id: Arc<str>,
        options: PoolOptions,
        fanout: Fanout<LogBatch>,
        metrics: Arc<Metrics>,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        // Each reader waits for room before it goes on, so few places are enough.
        let (sender, events) = mpsc::channel(READERS_MAX);
        let is_journal_failure_said = Arc::default();
        let shared =
            Shared { id, options, fanout, metrics, journal, is_journal_failure_said, events: sender };
        Pool {
            shared: Arc::new(shared),
            files: BTreeMap::new(),
            due: BTreeSet::new(),
            watches: Watches::new().ok(),
            ledger: Arc::default(),
            ready: VecDeque::new(),
            readers: JoinSet::new(),
            sweep: None,
            sweep_at: Instant::now(),
            events,
            stopped: VecDeque::new(),
        }
    }

    /// Follows a file from there. After the batch at its beginning, the file's next batches are `repeats`; `tenure` goes into the
    /// batches' origin, if others may have to read the file again. A key that is followed already goes on as it is.
    pub fn start(
        &mut self,
        key: u64,
        source: Source,
        begin: Begin,
        repeats: Vec<Position>,
        tenure: Option<u64>,
    ) {
        if let Some(file) = self.files.get_mut(&key) {
            file.leaving = Leaving::No;
            file.labels = source.labels;
            if file.stop.is_cancelled() {
                file.stop = CancellationToken::new();
            }
            self.make_ready(key);
            return;
        }
        let now = Instant::now();
        let Shared { options, metrics, .. } = &*self.shared;
        let claims = Claims::new(Arc::clone(&self.ledger), &source.labels, &source.path);
        let mut tail =
            Tail::new(source.path.clone(), begin, options.reading, now, claims, Arc::clone(metrics));
        tail.repeat(repeats);
        let file = File {
            path: source.path,
            labels: source.labels,
            tenure,
            tail: Some(tail),
            is_ready: false,
            wait: options.poll_min,
            due: now,
            watch: None,
            leaving: Leaving::No,
            stop: CancellationToken::new(),
            error: None,
        };
        let delay = options.initial_delay;
        self.files.insert(key, Box::new(file));
        if delay.is_zero() {
            self.make_ready(key);
        } else {
            self.look_at(key, now + delay);
        }
    }

    /// Stops a file after the batch that is under way; [`Event::Stopped`] follows, also for a key that is unknown.
    pub fn stop(&mut self, key: u64) {
        let Some(file) = self.files.get_mut(&key) else {
            self.stopped.push_back(Event::Stopped { key, position: None });
            return;
        };
        file.leaving = Leaving::Now;
        file.stop.cancel();
        self.leave(key);
    }

    /// Stops a file when its rest is read; [`Event::Stopped`] follows.
    pub fn finish(&mut self, key: u64) {
        match self.files.get_mut(&key) {
            Some(file) => {
                file.leaving = Leaving::WhenRead(Instant::now() + FINISH_MAX);
                self.make_ready(key);
            }
            None => self.stop(key),
        }
    }

    /// Whether the key is followed and not about to be left.
    pub fn follows(&self, key: u64) -> bool {
        self.files.get(&key).is_some_and(|file| file.leaving == Leaving::No)
    }

    /// Delivers to these from now on, at this pace. A batch that the old receivers refuse is offered to the new ones.
    pub fn reconfigure(&mut self, options: PoolOptions, fanout: Fanout<LogBatch>) {
        self.shared = Arc::new(Shared { options, fanout, ..Shared::clone(&self.shared) });
        for file in self.files.values_mut().filter(|file| file.leaving != Leaving::Now) {
            std::mem::take(&mut file.stop).cancel();
        }
    }

    /// Stops all files, as [`Pool::stop`] does.
    pub fn stop_all(&mut self) {
        let keys: Vec<u64> = self.files.keys().copied().collect();
        for key in keys {
            self.stop(key);
        }
    }

    /// Whether no file is followed any more and all events are given out.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.stopped.is_empty() && self.events.is_empty()
    }

    /// Works until something has happened. Cancelling it is safe.
    pub async fn next(&mut self) -> Event {
        loop {
            self.start_readers();
            // What was said of a file comes before its end.
            if self.events.is_empty()
                && let Some(event) = self.stopped.pop_front()
            {
                return event;
            }
            let is_sweeping = self.sweep.is_some();
            let next_sweep = self.due.first().map(|(due, _)| self.sweep_at.max(*due));
            tokio::select! {
                biased;
                // The pool itself holds a sender, so there always is an answer.
                Some(event) = self.events.recv() => return event,
                Some(done) = self.readers.join_next() => self.handle_done(finished(done)),
                seen = join(&mut self.sweep), if is_sweeping => self.handle_sweep(seen),
                changed = changed(&mut self.watches) => self.handle_changed(changed),
                () = sleep_until(next_sweep), if !is_sweeping => self.start_sweep(),
            }
        }
    }

    fn look_at(&mut self, key: u64, due: Instant) {
        if let Some(file) = self.files.get_mut(&key) {
            self.due.remove(&(file.due, key));
            file.due = due;
            self.due.insert((due, key));
        }
    }

    fn make_ready(&mut self, key: u64) {
        if let Some(file) = self.files.get_mut(&key).filter(|file| file.tail.is_some() && !file.is_ready) {
            file.is_ready = true;
            self.ready.push_back(key);
        }
    }

    fn start_readers(&mut self) {
        while self.readers.len() < READERS_MAX {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(file) = self.files.get_mut(&key) else { continue };
            file.is_ready = false;
            let Some(tail) = file.tail.take() else { continue };
            let reader = Reader {
                key,
                shared: Arc::clone(&self.shared),
                labels: file.labels.clone(),
                tenure: file.tenure,
                stop: file.stop.clone(),
                is_finishing: matches!(file.leaving, Leaving::WhenRead(_)),
            };
            self.readers.spawn(reader.read(tail));
        }
    }

    fn handle_done(&mut self, done: Option<Done>) {
        let Some(Done { key, tail, outcome, was_finishing }) = done else { return };
        let Some(file) = self.files.get_mut(&key) else { return };
        let now = Instant::now();
        file.tail = Some(tail);
        let PoolOptions { poll_min, poll_max, .. } = self.shared.options;
        let is_read = match file.leaving {
            Leaving::WhenRead(end) => was_finishing && (now >= end || !matches!(outcome, Outcome::More)),
            _ => false,
        };
        match outcome {
            Outcome::CaughtUp { has_read } => {
                file.error = None;
                file.wait = if has_read { poll_min } else { (file.wait * 2).clamp(poll_min, poll_max) };
                let due = now + file.wait;
                self.look_at(key, due);
                if !has_read {
                    self.close_if_quiet(key, now, Duration::ZERO);
                }
            }
            Outcome::More => {
                file.error = None;
                self.make_ready(key);
            }
            Outcome::Failed(error) => self.handle_error(key, &error),
        }
        if let Some(file) = self.files.get_mut(&key) {
            match file.leaving {
                Leaving::WhenRead(_) if is_read => file.leaving = Leaving::Now,
                Leaving::WhenRead(_) => self.make_ready(key),
                _ => {}
            }
        }
        self.leave(key);
    }

    /// Notes an error of a file, says it once, and tries again later.
    fn handle_error(&mut self, key: u64, error: &io::Error) {
        self.shared.metrics.read_errors.fetch_add(1, Relaxed);
        let Some(file) = self.files.get_mut(&key) else { return };
        let text = error.to_string();
        if file.error.as_ref() != Some(&text) {
            tracing::warn!(component = %self.shared.id, path = %file.path.display(), error = %text,
                "cannot read file, trying again");
            file.error = Some(text);
        }
        file.wait = (file.wait * 2).clamp(self.shared.options.poll_min, self.shared.options.poll_max);
        let due = Instant::now() + file.wait;
        self.look_at(key, due);
    }

    /// Gives up a file that is to be left, if no reader has it.
    fn leave(&mut self, key: u64) {
        let Some(file) = self.files.get(&key) else { return };
        if file.leaving != Leaving::Now || file.tail.is_none() {
            return;
        }
        let Some(file) = self.files.remove(&key) else { return };
        self.due.remove(&(file.due, key));
        if let (Some(watches), Some(watch)) = (&mut self.watches, file.watch) {
            watches.remove(watch, key);
        }
        if let Some(tail) = file.tail {
            self.stopped.push_back(Event::Stopped { key, position: tail.position() });
        }
    }

    fn start_sweep(&mut self) {
        let now = Instant::now();
        let PoolOptions { poll_min, poll_max, .. } = self.shared.options;
        self.sweep_at = now + poll_min;
        let later = self.due.split_off(&(now, u64::MAX));
        let setter = self.watches.as_ref().map(Watches::setter);
        let mut due = Vec::new();
        for (_, key) in std::mem::replace(&mut self.due, later) {
            let Some(file) = self.files.get(&key) else { continue };
            if file.tail.is_some() && !file.is_ready {
                let is_idle = file.wait >= poll_max && file.watch.is_none();
                due.push((key, file.path.clone(), setter.clone().filter(|_| is_idle)));
            }
        }
        if due.is_empty() {
            return;
        }
        let look = move |(key, path, setter): (u64, Arc<Path>, Option<Setter>)| {
            // IMPORTANT: before the look. What changes afterwards is told.
            let watch = setter.and_then(|setter| setter.set(&path));
            Look { key, seen: disk::look(&path), watch }
        };
        self.sweep = Some(tokio::task::spawn_blocking(move || due.into_iter().map(look).collect()));
    }

    fn handle_sweep(&mut self, looks: Looks) {
        self.sweep = None;
        let now = Instant::now();
        let poll_max = self.shared.options.poll_max;
        for Look { key, seen, watch } in looks {
            let file = self.files.get_mut(&key);
            let is_caught_up = match (file.as_ref().and_then(|file| file.tail.as_ref()), seen) {
                (Some(tail), Ok(seen)) => tail.is_caught_up(&seen),
                _ => false,
            };
            let mut is_watched = false;
            if let (Some(watches), Some(watch)) = (&mut self.watches, watch) {
                is_watched = is_caught_up && watches.add(watch, key);
                if !is_watched {
                    watches.remove(watch, key);
                }
            }
            let Some(file) = file else { continue };
            if !is_caught_up {
                // Also when the path is gone: the open file may have grown, or a rotated one may be found.
                self.make_ready(key);
                continue;
            }
            file.error = None;
            file.watch = file.watch.or(watch.filter(|_| is_watched));
            file.wait = (file.wait * 2).min(poll_max);
            let wait = if file.watch.is_some() { WATCHED_POLL.max(poll_max) } else { file.wait };
            self.look_at(key, now + wait);
            self.close_if_quiet(key, now, poll_max);
        }
        if let Some(watches) = &mut self.watches {
            watches.settled();
        }
    }

    /// Watched files have changed; `None`: perhaps all.
    fn handle_changed(&mut self, changed: Option<BTreeSet<u64>>) {
        let watched = || self.files.iter().filter(|(_, file)| file.watch.is_some()).map(|(key, _)| *key);
        for key in changed.unwrap_or_else(|| watched().collect()) {
            let Some(file) = self.files.get_mut(&key) else { continue };
            if let (Some(watches), Some(watch)) = (&mut self.watches, file.watch.take()) {
                watches.remove(watch, key);
            }
            file.wait = self.shared.options.poll_min;
            self.make_ready(key);
        }
    }

    /// `crowded`: how long it is to be quiet where there are too many files to hold them open.
    fn close_if_quiet(&mut self, key: u64, now: Instant, crowded: Duration) {
        let after = if self.files.len() > QUIET_OPEN_MAX { crowded } else { CLOSE_AFTER };
        if let Some(tail) = self.files.get_mut(&key).and_then(|file| file.tail.as_mut()) {
            tail.close_if_quiet(now, after);
        }
    }
}

async fn changed(watches: &mut Option<Watches>) -> Option<BTreeSet<u64>> {
    match watches {
        Some(watches) => watches.changed().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The result of the sweep that is under way. Cancelling it is safe: the sweep stays.
async fn join<T>(task: &mut Option<JoinHandle<T>>) -> T {
    match task {
        Some(task) => finished(task.await),
        None => std::future::pending().await,
    }
}

/// What a task of ours gave. None is aborted, so the only error is its panic, which goes on here.
fn finished<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
