//! Group commit: whoever needs a write or a sync and finds nobody at it leads it for all who came before.
//!
//! A follower waits until the leader is done and looks again; then either its records are in, or it leads itself, with everything
//! that was staged meanwhile. So nobody waits for more than two rounds, and a leader that fails leaves nobody behind.
//! Writing goes on while a sync runs.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::sync::{PoisonError, yield_now};

use crate::cursors::Hint;
use crate::frame::{self, Header};
use crate::log::Log;
use crate::recovery::NEW_SUFFIX;
use crate::retention::Plan;
use crate::segment::{Extent, HEADER_BLOCK, IndexEntry, Segment, SegmentHeader, file_name};
use crate::staging::{Chunk, MARK_BYTES};
use crate::storage::{Fill, SegmentFile};
use crate::wakers;
use crate::{Error, Position, Result, Wal, Watermarks};

/// How often a leader gives way to those who are expected in his group. Each costs a microsecond if nobody comes.
const GATHER_YIELDS: u32 = 4;
/// A group of so many bytes keeps the device busy for longer than a sync costs anyway: nobody is waited for.
const GATHER_BYTES: usize = 256 << 10;

/// What a thread may hold alone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Baton {
    Write,
    Sync,
}

/// A held baton: put down when dropped, also by a panic.
pub(crate) struct Held<'a> {
    log: &'a Log,
    baton: Baton,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.log.lock();
        let queue = match self.baton {
            Baton::Write => &mut state.write_queue,
            Baton::Sync => &mut state.sync_queue,
        };
        queue.held = false;
        let waiting = queue.waiting > 0;
        drop(state);
        if waiting {
            self.log.freed(self.baton).notify_all();
        }
    }
}

