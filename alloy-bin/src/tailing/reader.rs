//! One file's turn: reads a block, notes that it is under way, delivers it, and so on until the file is caught up or its
//! turn is over.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::follower::Chunk;
use super::journal::path_hash;
use super::pool::{Event, PoolOptions};
use super::put_off::Ask;
use super::tail::{Step, Tail};
use super::{Journal, Metrics, Noted};
use crate::graph::Fanout;
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream, Origin};

/// How many blocks a reader delivers before others get its place.
const BLOCKS_PER_TURN: usize = 16;

/// How long a batch that is refused may hold up a stop. It stays undelivered then, and is noted as under way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What readers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) id: Arc<str>,
    pub(super) options: PoolOptions,
    pub(super) fanout: Fanout<LogBatch>,
    pub(super) metrics: Arc<Metrics>,
    /// Absent: files go on at their saved bookmarks after a crash.
    pub(super) journal: Option<Arc<Journal>>,
    /// It was said that the journal can't be written. A full disk would say it for each batch.
    pub(super) is_journal_failure_said: Arc<AtomicBool>,
    pub(super) events: mpsc::Sender<Event>,
}

/// Reads one file for one turn.
pub(super) struct Reader {
    pub(super) key: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) labels: Labels,
    pub(super) tenure: Option<u64>,
    pub(super) stop: CancellationToken,
    pub(super) is_finishing: bool,
}

/// What a reader gives back.
pub(super) struct Done {
    pub(super) key: u64,
    pub(super) tail: Tail,
    pub(super) outcome: Outcome,
    /// It was to read the rest.
    pub(super) was_finishing: bool,
}

pub(super) enum Outcome {
    CaughtUp { has_read: bool },
    More,
    Failed(io::Error),
}

impl Reader {
    pub(super) async fn read(self, tail: Tail) -> Option<Done> {
        let (key, was_finishing) = (self.key, self.is_finishing);
        let (tail, outcome) = self.turn(tail).await?;
        Some(Done { key, tail, outcome, was_finishing })
    }

    async fn turn(&self, mut tail: Tail) -> Option<(Tail, Outcome)> {
        let mut has_read = false;
        for _ in 0..BLOCKS_PER_TURN {
            if self.stop.is_cancelled() {
                break;
            }
            let (returned, step) = self.step(tail).await?;
            tail = returned;
            if !matches!(step, Ok(Step::Batch(_))) && tail.poll_beginning() {
                self.tell(&tail).await;
            }
            let chunk = match step {
                Ok(Step::Batch(chunk)) => chunk,
                Ok(Step::Idle) => return Some((tail, Outcome::CaughtUp { has_read })),
                Err(error) => return Some((tail, Outcome::Failed(error))),
            };
            has_read = true;
            self.tell(&tail).await;
            if !self.deliver(&tail, &chunk).await {
                return Some((tail, Outcome::More));
            }
            tail.handle_accepted(&chunk);
            self.tell(&tail).await;
        }
        if has_read {
            tail = self.end(tail).await?;
        }
        Some((tail, Outcome::More))
    }

    /// A step on a blocking thread; `None` if the runtime is shutting down.
    async fn step(&self, mut tail: Tail) -> Option<(Tail, io::Result<Step>)> {
        let (now, is_finishing) = (Instant::now(), self.is_finishing);
        let (key, shared, labels) = (self.key, Arc::clone(&self.shared), self.labels.clone());
        blocking(move || {
            // Most receivers take each line for itself: then no batch is made just to ask them.
            let unfinished = |chunk: &Chunk| {
                let batch = shared.fanout.joins().then(|| batch(key, &labels, chunk))?;
                shared.fanout.unfinished(&batch)
            };
            let ask: Option<Ask<'_>> = if is_finishing { None } else { Some(&unfinished) };
            let step = match tail.step(now, now_ns(), ask) {
                Ok(Step::Idle) if is_finishing => tail.last_step(now_ns()),
                step => step,
            };
            // IMPORTANT: before the batch is offered. It says two things at once: what is under way now, and that
            // what was under way before was taken.
            shared.note(key, &tail);
            (tail, step)
        })
        .await
    }

