//! Reading by position: from memory what is recent, else from the segments, with gaps where records are gone.

use std::ops::Range;
use std::sync::Arc;

use crate::frame::Kind;
use crate::log::{Log, State};
use crate::reader::{SegmentReader, Step};
use crate::segment::{IndexEntry, Segment};
use crate::{Gap, GapReason, Item, Position, Read, Record, Result};

/// Collects items until the caller's limit.
struct Collected {
    items: Vec<Item>,
    limit: Read,
    bytes: usize,
    next: Position,
}

impl Collected {
    /// True if one more record of this size is wanted. The first always is.
    fn wants(&mut self, length: usize) -> bool {
        let wanted = wants(&self.limit, self.items.len(), self.bytes, length);
        self.bytes += if wanted { length } else { 0 };
        wanted
    }

    fn gap(&mut self, positions: Range<Position>, reason: GapReason) {
        if let Some(Item::Gap(last)) = self.items.last_mut()
            && last.reason == reason
            && last.positions.end == positions.start
        {
            last.positions.end = positions.end;
        } else {
            self.items.push(Item::Gap(Gap { positions: positions.clone(), reason }));
        }
        self.next = positions.end;
    }
}

/// True if one more record of `length` bytes is wanted behind `items` of `bytes` together. The first always is.
pub(crate) fn wants(limit: &Read, items: usize, bytes: usize, length: usize) -> bool {
    items == 0 || (items < limit.items && bytes + length <= limit.bytes)
}

/// What comes next for a reader.
enum Source {
    /// The end, or enough was read from memory.
    Nothing,
    /// Records of a segment up to this position; true if nobody writes to it any more.
    Segment(Arc<Segment>, Position, bool),
}

/// What bytes are that the device cannot read.
#[derive(Debug, Clone, Copy)]
enum Unreadable {
    Error,
    Gap,
}

impl Log {
    /// Reads like [`read`](crate::Wal::read), but what the device cannot read is a gap, block by block, and not an error.
    ///
    /// `read` never gives up records because of an outage that may pass, so a sector that is lost for good makes it fail for
    /// ever. The log has no clock to tell the two apart: the caller decides when `read` has failed for long enough.
    ///
    /// # Errors
    /// Those of `read` that are not about reading.
    pub fn read_over_unreadable(&self, from: Position, limit: Read) -> Result<Vec<Item>> {
        self.collect(from, limit, Unreadable::Gap)
    }

    pub(crate) fn read_items(&self, from: Position, limit: Read) -> Result<Vec<Item>> {
        self.collect(from, limit, Unreadable::Error)
    }

    fn collect(&self, from: Position, limit: Read, unreadable: Unreadable) -> Result<Vec<Item>> {
        let mut collected = Collected { items: Vec::new(), limit, bytes: 0, next: from };
        loop {
            let source = self.lock().next_source(&mut collected, self.options.map);
            let Source::Segment(segment, end, sealed) = source else { return Ok(collected.items) };
            let before = collected.next;
            if !self.read_segment(&segment, end, sealed, unreadable, &mut collected)?
                || collected.next == before
            {
                return Ok(collected.items);
            }
        }
    }

    /// Reads up to `end`. False if the caller's limit came first.
    fn read_segment(
        &self,
        segment: &Segment,
        end: Position,
        sealed: bool,
        unreadable: Unreadable,
        collected: &mut Collected,
    ) -> Result<bool> {
        let bytes = segment.extent().bytes;
        let mut reader = match unreadable {
            Unreadable::Error => SegmentReader::resume(segment, collected.next, bytes, sealed, &self.resumes),
            Unreadable::Gap => SegmentReader::over_unreadable(segment, collected.next, bytes),
        };
        while collected.next < end {
            match reader.step()? {
                Step::Frame(_, header) if header.kind == Kind::Mark => {}
                Step::Frame(offset, header) => {
                    let position = reader.position(&header);
                    if position < collected.next {
                        continue;
                    }
                    if position >= end {
                        return Ok(true);
                    }
                    if !collected.wants(header.length) {
                        reader.leave(position, offset, &self.resumes);
                        return Ok(false);
                    }
                    let stamp_ms = segment.stamp(header.delta_ms);
                    segment.note(IndexEntry { position, offset, stamp_ms });
                    let payload = reader.payload(offset, &header);
                    collected.items.push(Item::Record(Record { position, stamp_ms, payload }));
                    collected.next = position + 1;
                }
                Step::Damage(positions) => {
                    self.damaged(
                        segment,
                        positions.start.max(collected.next)..positions.end.min(end),
                        collected,
                    );
                }
                Step::End => self.damaged(segment, collected.next..end, collected),
            }
        }
        Ok(true)
    }

    fn damaged(&self, segment: &Segment, positions: Range<Position>, collected: &mut Collected) {
        if positions.is_empty() {
            return;
        }
        let new = segment.count_damage(&positions);
        self.lock().stats.damaged_records += new;
        collected.gap(positions, GapReason::Damaged);
    }
}

impl State {
    /// Reads what is in memory, reports what is gone, and says what has to be read from a file.
    fn next_source(&self, collected: &mut Collected, map: bool) -> Source {
        let released = self.watermarks.released;
        if collected.next < self.dropped_below.min(released) {
            collected.gap(collected.next..self.dropped_below.min(released), GapReason::Dropped);
        }
        if collected.next < released {
            collected.gap(collected.next..released, GapReason::Released);
        }
        let next = collected.next;
        if next >= self.watermarks.written || collected.items.len() >= collected.limit.items.max(1) {
            return Source::Nothing;
        }
        let mut items = std::mem::take(&mut collected.items);
        let (limit, mut bytes, mut count) = (collected.limit, collected.bytes, items.len());
        let found = self.recent.read(next, &mut items, |length| {
            let wanted = wants(&limit, count, bytes, length);
            bytes += length;
            count += 1;
            wanted
        });
        collected.items = items;
        if found {
            return Source::Nothing;
        }
        // A part of what this segment holds may be in memory; the next call takes it from there.
        let Some(segment) = self.segment_at(next) else {
            collected.gap(next..self.watermarks.written, GapReason::Damaged);
            return Source::Nothing;
        };
        if segment.base() > next {
            collected.gap(next..segment.base(), GapReason::Damaged);
        }
        let sealed = map && self.active.as_ref().is_none_or(|active| !Arc::ptr_eq(active, segment));
        Source::Segment(segment.clone(), segment.extent().end.min(self.watermarks.written), sealed)
    }
}