impl Log {
    /// Waits for the baton, but no longer than `done` says no.
    pub(crate) fn take_baton(
        &self,
        baton: Baton,
        done: impl Fn(&Watermarks) -> bool,
    ) -> Result<Option<Held<'_>>> {
        let mut state = self.lock();
        loop {
            state.check()?;
            if done(&state.watermarks) {
                return Ok(None);
            }
            let queue = state.queue(baton);
            if !queue.held {
                queue.held = true;
                return Ok(Some(Held { log: self, baton }));
            }
            queue.waiting += 1;
            state = self.freed(baton).wait(state).unwrap_or_else(PoisonError::into_inner);
            state.queue(baton).waiting -= 1;
        }
    }

    /// Waits until everything up to `target` is written, or leads the write.
    fn write_up_to(&self, target: Position) -> Result<()> {
        while let Some(_held) = self.take_baton(Baton::Write, |now| now.written >= target)? {
            self.lead_write()?;
        }
        Ok(())
    }

    pub(crate) fn write_staged(&self) -> Result<Watermarks> {
        self.free_dropped();
        let target = self.watermarks().staged;
        self.write_up_to(target)?;
        let state = self.lock();
        let (unsynced, watermarks) = (state.unsynced_bytes(), state.watermarks);
        drop(state);
        if unsynced as u64 > self.options.unsynced_bytes_max() {
            return self.sync_staged();
        }
        Ok(watermarks)
    }

    pub(crate) fn sync_staged(&self) -> Result<Watermarks> {
        let target = {
            let mut state = self.lock();
            state.sync_callers += 1;
            state.watermarks.staged
        };
        // Not with the sync baton in hand: while another group is being synced, this one is written.
        self.write_up_to(target)?;
        while let Some(_held) = self.take_baton(Baton::Sync, |now| now.durable >= target)? {
            self.gather();
            let gathered = self.watermarks().staged;
            self.write_up_to(gathered)?;
            self.lead_sync()?;
        }
        Ok(self.lock().watermarks)
    }

    /// Lets those come who were in the last group: the first of them to be back would else sync alone, and the others wait for two
    /// syncs in place of one.
    fn gather(&self) {
        for _ in 0..GATHER_YIELDS {
            let state = self.lock();
            let enough = state.sync_callers >= state.last_group || state.unsynced_bytes() >= GATHER_BYTES;
            drop(state);
            if enough {
                break;
            }
            yield_now();
        }
        let mut state = self.lock();
        state.last_group = std::mem::take(&mut state.sync_callers);
    }

    /// Writes everything staged. What cannot be written stays staged.
    fn lead_write(&self) -> Result<()> {
        self.rewrite_if_due()?;
        let mut chunks = self.lock().staging.take();
        let mut failures = 0;
        let mut result = Ok(());
        while result.is_ok() && !chunks.is_empty() {
            result = self.write_front(&mut chunks).or_else(|error| self.survive(error, &mut failures));
        }
        let mut state = self.lock();
        state.staging.put_back(chunks);
        let start = Plan::new(state.active.as_ref().map(|active| active.extent().bytes), &self.options);
        state.plan = state.staging.batch_sizes().fold(start, |plan, size| plan.add(size, &self.options));
        state.stats.writes += u64::from(result.is_ok());
        result
    }

    /// After a failed write: goes on in a fresh segment, once.
    fn survive(&self, error: Error, failures: &mut u32) -> Result<()> {
        if error.is_passing() || error.is_failed() {
            return Err(error);
        }
        *failures += 1;
        if *failures > 1 {
            return Err(self.fail(error));
        }
        self.lock().rewrite_due = true;
        self.rewrite_if_due()
    }

    /// Writes as many batches of the first chunk as fit into the active segment, or opens a new one if none does.
    fn write_front(&self, chunks: &mut VecDeque<Chunk>) -> Result<()> {
        let Some(front) = chunks.front() else { return Ok(()) };
        let (active, durable) = {
            let state = self.lock();
            (state.active.clone(), state.watermarks.durable)
        };
        let count = active.as_ref().map_or(0, |active| fitting(front, active));
        let Some(active) = active.filter(|_| count > 0) else {
            return self.rotate(front.first, front.entries[0].stamp_ms);
        };
        let Some(mut chunk) = chunks.pop_front() else { return Ok(()) };
        if let Some(rest) = chunk.split_off(count) {
            chunks.push_front(rest);
        }
        let offset = active.extent().bytes;
        seal_chunk(&mut chunk, &active, offset, durable);
        if let Err(error) = active.file.write_at(&chunk.buffer, offset) {
            chunks.push_front(chunk);
            return Err(Error::io("write to", &active.name, error));
        }
        self.publish_written(&active, offset, chunk);
        Ok(())
    }

    fn publish_written(&self, active: &Arc<Segment>, offset: u64, chunk: Chunk) {
        let extent = Extent { end: chunk.end(), bytes: offset + chunk.buffer.len() as u64 };
        let entry = chunk.entries[0];
        active.note(IndexEntry {
            position: chunk.first,
            offset: offset + u64::from(entry.offset),
            stamp_ms: entry.stamp_ms,
        });
        let mut state = self.lock();
        active.set_extent(extent);
        state.recent.push(chunk.freeze());
        state.watermarks.written = extent.end;
        if !state.dirty.iter().any(|dirty| Arc::ptr_eq(dirty, active)) {
            state.dirty.push(active.clone());
        }
        let woken = state.wakers.take();
        drop(state);
        wakers::wake(woken);
    }

    /// Opens the next segment: a prepared one if there is one, else a new one made on the spot.
    fn rotate(&self, base: Position, stamp_ms: u64) -> Result<()> {
        let (spare, header) = {
            let mut state = self.lock();
            (state.spares.pop(), self.next_header(&mut state, base, stamp_ms, self.options.segment_bytes))
        };
        let name = file_name(header.number);
        let prepared = spare.and_then(|spare| {
            let written = spare
                .file
                .write_at(&header.encode(), 0)
                .and_then(|()| self.storage.rename(&spare.name, &name));
            if written.is_err() {
                // A spare that cannot be used is only worth its space; a new segment shows whether the disk works.
                let _ = self.storage.remove(&spare.name);
            }
            written.is_ok().then_some(spare.file)
        });
        let file = match prepared {
            Some(file) => file,
            None => {
                let temporary = format!("{name}{NEW_SUFFIX}");
                let file = self.create_segment(&temporary, &header)?;
                let renamed = self.storage.rename(&temporary, &name);
                renamed.map_err(|error| Error::io("rename", temporary, error))?;
                file
            }
        };
        let extent = Extent { end: base, bytes: HEADER_BLOCK };
        let segment = Arc::new(Segment::new(header, file, self.options.segment_bytes, extent));
        let mut state = self.lock();
        state.names += 1;
        if state.segments.is_empty() {
            state.watermarks.released = base;
        }
        state.segments.push_back(segment.clone());
        state.active = Some(segment);
        Ok(())
    }

    pub(crate) fn next_header(
        &self,
        state: &mut crate::log::State,
        base: Position,
        created_ms: u64,
        file_bytes: u64,
    ) -> SegmentHeader {
        let number = state.next_number;
        state.next_number += 1;
        let durable = state.watermarks.durable;
        SegmentHeader {
            log_id: self.log_id,
            number,
            base,
            created_ms,
            file_bytes,
            salt: self.storage.salt(),
            durable,
        }
    }

    /// Makes a file and writes its header block.
    pub(crate) fn create_segment(&self, name: &str, header: &SegmentHeader) -> Result<Box<dyn SegmentFile>> {
        let created = self.storage.create(name, header.file_bytes, Fill::Reserve);
        let file = created.map_err(|error| Error::io("create", name, error))?;
        file.write_at(&header.encode(), 0).map_err(|error| {
            // The space is wanted back; that removing fails too changes nothing.
            let _ = self.storage.remove(name);
            Error::io("write to", name, error)
        })?;
        Ok(file)
    }

    /// Syncs what is written by now. Segments first, then the names they have.
    fn lead_sync(&self) -> Result<()> {
        if self.lock().rewrite_due {
            let Some(_held) = self.take_baton(Baton::Write, |_| false)? else { return Ok(()) };
            return self.rewrite_if_due();
        }
        let (dirty, hint, names, names_synced, generation) = {
            let state = self.lock();
            let durable = state.watermarks.written;
            let hint = state.dirty.last().map_or(Hint { durable, ..Hint::default() }, |last| Hint {
                durable,
                segment: last.header.number,
                offset: last.extent().bytes,
            });
            (state.dirty.clone(), hint, state.names, state.names_synced, state.generation)
        };
        let synced = self.sync_files(&dirty, names > names_synced);
        let mut state = self.lock();
        if let Err(error) = synced {
            if state.generation == generation {
                // What the device kept of these files is not known any more, and it will not say so twice.
                state.rewrite_due = true;
            }
            drop(state);
            let Some(_held) = self.take_baton(Baton::Write, |_| false)? else { return Ok(()) };
            return self.rewrite_after(error);
        }
        let durable = state.watermarks.durable.max(hint.durable);
        state.watermarks.durable = durable;
        if state.generation == generation {
            state.hint = hint;
            state.names_synced = names;
            state.dirty.retain(|segment| segment.extent().end > durable);
        }
        state.stats.syncs += 1;
        state.shrink_recent(&self.options);
        let woken = state.wakers.take();
        drop(state);
        wakers::wake(woken);
        Ok(())
    }

    fn sync_files(&self, dirty: &[Arc<Segment>], names: bool) -> Result<()> {
        for segment in dirty {
            segment.file.sync().map_err(|error| Error::io("sync", &segment.name, error))?;
        }
        if names {
            self.storage
                .sync_directory()
                .map_err(|error| Error::io("sync", self.storage.location(), error))?;
        }
        Ok(())
    }
}

