//! The log on disk: its state, and the calls of [`Wal`] that need no more than that.
//!
//! - `commit.rs` writes and syncs, `rewrite.rs` survives a failure of either, `read.rs` reads, `housekeeping.rs` saves and frees
//!
//! One lock guards the state and is never held while the disk works. Three batons, each with one holder at a
//! time, serialise the disk: whoever writes, whoever syncs, whoever saves cursors or frees files. They are taken in the order
//! cursors, sync, write.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::sync::{Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll};

use crate::commit::Baton;
use crate::consumer::{ConsumerState, Consumers};
use crate::cursors::{CursorFile, Hint};
use crate::frame::{PAYLOAD_BYTES_MAX, frame_bytes};
use crate::reader::Resumes;
use crate::recovery::{self, Recovery, Spare};
use crate::retention::Plan;
use crate::segment::{Segment, lock};
use crate::staging::{Recent, Staging};
use crate::storage::{Storage, file::FileStorage};
use crate::wakers::{self, Wakers};
use crate::{
    Consumer, ConsumerId, Cursor, Error, Item, Options, Position, Read, Result, Start, Stats, Wal, Watermarks,
};

/// A log in a directory.
///
/// The orderly end is [`sync`](Wal::sync), then [`save_cursors`](Wal::save_cursors): [`Log::close`] does both.
/// Dropping the log writes nothing: what is staged is lost, as it would be if the process died.
///
/// A log without a consumer keeps everything, up to its limits.
pub struct Log {
    pub(crate) options: Options,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) log_id: u64,
    pub(crate) state: Mutex<State>,
    /// The write baton was put down.
    freed_write: Condvar,
    /// The sync baton was put down.
    freed_sync: Condvar,
    pub(crate) cursor_file: Mutex<CursorFile>,
    /// None until something is noted.
    pub(crate) notes: Mutex<Option<CursorFile>>,
    pub(crate) resumes: Resumes,
    recovery: Recovery,
}

/// Everything that changes, behind the log's lock.
pub(crate) struct State {
    pub(crate) watermarks: Watermarks,
    pub(crate) failed: Option<Arc<Error>>,
    pub(crate) staging: Staging,
    pub(crate) recent: Recent,
    /// Oldest first.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    /// The one that is written to; the next write opens a new one if there is none.
    pub(crate) active: Option<Arc<Segment>>,
    /// Segments with records that are not synced, oldest first.
    pub(crate) dirty: Vec<Arc<Segment>>,
    /// Counts segments named; the directory is synced up to the second number.
    pub(crate) names: u64,
    pub(crate) names_synced: u64,
    /// The active segment cannot be trusted: records that are not durable must be written once more, elsewhere.
    pub(crate) rewrite_due: bool,
    /// Where the durable records end: recovery begins to scan there.
    pub(crate) hint: Hint,
    pub(crate) cursor_bytes: u64,
    pub(crate) notes_bytes: u64,
    /// Counts rewrites.
    pub(crate) generation: u64,
    pub(crate) write_queue: Queue,
    pub(crate) sync_queue: Queue,
    /// Calls to sync since the last one began, and before that.
    pub(crate) sync_callers: u64,
    pub(crate) last_group: u64,
    pub(crate) spares: Vec<Spare>,
    /// Spares being made.
    pub(crate) spares_coming: usize,
    /// Out of the log, their files still to be freed.
    pub(crate) freed: Vec<Arc<Segment>>,
    /// [`Options::max_bytes`], as it is now.
    pub(crate) max_bytes: u64,
    pub(crate) plan: Plan,
    pub(crate) consumers: Consumers,
    pub(crate) dropped_below: Position,
    pub(crate) next_number: u64,
    pub(crate) next_spare: u64,
    pub(crate) stats: Stats,
    pub(crate) wakers: Wakers,
}

/// Who has a baton, and who wants it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) held: bool,
    pub(crate) waiting: u32,
}

impl State {
    pub(crate) fn queue(&mut self, baton: Baton) -> &mut Queue {
        match baton {
            Baton::Write => &mut self.write_queue,
            Baton::Sync => &mut self.sync_queue,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(Error::Failed(error.clone())))
    }

    /// Bytes written but not durable.
    pub(crate) fn unsynced_bytes(&self) -> usize {
        self.recent.unsynced(self.watermarks.durable).map(|part| part.bytes.len()).sum()
    }

    /// Forgets records that need not be in memory any more.
    pub(crate) fn shrink_recent(&mut self, options: &Options) {
        self.recent.shrink(self.watermarks.durable, options, &mut self.staging.pool);
    }

    /// The segment that holds `position`, or the first one behind it.
    pub(crate) fn segment_at(&self, position: Position) -> Option<&Arc<Segment>> {
        let after = self.segments.partition_point(|segment| segment.extent().end <= position);
        self.segments.get(after)
    }
}

