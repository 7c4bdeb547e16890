//! What is kept: limits by bytes and age, and freeing what nobody needs.
//!
//! Dropping and releasing are decisions about positions, made in memory under the log's lock; the files follow later, when a
//! call that may wait for the disk comes by. The newest segment is always kept: its header says where the log ends.

use std::sync::Arc;

use crate::error::Limit;
use crate::log::State;
use crate::segment::{HEADER_BLOCK, Segment};
use crate::{Error, Options, Policy, Position, Result};

/// Where staged batches will land: the layout that the next writes will produce, so that a limit can refuse before
/// anything is written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plan {
    /// The end of the last segment's frames.
    offset: u64,
    /// Segments to be created.
    segments: u64,
}

impl Plan {
    /// Begins at the end of the active segment; without one at the end of a full one.
    pub(crate) fn new(offset: Option<u64>, options: &Options) -> Plan {
        Plan { offset: offset.unwrap_or(options.segment_bytes), segments: 0 }
    }

    /// The plan with one more batch, its mark included.
    pub(crate) fn add(self, batch_bytes: u64, options: &Options) -> Plan {
        if self.offset + batch_bytes <= options.segment_bytes {
            return Plan { offset: self.offset + batch_bytes, ..self };
        }
        Plan { offset: HEADER_BLOCK + batch_bytes, segments: self.segments + 1 }
    }
}

impl State {
    /// Checks the limits for a batch that adds `cost` bytes to the staging area, dropping old segments if the policy is to.
    pub(crate) fn make_room(&mut self, cost: u64, options: &Options) -> Result<()> {
        let staged = self.staging.bytes() as u64;
        if staged > 0 && staged + cost > options.max_staged_bytes as u64 {
            return Err(Error::Full { limit: Limit::Staging, bytes: options.max_staged_bytes as u64 });
        }
        let plan = self.plan.add(cost, options);
        if plan.segments == self.plan.segments {
            // It goes where space is taken already.
            self.plan = plan;
            return Ok(());
        }
        let budget = options.segments_budget(self.max_bytes, self.cursor_bytes + self.notes_bytes);
        let needed = plan.segments * options.segment_bytes;
        while self.segment_bytes() + needed > budget {
            // The newest segment stays, and what is not durable stays: it may have to be written once more.
            let droppable = self.segments.len() > 1
                && self.segments.front().is_some_and(|oldest| oldest.extent().end <= self.watermarks.durable);
            if options.policy == Policy::Refuse || !droppable {
                return Err(Error::Full { limit: Limit::Disk, bytes: self.max_bytes });
            }
            self.drop_oldest();
        }
        self.plan = plan;
        Ok(())
    }

    /// Bytes on disk of the segments that hold records.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.file_bytes).sum()
    }

    /// Drops the oldest segment because of a limit, and counts for whom.
    fn drop_oldest(&mut self) {
        let Some(end) = self.free_oldest() else { return };
        self.stats.dropped_records += self.consumers.drop_below(end);
        self.dropped_below = end;
    }

    /// Takes the oldest segment out of the log; its file is freed later. Returns where the log now begins.
    fn free_oldest(&mut self) -> Option<Position> {
        let oldest = self.segments.pop_front()?;
        let begins = self.segments.front().map_or(self.watermarks.written, |segment| segment.base());
        self.watermarks.released = begins;
        self.freed.push(oldest);
        Some(begins)
    }

    /// Frees what every consumer is past. Without a consumer nothing is.
    pub(crate) fn free_passed(&mut self) {
        let Some(lowest) = self.consumers.lowest() else { return };
        let lowest = lowest.min(self.watermarks.durable);
        while self.segments.len() > 1 && self.segments.get(1).is_some_and(|next| next.base() <= lowest) {
            self.free_oldest();
        }
    }

    /// Drops segments whose newest record is too old. A segment's newest record is not younger than the first of the next.
    pub(crate) fn drop_aged(&mut self, now_ms: u64, max_age_ms: u64) {
        let oldest_kept = now_ms.saturating_sub(max_age_ms);
        let aged = |next: &Arc<Segment>| next.header.created_ms < oldest_kept;
        while self.segments.len() > 1
            && self.segments.get(1).is_some_and(aged)
            && self.segments.front().is_some_and(|oldest| oldest.extent().end <= self.watermarks.durable)
        {
            self.drop_oldest();
        }
    }

    /// True if the active segment reaches so far back that records in it would outlive the limit by much: a quarter.
    pub(crate) fn active_is_old(&self, now_ms: u64, max_age_ms: u64) -> bool {
        self.active.as_ref().is_some_and(|active| {
            active.header.created_ms.saturating_add(max_age_ms / 4) < now_ms
                && active.extent().end > active.base()
        })
    }
}
