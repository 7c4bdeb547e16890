//! Surviving a failed write or sync: everything that is not durable goes into a fresh segment.
//!
//! After a failed sync the operating system may have forgotten the bytes and say `Ok` the next time, so the file is never
//! synced again. The records are still in memory. They are written to a new file, which gets a segment's name only when it is
//! complete and durable: until then a crash of the process leaves the old files in force, and from then on they are
//! superseded, because the new segment begins where the durable records ended.

use std::sync::Arc;

use bytes::BytesMut;

use crate::commit::seal_chunk;
use crate::cursors::Hint;
use crate::log::Log;
use crate::recovery::NEW_SUFFIX;
use crate::segment::{Extent, HEADER_BLOCK, Segment, SegmentHeader, file_name};
use crate::staging::{Chunk, Part};
use crate::wakers;
use crate::{Error, Result};

impl Log {
    /// Rewrites after this error; if that fails for good, the log has failed. Needs the write baton.
    pub(crate) fn rewrite_after(&self, error: Error) -> Result<()> {
        if !self.lock().rewrite_due {
            // Somebody else was faster.
            return Ok(());
        }
        match self.rewrite() {
            Ok(()) => Ok(()),
            Err(again) if again.is_passing() => Err(again),
            Err(_) => Err(self.fail(error)),
        }
    }

    /// Rewrites if an earlier failure left it to do. Needs the write baton.
    pub(crate) fn rewrite_if_due(&self) -> Result<()> {
        if !self.lock().rewrite_due {
            return Ok(());
        }
        self.rewrite().map_err(|error| if error.is_passing() { error } else { self.fail(error) })
    }

    fn rewrite(&self) -> Result<()> {
        let (parts, header) = {
            let mut state = self.lock();
            let base = state.watermarks.durable;
            let parts: Vec<Part> = state.recent.unsynced(base).cloned().collect();
            let frames: u64 = parts.iter().map(|part| part.bytes.len() as u64).sum();
            let bytes =
                (HEADER_BLOCK + frames).next_multiple_of(HEADER_BLOCK).max(self.options.segment_bytes);
            let stamp_ms = parts.first().map_or_else(
                || state.active.as_ref().map_or(0, |active| active.header.created_ms),
                |part| part.entries[0].stamp_ms,
            );
            (parts, self.next_header(&mut state, base, stamp_ms, bytes))
        };
        let fresh = self.write_fresh(header, &parts)?;
        let written = fresh.extent().end;
        let mut state = self.lock();
        let mut superseded = Vec::new();
        while state.segments.back().is_some_and(|newest| newest.base() >= fresh.base()) {
            superseded.extend(state.segments.pop_back());
        }
        if let Some(poisoned) = state.segments.back() {
            let extent = poisoned.extent();
            poisoned.set_extent(Extent { end: extent.end.min(fresh.base()), ..extent });
        }
        if state.segments.is_empty() {
            state.watermarks.released = fresh.base();
        }
        state.freed.append(&mut superseded);
        state.segments.push_back(fresh.clone());
        state.hint = Hint { durable: written, segment: fresh.header.number, offset: fresh.extent().bytes };
        state.active = Some(fresh);
        state.dirty.clear();
        state.names_synced = state.names;
        state.rewrite_due = false;
        state.generation += 1;
        state.stats.storage_failures += 1;
        state.watermarks.durable = written;
        state.shrink_recent(&self.options);
        let woken = state.wakers.take();
        drop(state);
        wakers::wake(woken);
        Ok(())
    }

    /// A durable segment with these records.
    fn write_fresh(&self, header: SegmentHeader, parts: &[Part]) -> Result<Arc<Segment>> {
        let name = file_name(header.number);
        let temporary = format!("{name}{NEW_SUFFIX}");
        let file = self.create_segment(&temporary, &header)?;
        let start = Extent { end: header.base, bytes: HEADER_BLOCK };
        let segment = Segment::new(header, file, header.file_bytes, start);
        let filled = self.fill(&segment, parts, &temporary, &name);
        if filled.is_err() {
            // The space is wanted back; that removing fails too changes nothing.
            let _ = self.storage.remove(&temporary);
        }
        filled?;
        Ok(Arc::new(segment))
    }

    fn fill(&self, segment: &Segment, parts: &[Part], temporary: &str, name: &str) -> Result<()> {
        let io = |operation| move |error| Error::io(operation, temporary, error);
        for part in parts {
            let buffer = BytesMut::from(&part.bytes[..]);
            let entries = part.entries.clone();
            let mut chunk = Chunk { first: part.first, buffer, entries, stamps: [u64::MAX, 0] };
            let offset = segment.extent().bytes;
            seal_chunk(&mut chunk, segment, offset, segment.base());
            segment.file.write_at(&chunk.buffer, offset).map_err(io("write to"))?;
            segment.set_extent(Extent { end: chunk.end(), bytes: offset + chunk.buffer.len() as u64 });
        }
        segment.file.sync().map_err(io("sync"))?;
        self.storage.rename(temporary, name).map_err(io("rename"))?;
        self.storage.sync_directory().map_err(|error| Error::io("sync", self.storage.location(), error))
    }
}
