//! The trait [`Wal`] and the words it uses.
//!
//! Invariant: knows no file, no clock, no async runtime. The disk is behind
//! [`Storage`](crate::Storage); time comes in as an argument.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::wakers::thread_waker;
use crate::{Error, Result};

/// The number of a record: 64 bits, dense, in the order of appending. Survives restarts and rotation
/// and is never used twice for different records that any reader has seen.
pub type Position = u64;

/// How far the log has come. Every field is an exclusive end: "all records below".
///
/// `released <= durable <= written <= staged` always holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermarks {
    /// Records below are gone: every consumer is past them, or a limit dropped them.
    pub released: Position,
    /// Records below are synced to the device: they survive power loss.
    pub durable: Position,
    /// Records below are in the file: they survive the death of the process.
    pub written: Position,
    /// Records below have been appended; those from `written` on are in memory only.
    pub staged: Position,
}

/// A record as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub position: Position,
    /// The caller's time of appending, milliseconds since the Unix epoch.
    pub stamp_ms: u64,
    /// Its bytes, without a copy; they outlive the deletion of their segment.
    pub payload: Bytes,
}

/// What a reader meets on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record(Record),
    /// Records that can no longer be read. A gap is data, not the end: reading goes on behind it.
    Gap(Gap),
}

impl Item {
    /// The position at which reading goes on behind this item.
    pub fn next(&self) -> Position {
        match self {
            Item::Record(record) => record.position + 1,
            Item::Gap(gap) => gap.positions.end,
        }
    }
}

/// Positions that hold no readable record, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The positions that are gone.
    pub positions: Range<Position>,
    /// Why they are gone.
    pub reason: GapReason,
}

/// Why records are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// The checksum did not match, or the bytes were not there: the device lost or changed them.
    Damaged,
    /// A limit of bytes or age dropped them before this reader came.
    Dropped,
    /// Every consumer was past them; they were freed.
    Released,
}

/// How much one call to [`Wal::read`] returns at the most. At least one item is returned if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Items.
    pub items: usize,
    /// Bytes of payload.
    pub bytes: usize,
}

impl Default for Read {
    /// 256 items, 1 MiB.
    fn default() -> Self {
        Read { items: 256, bytes: 1 << 20 }
    }
}

/// Where a consumer that is new to the log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that the log holds.
    Oldest,
    /// Behind the newest record.
    Newest,
}

/// A consumer's handle into its log, cheap to copy. Valid until the consumer is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConsumerId(pub(crate) u32);

/// Where a consumer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Every record below is acknowledged. Records from here on are delivered again after a crash,
    /// except those that were acknowledged out of order and saved.
    pub acknowledged: Position,
    /// The low watermark as it is on disk.
    pub saved: Position,
    /// Records from `acknowledged` on that are acknowledged out of order.
    pub ahead: u64,
    /// Records that this consumer lost to a limit ([`GapReason::Dropped`]), since it was created.
    pub dropped: u64,
    /// Written records not acknowledged.
    pub lag_records: u64,
    /// Bytes on disk from the low watermark to the end.
    pub lag_bytes: u64,
    /// `stamp_ms` of the oldest record not acknowledged, if there is one; of one up to some 64 KiB before it if it is not in memory.
    pub oldest_stamp_ms: Option<u64>,
}

/// A consumer by name, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its handle.
    pub id: ConsumerId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub cursor: Cursor,
}

/// Counters and gauges for the caller to export. Counters start at zero when the log is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Records appended.
    pub appended_records: u64,
    /// Bytes of payload appended.
    pub appended_bytes: u64,
    /// Calls that wrote staged records to the file.
    pub writes: u64,
    /// Successful syncs.
    pub syncs: u64,
    /// Writes or syncs that failed and were survived by rewriting to a fresh segment.
    pub storage_failures: u64,
    /// Records dropped by a limit, over all consumers.
    pub dropped_records: u64,
    /// Records found damaged while reading or recovering.
    pub damaged_records: u64,
    /// Segments that hold records.
    pub segments: u64,
    /// Bytes on disk, spare segments and cursors included.
    pub disk_bytes: u64,
    /// Bytes that it may have at most.
    pub limit_bytes: u64,
    /// Bytes held in memory for staging and for fast reading.
    pub memory_bytes: u64,
}