/// How many of the chunk's records fit into what is left of the segment, in whole batches.
fn fitting(chunk: &Chunk, active: &Segment) -> usize {
    let room = active.header.file_bytes.saturating_sub(active.extent().bytes);
    if chunk.buffer.len() as u64 <= room && active.can_stamp_all(chunk.stamps) {
        return chunk.entries.len();
    }
    let mut count = 0;
    for (index, entry) in chunk.entries.iter().enumerate() {
        if entry.frame_end() as u64 > room || !active.can_stamp(entry.stamp_ms) {
            break;
        }
        if entry.kind.ends_batch() {
            count = index + 1;
        }
    }
    count
}

/// Fills in the headers of a chunk that will be written at `offset`.
pub(crate) fn seal_chunk(chunk: &mut Chunk, segment: &Segment, offset: u64, durable: Position) {
    if chunk.has_mark() {
        segment.seal_mark(&mut chunk.buffer[..MARK_BYTES], offset, chunk.first, durable);
    }
    for (position, entry) in (chunk.first..).zip(&chunk.entries) {
        let at = entry.offset as usize;
        let delta_ms = segment.delta(entry.stamp_ms);
        let header = Header {
            kind: entry.kind,
            length: entry.length as usize,
            ordinal: segment.ordinal(position),
            delta_ms,
        };
        frame::seal(
            &mut chunk.buffer[at..entry.frame_end()],
            segment.header.salt,
            offset + at as u64,
            header,
        );
    }
}
