//! The log of one endpoint, and the thread that keeps it: writes what is staged at once, syncs it within the interval,
//! saves the cursor, frees segments, prepares new ones. No task of the runtime ever waits for the disk.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_wal::{ConsumerId, Gap, Item, Log, Policy, Position, Read, Start, Wal, Watermarks};
use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::budget;
use super::figures::{Figures, add};
use super::{Error, LogState, Options, Piece};

/// The one consumer of an endpoint's log.
const CONSUMER: &str = "endpoint";
/// How often the cursor is saved and segments are freed and prepared. What is delivered twice after power loss is at most what
/// was acknowledged within this time; after `kill -9` what was in flight.
const TIDY_INTERVAL: Duration = Duration::from_millis(250);
/// Segments are whole pages.
const PAGE_BYTES: u64 = 4096;
/// What a log may take if nothing is said, neither by it nor of all logs together.
const MAX_BYTES: u64 = 4 << 30;
/// What is written and not synced is in memory too, for the case that the sync fails: more than this is synced at once, which happens only
/// while a backlog is read.
const UNSYNCED_BYTES: usize = 4 << 20;
/// How long the thread waits after a failed write (a full disk) before it tries again.
const FAILED_WAIT: Duration = Duration::from_millis(500);

/// Between two looks whether the log is released.
const RELEASE_LOOK: Duration = Duration::from_millis(1);
/// How long a log that is not closed in an orderly way is waited for. The last sync of a disk that works takes less.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);
/// Between two lines about data that is refused.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(60);
/// Why a failed log takes nothing.
const FAILED: &str = "the log has failed; the agent must be started again";
/// Why a closed log takes nothing.
const CLOSED: &str = "the log is closed";

/// The log of one endpoint.
pub(super) struct Custody {
    wal: Arc<dyn Wal>,
    consumer: ConsumerId,
    /// Changes with each acknowledgement.
    acknowledged: watch::Sender<()>,
    keeper: Keeper,
    keeper_thread: Mutex<Option<JoinHandle<()>>>,
    /// The thread has ended: nothing that is only staged will ever be written.
    ended: CancellationToken,
    /// That the log refuses data.
    refusal_said: Said,
    /// That the endpoint does.
    pub(super) rejection_said: Said,
    /// What goes into one batch of the log, which has to fit into a segment.
    batch_bytes: usize,
    figures: Figures,
    /// Behind the log, so that it is gone when its part is given to the others.
    _share: budget::Share,
}

/// When something was last said that is true for hours.
#[derive(Default)]
pub(super) struct Said(Mutex<Option<Instant>>);

impl Said {
    /// Whether to say it again, which is then done.
    pub(super) fn is_due(&self) -> bool {
        let mut said = self.0.lock().expect("no code panics while holding it");
        let is_due = said.is_none_or(|said| said.elapsed() >= REFUSAL_INTERVAL);
        if is_due {
            *said = Some(Instant::now());
        }
        is_due
    }
}

/// What the thread and the tasks share.
#[derive(Clone)]
struct Keeper {
    stop: Arc<AtomicBool>,
    /// Why the last write or sync failed; empty while the disk takes everything.
    trouble: Arc<Mutex<String>>,
    sync_interval: Duration,
    endpoint: Arc<str>,
}

