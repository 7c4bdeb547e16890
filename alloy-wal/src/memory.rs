//! The same log without a disk: for tests, and for those who want the queue but not the files.

use crate::sync::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::consumer::{ConsumerState, Consumers};
use crate::error::Limit;
use crate::frame::frame_bytes;
use crate::log::check_batch;
use crate::read::wants;
use crate::segment::lock;
use crate::wakers::{self, Wakers};
use crate::{
    Consumer, ConsumerId, Cursor, Error, Gap, GapReason, Item, Options, Policy, Position, Read, Record,
    Result, Start, Stats, Wal, Watermarks,
};

/// A log in memory. "Written" and "durable" mean that the calls were made; nothing survives the process.
///
/// Of the [`Options`] it knows the limits of records, bytes, age, window and consumers. It frees record by record.
pub struct MemoryLog {
    options: Options,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watermarks: Watermarks,
    /// From `released` to `staged`.
    records: VecDeque<Record>,
    bytes: u64,
    dropped_below: Position,
    consumers: Consumers,
    stats: Stats,
    wakers: Wakers,
}

impl MemoryLog {
    /// An empty log.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`].
    pub fn new(options: Options) -> Result<MemoryLog> {
        options.check()?;
        Ok(MemoryLog { options, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes the state, then wakes who waits for it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.lock();
        let before = state.watermarks;
        let result = change(&mut state);
        let woken = if state.watermarks == before { Vec::new() } else { state.wakers.take() };
        drop(state);
        wakers::wake(woken);
        result
    }
}

impl State {
    /// Removes the oldest record; dropped ones are counted.
    fn pop(&mut self, reason: GapReason) {
        let Some(record) = self.records.pop_front() else { return };
        self.bytes -= frame_bytes(record.payload.len()) as u64;
        let end = record.position + 1;
        self.watermarks.released = end;
        if reason == GapReason::Dropped {
            self.stats.dropped_records += self.consumers.drop_below(end);
            self.dropped_below = end;
        }
    }

    /// True if the oldest record is durable, so that it may go.
    fn may_pop(&self) -> bool {
        self.watermarks.released < self.watermarks.durable
    }

    fn cursor_of(&self, consumer: &ConsumerState) -> Cursor {
        let written = self.watermarks.written;
        let low = consumer.acknowledged;
        let ahead = consumer.ahead_count();
        let skipped = low.saturating_sub(self.watermarks.released) as usize;
        let unread = (written.saturating_sub(low.max(self.watermarks.released))) as usize;
        let unread = || self.records.iter().skip(skipped).take(unread);
        Cursor {
            acknowledged: low,
            saved: consumer.saved,
            ahead,
            dropped: consumer.dropped,
            lag_records: written.saturating_sub(low).saturating_sub(ahead),
            lag_bytes: unread().map(|record| frame_bytes(record.payload.len()) as u64).sum(),
            oldest_stamp_ms: unread().next().map(|record| record.stamp_ms),
        }
    }
}

impl Wal for MemoryLog {
    fn append(&self, batch: &[&[u8]], stamp_ms: u64) -> Result<Range<Position>> {
        let cost = check_batch(batch, &self.options)? as u64;
        self.change(|state| {
            while state.bytes + cost > self.options.max_bytes {
                if self.options.policy == Policy::Refuse || !state.may_pop() {
                    return Err(Error::Full { limit: Limit::Disk, bytes: self.options.max_bytes });
                }
                state.pop(GapReason::Dropped);
            }
            let first = state.watermarks.staged;
            for (position, payload) in (first..).zip(batch) {
                state.records.push_back(Record {
                    position,
                    stamp_ms,
                    payload: Bytes::copy_from_slice(payload),
                });
                state.stats.appended_bytes += payload.len() as u64;
            }
            state.bytes += cost;
            state.stats.appended_records += batch.len() as u64;
            state.watermarks.staged += batch.len() as u64;
            Ok(first..state.watermarks.staged)
        })
    }

    fn write(&self) -> Result<Watermarks> {
        self.change(|state| {
            state.watermarks.written = state.watermarks.staged;
            state.stats.writes += 1;
            Ok(state.watermarks)
        })
    }

    fn sync(&self) -> Result<Watermarks> {
        self.change(|state| {
            state.watermarks.written = state.watermarks.staged;
            state.watermarks.durable = state.watermarks.staged;
            state.stats.syncs += 1;
            Ok(state.watermarks)
        })
    }

    fn watermarks(&self) -> Watermarks {
        self.lock().watermarks
    }

    fn poll_watermarks(&self, context: &mut Context<'_>, seen: &Watermarks) -> Poll<Watermarks> {
        let mut state = self.lock();
        if state.watermarks != *seen {
            return Poll::Ready(state.watermarks);
        }
        state.wakers.register(context);
        Poll::Pending
    }

    fn read(&self, from: Position, limit: Read) -> Result<Vec<Item>> {
        let state = self.lock();
        let Watermarks { released, written, .. } = state.watermarks;
        let mut items = Vec::new();
        let mut next = from;
        for (end, reason) in [(state.dropped_below, GapReason::Dropped), (released, GapReason::Released)] {
            if next < end {
                items.push(Item::Gap(Gap { positions: next..end, reason }));
                next = end;
            }
        }
        let mut bytes = 0;
        let count = written.saturating_sub(next) as usize;
        for record in state.records.iter().skip((next - released) as usize).take(count) {
            if !wants(&limit, items.len(), bytes, record.payload.len()) {
                break;
            }
            bytes += record.payload.len();
            items.push(Item::Record(record.clone()));
        }
        Ok(items)
    }

    fn consumer(&self, name: &str, start: Start) -> Result<ConsumerId> {
        let mut state = self.lock();
        let begin = match start {
            Start::Oldest => state.watermarks.released,
            Start::Newest => state.watermarks.staged,
        };
        Ok(state.consumers.find_or_create(name, begin, self.options.max_consumers)?.0)
    }

    fn remove_consumer(&self, id: ConsumerId) -> Result<()> {
        self.lock().consumers.remove(id).map(drop)
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
        Ok(())
    }

    fn save_cursors(&self) -> Result<()> {
        let ahead = {
            let state = self.lock();
            state.consumers.acknowledged_end() > state.watermarks.durable
        };
        if ahead {
            self.sync()?;
        }
        let mut state = self.lock();
        let durable = state.watermarks.durable;
        let snapshot = state.consumers.clone();
        state.consumers.saved(&snapshot, durable);
        Ok(())
    }

    fn release(&self, now_ms: u64) -> Result<Watermarks> {
        self.save_cursors()?;
        self.change(|state| {
            let lowest = state.consumers.lowest().unwrap_or(0);
            while state.may_pop() && state.watermarks.released < lowest {
                state.pop(GapReason::Released);
            }
            let oldest_kept = self.options.max_age_ms.map_or(0, |age| now_ms.saturating_sub(age));
            let aged = |record: &Record| record.stamp_ms < oldest_kept;
            while state.may_pop() && state.records.front().is_some_and(aged) {
                state.pop(GapReason::Dropped);
            }
            Ok(state.watermarks)
        })
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        let state = self.lock();
        Stats { limit_bytes: self.options.max_bytes, memory_bytes: state.bytes, ..state.stats }
    }
}