/// A log of records with durable consumers.
///
/// Three words have one meaning everywhere: *staged* is in memory and lost with the process, *written* is in
/// the file and survives the death of the process, *durable* is synced and survives power loss.
///
/// No call but [`write`](Wal::write), [`sync`](Wal::sync), [`note_cursors`](Wal::note_cursors),
/// [`save_cursors`](Wal::save_cursors), [`release`](Wal::release) and [`prepare`](Wal::prepare), and those that create or remove
/// consumers, writes to the disk, and only
/// [`read`](Wal::read) of records that are no longer in memory reads from it.
///
/// # Contract
/// 1. Positions are dense and ordered as the calls to `append` returned; a batch has consecutive positions.
/// 2. `append` never waits for the disk. It fails without a trace when a limit refuses the batch.
/// 3. When `write` returns `Ok`, every record staged before the call is written; likewise `sync` and durable.
/// 4. After a crash of the process every written record is there; after power loss every durable one. What
///    is there is a prefix of what was appended, except for gaps that are reported as such, and a batch is
///    there whole or not at all.
/// 5. `read` returns written records only, in order, exactly as appended; damaged or dropped ones appear as
///    [`Item::Gap`] with their exact positions.
/// 6. No record is dropped while a consumer has not acknowledged it, unless a declared limit says so; each
///    dropped record is counted for each consumer that had not acknowledged it.
/// 7. Acknowledging is idempotent and may come out of order within a bounded window. A noted cursor survives the death of the
///    process, a saved one power loss. Neither is ever ahead of what was acknowledged, nor of the log.
/// 8. A failed write or sync leaves the log usable or fails every later `append`, `write` and `sync`; nothing
///    is called written or durable that is not.
/// 9. A waker given to `poll_watermarks` is woken when the watermarks differ from `seen`, and when the log fails.
pub trait Wal: Send + Sync + 'static {
    /// Stages the records as one batch (all or nothing after a crash) and returns their positions.
    /// `stamp_ms` is the caller's time, for ages; the log stores it and never reads a clock.
    fn append(&self, batch: &[&[u8]], stamp_ms: u64) -> Result<Range<Position>>;

    /// Writes everything staged to the file. Concurrent callers share one write. Syncs too when more is unsynced than the
    /// options allow.
    fn write(&self) -> Result<Watermarks>;

    /// Writes everything staged and syncs it to the device. Concurrent callers share one sync.
    fn sync(&self) -> Result<Watermarks>;

    /// Returns when everything below `end` (the end of what [`append`](Wal::append) returned) is durable. Whoever waits leads the sync
    /// for all who wait, unless somebody does already.
    fn wait_durable(&self, end: Position) -> Result<Watermarks> {
        let now = self.watermarks();
        if now.durable >= end { Ok(now) } else { self.sync() }
    }

    /// Appends, and where a limit refuses waits until there is room: the policy of those whose threads may block. For room on disk it
    /// waits until somebody calls [`release`](Wal::release); what is staged it writes itself, so that consumers see it.
    ///
    /// # Errors
    /// Those of [`append`](Wal::append) but [`Error::Full`](crate::Error::Full), and those of [`write`](Wal::write).
    fn append_blocking(&self, batch: &[&[u8]], stamp_ms: u64) -> Result<Range<Position>> {
        let waker = thread_waker();
        loop {
            // Looked at before the attempt, so that no change after it is missed.
            let seen = self.watermarks();
            match self.append(batch, stamp_ms) {
                Err(Error::Full { .. }) => {
                    self.write()?;
                    while self.poll_watermarks(&mut Context::from_waker(&waker), &seen).is_pending() {
                        std::thread::park();
                    }
                }
                done => return done,
            }
        }
    }

    /// How far the log has come.
    fn watermarks(&self) -> Watermarks;

    /// Ready as soon as the watermarks differ from `seen`. For any executor, or for a thread with a waker of its own.
    /// A log that has failed is always ready: the next call says so.
    fn poll_watermarks(&self, context: &mut Context<'_>, seen: &Watermarks) -> Poll<Watermarks>;

    /// Reads written records from `from` on (clamped to what is there, with a gap in front), as far as `limit` goes.
    /// Empty at the end. May read from the disk. A device that cannot read is an error and not a gap: nothing is given up for
    /// lost because of an outage. (`Log::read_over_unreadable` gives up.)
    fn read(&self, from: Position, limit: Read) -> Result<Vec<Item>>;

    /// Finds or creates the consumer of that name; creating is durable when this returns.
    fn consumer(&self, name: &str, start: Start) -> Result<ConsumerId>;

    /// Removes a consumer: its records are no longer kept for it.
    fn remove_consumer(&self, id: ConsumerId) -> Result<()>;

    /// All consumers.
    fn consumers(&self) -> Vec<Consumer>;

    /// Where a consumer stands.
    fn cursor(&self, id: ConsumerId) -> Result<Cursor>;

    /// The consumer is done with these records. In memory until [`note_cursors`](Wal::note_cursors) or
    /// [`save_cursors`](Wal::save_cursors).
    fn acknowledge(&self, id: ConsumerId, positions: Range<Position>) -> Result<()>;

    /// The first position at or after `from` that the consumer has not acknowledged: what to read after a restart.
    fn next_unacknowledged(&self, id: ConsumerId, from: Position) -> Result<Position>;

    /// Writes all cursors to a file without a sync: they survive the death of the process, and after power loss what was saved counts.
    /// One small write, cheap enough for every acknowledgement.
    fn note_cursors(&self) -> Result<()>;

    /// Puts all cursors on disk, durably; first syncs the log where a cursor would be ahead of it.
    fn save_cursors(&self) -> Result<()>;

    /// Frees what every consumer is past (saving the cursors first) and applies limits of age as of `now_ms`.
    fn release(&self, now_ms: u64) -> Result<Watermarks>;

    /// Prepares spare segments ahead of need. For a thread that may wait for the disk, now and then.
    fn prepare(&self) -> Result<()>;

    /// Counters and gauges.
    fn stats(&self) -> Stats;
}