impl Custody {
    pub(super) fn open(options: &Options) -> anyhow::Result<Self> {
        let log = open_log(options)?;
        let share = budget::join(&log, &options.log)
            .with_context(|| format!("cannot open the log {}", options.directory.display()))?;
        let wal: Arc<dyn Wal> = log;
        let consumer = wal.consumer(CONSUMER, Start::Oldest)?;
        let keeper = Keeper {
            stop: Arc::default(),
            trouble: Arc::default(),
            sync_interval: options.log.sync_interval,
            endpoint: options.endpoint.name.as_str().into(),
        };
        let thread = std::thread::Builder::new().name("log".to_owned());
        let (thread_wal, thread_keeper) = (wal.clone(), keeper.clone());
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let handle = thread.spawn(move || {
            let _end = end;
            thread_keeper.keep(&*thread_wal);
        })?;
        Ok(Custody {
            wal,
            acknowledged: watch::Sender::default(),
            consumer,
            keeper,
            keeper_thread: Mutex::new(Some(handle)),
            ended,
            refusal_said: Said::default(),
            rejection_said: Said::default(),
            batch_bytes: (options.log.segment_bytes / 2) as usize,
            figures: Figures::default(),
            _share: share,
        })
    }

    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Stages the pieces and waits until they are in the file. Pieces that do not fit into one batch of the log are taken
    /// group by group: what is refused after the first is counted and lost, as the source can't give back a part.
    pub(super) async fn accept(&self, pieces: &[Piece]) -> Result<(), Error> {
        let items = |pieces: &[Piece]| pieces.iter().map(|piece| u64::from(piece.items)).sum::<u64>();
        let mut rest = pieces;
        while !rest.is_empty() {
            let (group, behind) = rest.split_at(first_group(rest, self.batch_bytes));
            let accepted = async { self.written(self.append(group)?).await };
            if let Err(error) = accepted.await {
                self.refused(items(rest), &error);
                return if rest.len() == pieces.len() { Err(error) } else { Ok(()) };
            }
            add(&self.figures.accepted_items, items(group));
            let newest_ms = group.iter().map(|piece| piece.newest_ms).max().unwrap_or(i64::MIN);
            self.figures.newest_accepted_ms.fetch_max(newest_ms, Ordering::Relaxed);
            rest = behind;
        }
        Ok(())
    }

    /// Counts, and says it now and then: a full log refuses and takes in turns, for hours.
    fn refused(&self, items: u64, error: &Error) {
        add(&self.figures.refused_items, items);
        if self.refusal_said.is_due() {
            let refused_items = self.figures.refused_items.load(Ordering::Relaxed);
            tracing::warn!(
                endpoint = &*self.keeper.endpoint,
                reason = %error,
                refused_items,
                "the log refuses data"
            );
        }
    }

    /// Stages the pieces; returns the position behind them.
    fn append(&self, pieces: &[Piece]) -> Result<Position, Error> {
        if self.ended.is_cancelled() {
            return Err(Error::Failed(CLOSED.to_owned()));
        }
        let trouble = self.keeper.trouble.lock().expect("no code panics while holding it").clone();
        if !trouble.is_empty() {
            return Err(Error::Full(trouble));
        }
        let records: Vec<Vec<u8>> = pieces.iter().map(Piece::encode).collect();
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        match self.wal.append(&records, now_ms()) {
            Ok(positions) => Ok(positions.end),
            Err(error) if error.is_full() => Err(Error::Full(error.to_string())),
            Err(error) => Err(Error::Failed(error.to_string())),
        }
    }

    /// Waits until all before `end` is in the file. What was staged too late for the thread's last write is refused: it
    /// is in memory alone.
    async fn written(&self, end: Position) -> Result<(), Error> {
        tokio::select! {
            biased;
            reached = self.reached(end, |watermarks| watermarks.written) => match reached {
                true => Ok(()),
                false => Err(Error::Failed(FAILED.to_owned())),
            },
            () = self.ended.cancelled() => match self.wal.watermarks().written {
                written if written >= end => Ok(()),
                _ => Err(Error::Failed(CLOSED.to_owned())),
            },
        }
    }

    /// Waits until all that is staged now is synced: for ever if it cannot be, since the log has failed or has been closed after a
    /// last sync that failed. Whoever cannot wait so long gives up and has no promise.
    pub(super) async fn durable(&self) {
        if !self.reached(self.wal.watermarks().staged, |watermarks| watermarks.durable).await {
            std::future::pending().await
        }
    }

    /// Waits until all that is written now is acknowledged by the endpoint.
    pub(super) async fn delivered(&self) {
        let end = self.wal.watermarks().written;
        let mut acknowledged = self.acknowledged.subscribe();
        // An error would mean that the sender is gone, and it is here.
        let _ = acknowledged.wait_for(|_| self.next_to_send(0) >= end).await;
    }

    /// Waits until there is a written record at or behind `position`.
    pub(super) async fn written_behind(&self, position: Position) {
        if !self.reached(position + 1, |watermarks| watermarks.written).await {
            std::future::pending().await
        }
    }