impl Log {
    /// Opens the log in a directory, creating it if it is missing, and recovers what is there.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NewerVersion`], [`Error::Foreign`], [`Error::InvalidOptions`], or [`Error::Io`].
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<Log> {
        options.check()?;
        Log::open_on(Arc::new(FileStorage::open(directory)?), options)
    }

    /// Opens the log on a storage of the caller's.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(storage: Arc<dyn Storage>, options: Options) -> Result<Log> {
        options.check()?;
        let found = recovery::recover(&*storage, &options)?;
        let next = found.next;
        let released = found.segments.front().map_or(next, Segment::base);
        let next_spare =
            found.spares.iter().filter_map(|spare| spare_number(&spare.name)).max().unwrap_or(0) + 1;
        let damaged = found.report.damaged.iter().map(|range| range.end - range.start).sum();
        let state = State {
            watermarks: Watermarks { released, durable: next, written: next, staged: next },
            failed: None,
            staging: Staging::default(),
            recent: Recent::default(),
            segments: found.segments.into_iter().map(Arc::new).collect(),
            active: None,
            dirty: Vec::new(),
            names: 0,
            names_synced: 0,
            rewrite_due: false,
            hint: Hint { durable: next, ..Hint::default() },
            cursor_bytes: found.cursor_file.bytes(),
            notes_bytes: 0,
            generation: 0,
            write_queue: Queue::default(),
            sync_queue: Queue::default(),
            sync_callers: 0,
            last_group: 0,
            spares: found.spares,
            spares_coming: 0,
            freed: Vec::new(),
            max_bytes: options.max_bytes,
            plan: Plan::new(None, &options),
            consumers: found.consumers,
            dropped_below: found.dropped_below,
            next_number: found.next_number,
            next_spare,
            stats: Stats { damaged_records: damaged, ..Stats::default() },
            wakers: Wakers::default(),
        };
        Ok(Log {
            options,
            storage,
            log_id: found.log_id,
            state: Mutex::new(state),
            freed_write: Condvar::new(),
            freed_sync: Condvar::new(),
            cursor_file: Mutex::new(found.cursor_file),
            notes: Mutex::new(None),
            resumes: Resumes::default(),
            recovery: found.report,
        })
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Changes [`Options::max_bytes`] from the next `append` on. What is there stays: a log that is larger than its new limit
    /// refuses or drops until it is not.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`]: it is less than a log needs, and nothing has changed.
    pub fn set_max_bytes(&self, max_bytes: u64) -> Result<()> {
        Options { max_bytes, ..self.options.clone() }.check()?;
        self.lock().max_bytes = max_bytes;
        Ok(())
    }

    /// [`Options::max_bytes`], as it is now.
    pub fn max_bytes(&self) -> u64 {
        self.lock().max_bytes
    }

    /// Syncs, saves the cursors and ends.
    ///
    /// # Errors
    /// Those of [`sync`](Wal::sync) and [`save_cursors`](Wal::save_cursors); the log is closed nevertheless.
    pub fn close(self) -> Result<()> {
        self.sync()?;
        self.save_cursors()
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Signalled when the baton is put down.
    pub(crate) fn freed(&self, baton: Baton) -> &Condvar {
        match baton {
            Baton::Write => &self.freed_write,
            Baton::Sync => &self.freed_sync,
        }
    }

    /// The log takes and promises nothing any more.
    pub(crate) fn fail(&self, error: Error) -> Error {
        let mut state = self.lock();
        let error = Arc::new(error);
        let first = state.failed.get_or_insert(error).clone();
        let woken = state.wakers.take();
        drop(state);
        wakers::wake(woken);
        Error::Failed(first)
    }
}

fn spare_number(name: &str) -> Option<u64> {
    name.strip_prefix(recovery::SPARE_PREFIX)?.parse().ok()
}

/// Checks a batch against the limits that no waiting helps; returns the bytes of its frames.
pub(crate) fn check_batch(batch: &[&[u8]], options: &Options) -> Result<usize> {
    let largest = options.max_record_bytes.min(PAYLOAD_BYTES_MAX);
    let mut bytes = 0;
    for record in batch {
        if record.len() > largest {
            return Err(Error::TooLarge { bytes: record.len() as u64, limit: largest as u64 });
        }
        bytes += frame_bytes(record.len());
    }
    if bytes as u64 > options.segment_room() {
        return Err(Error::TooLarge { bytes: bytes as u64, limit: options.segment_room() });
    }
    Ok(bytes)
}

impl Wal for Log {
    fn append(&self, batch: &[&[u8]], stamp_ms: u64) -> Result<Range<Position>> {
        let batch_bytes = check_batch(batch, &self.options)?;
        let mut state = self.lock();
        state.check()?;
        let first = state.watermarks.staged;
        if batch.is_empty() {
            return Ok(first..first);
        }
        let cost = state.staging.cost(batch_bytes) as u64;
        state.make_room(cost, &self.options)?;
        state.staging.push(first, batch, batch_bytes, stamp_ms);
        let end = first + batch.len() as u64;
        state.watermarks.staged = end;
        state.stats.appended_records += batch.len() as u64;
        state.stats.appended_bytes += batch.iter().map(|record| record.len() as u64).sum::<u64>();
        if state.wakers.is_empty() {
            return Ok(first..end);
        }
        let woken = state.wakers.take();
        drop(state);
        wakers::wake(woken);
        Ok(first..end)
    }