    /// The last batch of the turn was taken, and no step follows soon that would note it.
    async fn end(&self, tail: Tail) -> Option<Tail> {
        let (key, shared) = (self.key, Arc::clone(&self.shared));
        blocking(move || {
            shared.note(key, &tail);
            tail
        })
        .await
    }

    async fn tell(&self, tail: &Tail) {
        if let Some(position) = tail.position() {
            // The pool may be gone already, and with it all interest in progress.
            let _ = self
                .shared
                .events
                .send(Event::Progress { key: self.key, position, sequence: tail.sequence() })
                .await;
        }
    }

    /// Offers the chunk until it is in custody. Gives up only if the file is to stop and the receivers have no room.
    async fn deliver(&self, tail: &Tail, chunk: &Chunk) -> bool {
        let mut batch = batch(self.key, &self.labels, chunk);
        batch.origin = self.origin(tail, chunk);
        let said = AtomicBool::new(false);
        let refused = |error: &crate::graph::ConsumeError| {
            self.shared.metrics.refused.fetch_add(1, Relaxed);
            if !said.swap(true, Relaxed) {
                tracing::warn!(component = %self.shared.id, path = %tail.path().display(), %error,
                    "lines wait, the receiver has no room");
            }
        };
        let waiting = Waiting(&self.shared.metrics, AtomicBool::new(false));
        let refused = |error: &crate::graph::ConsumeError| {
            waiting.begin();
            refused(error);
        };
        let give_up = async {
            self.stop.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            biased;
            () = self.shared.fanout.deliver(&batch, refused) => true,
            () = give_up => false,
        }
    }

    /// Where the batch is from, if others may have to read it again.
    fn origin(&self, tail: &Tail, chunk: &Chunk) -> Option<Origin> {
        let (tenure, position) = (self.tenure?, tail.offered()?);
        Some(Origin {
            component: Arc::clone(&self.shared.id),
            key: self.key,
            tenure,
            sequence: tail.sequence(),
            base_ns: chunk.base_ns,
            batch: position.encode(),
        })
    }
}

/// Counts a file that waits for room, until it is dropped.
struct Waiting<'a>(&'a Metrics, AtomicBool);

impl Waiting<'_> {
    fn begin(&self) {
        if !self.1.swap(true, Relaxed) {
            self.0.files_waiting.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if *self.1.get_mut() {
            self.0.files_waiting.fetch_sub(1, Relaxed);
        }
    }
}

impl Shared {
    /// Puts down how far the file is. Without it lines would be sent again after a crash, so it holds up nothing if it fails.
    fn note(&self, key: u64, tail: &Tail) {
        let (Some(journal), Some(position)) = (&self.journal, tail.position()) else { return };
        let path_hash = path_hash(&tail.path().to_string_lossy());
        if let Err(error) = journal.note(Noted { key, path_hash, position }) {
            self.metrics.bookmark_errors.fetch_add(1, Relaxed);
            if !self.is_journal_failure_said.swap(true, Relaxed) {
                tracing::error!(component = %self.id, %error, "cannot note positions, a crash would send lines again");
            }
        }
    }
}

/// The result of a task on a blocking thread; `None` if the runtime is shutting down.
async fn blocking<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(task).await {
        Ok(done) => Some(done),
        Err(error) if error.is_cancelled() => None,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn batch(key: u64, labels: &Labels, chunk: &Chunk) -> LogBatch {
    let entry = |(line, timestamp_ns)| LogEntry::new(timestamp_ns, line);
    let entries = chunk.lines.iter().cloned().zip(chunk.base_ns..).map(entry).collect();
    let streams = vec![LogStream { labels: labels.clone(), entries }];
    LogBatch { streams, lane: key, taken_ns: chunk.base_ns, origin: None }
}

fn now_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