    /// False if the log has failed before: then polling it is always ready, and nothing changes any more.
    async fn reached(&self, position: Position, watermark: fn(&Watermarks) -> Position) -> bool {
        let mut seen = self.wal.watermarks();
        while watermark(&seen) < position {
            let now = poll_fn(|context| self.wal.poll_watermarks(context, &seen)).await;
            if now == seen {
                return false;
            }
            seen = now;
        }
        true
    }

    /// The records from `position` on. Those no longer in memory are read by a thread that may wait for the disk.
    pub(super) async fn read(&self, position: Position) -> Vec<Item> {
        let wal = self.wal.clone();
        let read = move || wal.read(position, Read::default());
        let result = tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        match result {
            Ok(items) => items,
            Err(error) => {
                tracing::error!(endpoint = &*self.keeper.endpoint, %error, position, "cannot read the log; trying again");
                tokio::time::sleep(FAILED_WAIT).await;
                Vec::new()
            }
        }
    }

    /// The first position at or behind `position` that is not acknowledged.
    pub(super) fn next_to_send(&self, position: Position) -> Position {
        self.wal.next_unacknowledged(self.consumer, position).expect("the consumer lives as long as its log")
    }

    /// The endpoint has the record, or has refused it for good.
    pub(super) fn acknowledge(&self, position: Position) {
        self.acknowledge_all(position..position + 1);
    }

    /// Notes what is acknowledged, so that it is not sent again after `kill -9`. By a thread that may wait for the disk.
    pub(super) async fn note(&self) {
        let wal = self.wal.clone();
        let noted = tokio::task::spawn_blocking(move || wal.note_cursors()).await;
        if let Ok(Err(error)) = noted {
            // What it costs is a request sent again after a kill, and the disk's trouble is told by the thread that writes.
            tracing::debug!(endpoint = &*self.keeper.endpoint, %error, "cannot note what is delivered");
        }
    }

    /// Records that cannot be read: reported once, then behind us.
    pub(super) fn lost(&self, gap: Gap) {
        let (from, to) = (gap.positions.start, gap.positions.end);
        tracing::error!(endpoint = &*self.keeper.endpoint, from, to, reason = ?gap.reason, "records of the log are gone");
        self.acknowledge_all(gap.positions);
    }

    fn acknowledge_all(&self, positions: Range<Position>) {
        if let Err(error) = self.wal.acknowledge(self.consumer, positions.clone()) {
            tracing::error!(endpoint = &*self.keeper.endpoint, %error, ?positions, "cannot acknowledge; it will be sent again");
        }
        self.acknowledged.send_replace(());
    }

    /// A record that this version does not know.
    pub(super) fn undecodable(&self, position: Position) {
        tracing::error!(
            endpoint = &*self.keeper.endpoint,
            position,
            "a record was written by another version; dropped"
        );
        self.figures.rejected(1, super::Rejection::Other);
        self.acknowledge(position);
    }

    pub(super) fn state(&self) -> LogState {
        let stats = self.wal.stats();
        let cursor = self.wal.cursor(self.consumer).unwrap_or_default();
        let lag = cursor.oldest_stamp_ms.map_or(0, |stamp| now_ms().saturating_sub(stamp));
        LogState {
            lag_records: cursor.lag_records,
            lag_bytes: cursor.lag_bytes,
            lag: Duration::from_millis(lag),
            disk_bytes: stats.disk_bytes,
            limit_bytes: stats.limit_bytes,
            segments: stats.segments,
            syncs: stats.syncs,
            storage_failures: stats.storage_failures,
            dropped_records: stats.dropped_records,
            damaged_records: stats.damaged_records,
        }
    }

    /// Ends the thread after a last sync, and waits for calls into the log that nobody waits for any more: those of lanes that
    /// were stopped. Who opens the log next must find it released. What is accepted later is refused.
    pub(super) async fn close(&self) {
        let handle = self.keeper_thread.lock().expect("no code panics while holding it").take();
        let Some(handle) = handle else { return };
        self.keeper.stop.store(true, Ordering::Release);
        handle.thread().unpark();
        let _ = tokio::task::spawn_blocking(move || handle.join()).await;
        while Arc::strong_count(&self.wal) > 1 {
            tokio::time::sleep(RELEASE_LOOK).await;
        }
    }
}