    fn write(&self) -> Result<Watermarks> {
        self.write_staged()
    }

    fn sync(&self) -> Result<Watermarks> {
        self.sync_staged()
    }

    fn watermarks(&self) -> Watermarks {
        self.lock().watermarks
    }

    fn poll_watermarks(&self, context: &mut Context<'_>, seen: &Watermarks) -> Poll<Watermarks> {
        let mut state = self.lock();
        if state.watermarks != *seen || state.failed.is_some() {
            return Poll::Ready(state.watermarks);
        }
        state.wakers.register(context);
        Poll::Pending
    }

    fn read(&self, from: Position, limit: Read) -> Result<Vec<Item>> {
        self.read_items(from, limit)
    }

    fn consumer(&self, name: &str, start: Start) -> Result<ConsumerId> {
        let mut state = self.lock();
        let begin = match start {
            Start::Newest if !self.recovery.cursors_lost => state.watermarks.staged,
            _ => state.watermarks.released,
        };
        let (id, new) = state.consumers.find_or_create(name, begin, self.options.max_consumers)?;
        drop(state);
        if new && let Err(error) = self.save_cursors() {
            // It may have been removed meanwhile; then there is nothing to take back.
            let _ = self.lock().consumers.remove(id);
            self.forget_notes()?;
            return Err(error);
        }
        Ok(id)
    }

    fn remove_consumer(&self, id: ConsumerId) -> Result<()> {
        let removed = self.lock().consumers.remove(id)?;
        self.save_removal().inspect_err(|_| self.lock().consumers.put_back(id, removed))
    }

    fn consumers(&self) -> Vec<Consumer> {
        let state = self.lock();
        state.consumers.list(|consumer| state.cursor_of(consumer))
    }

    fn cursor(&self, id: ConsumerId) -> Result<Cursor> {
        let state = self.lock();
        Ok(state.cursor_of(state.consumers.find(id)?))
    }

    fn acknowledge(&self, id: ConsumerId, positions: Range<Position>) -> Result<()> {
        let mut state = self.lock();
        let written = state.watermarks.written;
        state.consumers.acknowledge(id, positions, written, self.options.window)
    }

    fn next_unacknowledged(&self, id: ConsumerId, from: Position) -> Result<Position> {
        let state = self.lock();
        let from = from.max(state.watermarks.released);
        Ok(state.consumers.find(id)?.next_unacknowledged(from))
    }

    fn note_cursors(&self) -> Result<()> {
        self.note_all_cursors()
    }

    fn save_cursors(&self) -> Result<()> {
        self.save_all_cursors()
    }

    fn release(&self, now_ms: u64) -> Result<Watermarks> {
        self.release_passed(now_ms)
    }

    fn prepare(&self) -> Result<()> {
        self.prepare_spares()
    }

    fn stats(&self) -> Stats {
        let state = self.lock();
        let spares = state.spares.len() as u64 * self.options.segment_bytes;
        let freed: u64 = state.freed.iter().map(|segment| segment.file_bytes).sum();
        Stats {
            segments: state.segments.len() as u64,
            disk_bytes: state.segment_bytes() + spares + freed + state.cursor_bytes + state.notes_bytes,
            limit_bytes: state.max_bytes,
            memory_bytes: state.memory_bytes(),
            ..state.stats
        }
    }
}

impl State {
    fn memory_bytes(&self) -> u64 {
        (self.staging.bytes() + self.staging.pool.bytes() + self.recent.memory()) as u64
    }

    fn cursor_of(&self, consumer: &ConsumerState) -> Cursor {
        let low = consumer.acknowledged;
        let written = self.watermarks.written;
        let ahead = consumer.ahead_count();
        let unread = self.segments.iter().filter(|segment| segment.extent().end > low);
        let lag_bytes = unread
            .map(|segment| {
                let entry = segment.find(low.max(segment.base()));
                segment.extent().bytes.saturating_sub(entry.offset)
            })
            .sum();
        let behind = low < written;
        let stamp = || {
            let known = self.recent.stamp(low);
            known.or_else(|| {
                self.segment_at(low).map(|segment| segment.find(low.max(segment.base())).stamp_ms)
            })
        };
        Cursor {
            acknowledged: low,
            saved: consumer.saved,
            ahead,
            dropped: consumer.dropped,
            lag_records: written.saturating_sub(low).saturating_sub(ahead),
            lag_bytes: if behind { lag_bytes } else { 0 },
            oldest_stamp_ms: behind.then(stamp).flatten(),
        }
    }
}