impl<W: Wal + ?Sized> Wal for Arc<W> {
    fn append(&self, batch: &[&[u8]], stamp_ms: u64) -> Result<Range<Position>> {
        (**self).append(batch, stamp_ms)
    }
    fn write(&self) -> Result<Watermarks> {
        (**self).write()
    }
    fn sync(&self) -> Result<Watermarks> {
        (**self).sync()
    }
    fn watermarks(&self) -> Watermarks {
        (**self).watermarks()
    }
    fn poll_watermarks(&self, context: &mut Context<'_>, seen: &Watermarks) -> Poll<Watermarks> {
        (**self).poll_watermarks(context, seen)
    }
    fn read(&self, from: Position, limit: Read) -> Result<Vec<Item>> {
        (**self).read(from, limit)
    }
    fn consumer(&self, name: &str, start: Start) -> Result<ConsumerId> {
        (**self).consumer(name, start)
    }
    fn remove_consumer(&self, id: ConsumerId) -> Result<()> {
        (**self).remove_consumer(id)
    }
    fn consumers(&self) -> Vec<Consumer> {
        (**self).consumers()
    }
    fn cursor(&self, id: ConsumerId) -> Result<Cursor> {
        (**self).cursor(id)
    }
    fn acknowledge(&self, id: ConsumerId, positions: Range<Position>) -> Result<()> {
        (**self).acknowledge(id, positions)
    }
    fn next_unacknowledged(&self, id: ConsumerId, from: Position) -> Result<Position> {
        (**self).next_unacknowledged(id, from)
    }
    fn note_cursors(&self) -> Result<()> {
        (**self).note_cursors()
    }
    fn save_cursors(&self) -> Result<()> {
        (**self).save_cursors()
    }
    fn release(&self, now_ms: u64) -> Result<Watermarks> {
        (**self).release(now_ms)
    }
    fn prepare(&self) -> Result<()> {
        (**self).prepare()
    }
    fn stats(&self) -> Stats {
        (**self).stats()
    }
}