impl Drop for Custody {
    /// Without an orderly close the thread ends all the same. It is waited for, as who opens the log next must find it released; but
    /// not for ever, as this may be a thread of the runtime and the disk may hang.
    fn drop(&mut self) {
        self.keeper.stop.store(true, Ordering::Release);
        if let Ok(handle) = self.keeper_thread.lock()
            && let Some(handle) = handle.as_ref()
        {
            handle.thread().unpark();
        }
        let patience = Instant::now() + RELEASE_PATIENCE;
        while Arc::strong_count(&self.wal) > 1 && Instant::now() < patience {
            std::thread::sleep(RELEASE_LOOK);
        }
    }
}

impl Keeper {
    /// The thread's life.
    fn keep(&self, wal: &dyn Wal) {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let (mut synced, mut tidied) = (Instant::now(), Instant::now());
        loop {
            let stop = self.stop.load(Ordering::Acquire);
            let mut seen = wal.watermarks();
            let mut done = Ok(());
            if seen.staged > seen.written {
                done = wal.write().map(|watermarks| seen = watermarks);
            }
            if done.is_ok() && seen.durable < seen.written && (stop || synced.elapsed() >= self.sync_interval)
            {
                done = wal.sync().map(|watermarks| seen = watermarks);
                synced = Instant::now();
            }
            if done.is_ok() && (stop || tidied.elapsed() >= TIDY_INTERVAL) {
                done = wal.save_cursors().and_then(|()| wal.release(now_ms())).and_then(|_| prepare(wal));
                tidied = Instant::now();
                seen = wal.watermarks();
            }
            let failed = done.is_err();
            self.note(done);
            if stop {
                return;
            }
            let wait = match (failed, seen.durable < seen.written) {
                (true, _) => FAILED_WAIT,
                (false, true) => self.sync_interval.saturating_sub(synced.elapsed()),
                (false, false) => TIDY_INTERVAL.saturating_sub(tidied.elapsed()),
            };
            if failed || wal.poll_watermarks(&mut context, &seen) == Poll::Pending {
                std::thread::park_timeout(wait);
            }
        }
    }

    /// Remembers trouble and the end of it; one line for each change.
    fn note(&self, done: alloy_wal::Result<()>) {
        let now = done.err().map(|error| error.to_string()).unwrap_or_default();
        let mut trouble = self.trouble.lock().expect("no code panics while holding it");
        match (trouble.is_empty(), now.is_empty()) {
            (true, false) => {
                tracing::error!(
                    endpoint = &*self.endpoint,
                    error = now,
                    "the log cannot be written; new data is refused until it can"
                );
            }
            (false, true) => tracing::info!(endpoint = &*self.endpoint, "the log can be written again"),
            _ => {}
        }
        *trouble = now;
    }
}

/// A spare segment saves time and is not needed: on a full disk the log goes on in the space that it has, and it is tried again.
fn prepare(wal: &dyn Wal) -> alloy_wal::Result<()> {
    wal.prepare().or_else(|error| if error.is_full() { Ok(()) } else { Err(error) })
}

/// How many of the pieces go into one batch: as many as fit, and one at least.
fn first_group(pieces: &[Piece], batch_bytes: usize) -> usize {
    let mut bytes = 0;
    let fits = |piece: &&Piece| {
        bytes += piece.body.len();
        bytes <= batch_bytes
    };
    pieces.iter().take_while(fits).count().max(1)
}

/// Wakes a thread as an executor wakes a task.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn open_log(options: &Options) -> anyhow::Result<Arc<Log>> {
    let directory = &options.directory;
    let of = || format!("cannot open the log {}", directory.display());
    std::fs::create_dir_all(directory).with_context(of)?;
    let limits = alloy_wal::Options {
        segment_bytes: options.log.segment_bytes / PAGE_BYTES * PAGE_BYTES,
        max_bytes: options.log.max_bytes.unwrap_or(MAX_BYTES.max(options.log.least_bytes())),
        max_age_ms: options.log.max_age.map(|age| age.as_millis() as u64),
        policy: Policy::Refuse,
        max_unsynced_bytes: UNSYNCED_BYTES,
        ..alloy_wal::Options::default()
    };
    let log = Arc::new(Log::open(directory, limits).with_context(of)?);
    let recovery = log.recovery();
    tracing::info!(endpoint = options.endpoint.name, ?recovery, "opened the log");
    Ok(log)
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
