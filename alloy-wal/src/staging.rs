//! Records on their way to the disk, and those that were there recently.
//!
//! A record is copied once, at `append`, to the place where its frame will be: in front of it is room for its header, which
//! is filled in when the segment and the offset are known. Written chunks become frozen [`Part`]s: the fast path of
//! readers, and what is written elsewhere if a sync fails.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::frame::{ALIGNMENT, FRAME_HEADER, Kind, frame_bytes};
use crate::pool::Pool;
use crate::{Item, Options, Position, Record};

/// Bytes of the mark that opens each write: a header and the durable watermark.
pub(crate) const MARK_BYTES: usize = FRAME_HEADER + 8;
/// A new chunk's capacity. One chunk is one `pwrite`; larger gained nothing.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Where one record is in its chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Of the frame, from the start of the chunk.
    pub(crate) offset: u32,
    /// Of the payload.
    pub(crate) length: u32,
    pub(crate) kind: Kind,
    pub(crate) stamp_ms: u64,
}

impl Entry {
    /// Where its frame ends in the chunk.
    pub(crate) fn frame_end(&self) -> usize {
        self.offset as usize + frame_bytes(self.length as usize)
    }
}

/// Whole batches that are written together.
pub(crate) struct Chunk {
    pub(crate) first: Position,
    pub(crate) buffer: BytesMut,
    pub(crate) entries: Vec<Entry>,
    /// The smallest and the largest stamp.
    pub(crate) stamps: [u64; 2],
}

impl Chunk {
    /// True if it begins with room for a mark: all but the rear part of a chunk that was split.
    pub(crate) fn has_mark(&self) -> bool {
        self.entries.first().is_some_and(|entry| entry.offset > 0)
    }

    pub(crate) fn end(&self) -> Position {
        self.first + self.entries.len() as u64
    }

    /// Keeps the first `count` records and returns the rest.
    pub(crate) fn split_off(&mut self, count: usize) -> Option<Chunk> {
        let cut = self.entries.get(count)?.offset;
        let mut entries = self.entries.split_off(count);
        entries.iter_mut().for_each(|entry| entry.offset -= cut);
        let buffer = self.buffer.split_off(cut as usize);
        Some(Chunk { first: self.end(), buffer, entries, stamps: self.stamps })
    }

    pub(crate) fn freeze(self) -> Part {
        Part { first: self.first, bytes: self.buffer.freeze(), entries: self.entries }
    }
}

/// Written records, still in memory.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) first: Position,
    pub(crate) bytes: Bytes,
    pub(crate) entries: Vec<Entry>,
}

impl Part {
    pub(crate) fn end(&self) -> Position {
        self.first + self.entries.len() as u64
    }

    fn memory(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    pub(crate) fn payload(&self, entry: &Entry) -> Bytes {
        let start = entry.offset as usize + FRAME_HEADER;
        self.bytes.slice(start..start + entry.length as usize)
    }
}

/// Appended records that are not written.
#[derive(Default)]
pub(crate) struct Staging {
    chunks: VecDeque<Chunk>,
    /// Capacity left over from the last write.
    room: BytesMut,
    bytes: usize,
    /// Memory for chunks.
    pub(crate) pool: Pool,
}

impl Staging {
    /// Bytes of frames staged.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that the batch adds, a mark included if it opens a chunk.
    pub(crate) fn cost(&self, batch_bytes: usize) -> usize {
        let opens = self.chunks.back().is_none_or(|chunk| !fits(chunk, batch_bytes));
        batch_bytes + if opens { MARK_BYTES } else { 0 }
    }

    /// Copies the batch behind what is staged; `first` is its first position, `batch_bytes` the bytes of its frames.
    pub(crate) fn push(&mut self, first: Position, batch: &[&[u8]], batch_bytes: usize, stamp_ms: u64) {
        if self.chunks.back().is_none_or(|chunk| !fits(chunk, batch_bytes)) {
            self.open_chunk(first, MARK_BYTES + batch_bytes);
        }
        let Some(chunk) = self.chunks.back_mut() else { return };
        for (index, payload) in batch.iter().enumerate() {
            let offset = chunk.buffer.len();
            chunk.buffer.extend_from_slice(&[0; FRAME_HEADER]);
            chunk.buffer.extend_from_slice(payload);
            let padding = offset + frame_bytes(payload.len()) - chunk.buffer.len();
            if padding > 0 {
                chunk.buffer.extend_from_slice(&[0; ALIGNMENT][..padding]);
            }
            chunk.entries.push(Entry {
                offset: offset as u32,
                length: payload.len() as u32,
                kind: Kind::of(index, batch.len()),
                stamp_ms,
            });
        }
        let [least, most] = chunk.stamps;
        chunk.stamps = [least.min(stamp_ms), most.max(stamp_ms)];
        self.bytes += batch_bytes;
    }

    fn open_chunk(&mut self, first: Position, needed: usize) {
        let mut buffer = std::mem::take(&mut self.room);
        if buffer.capacity() < needed {
            buffer = self.pool.buffer(needed);
        }
        buffer.resize(MARK_BYTES, 0);
        self.bytes += MARK_BYTES;
        let entries = self.pool.list();
        self.chunks.push_back(Chunk { first, buffer, entries, stamps: [u64::MAX, 0] });
    }

    /// Hands out everything staged.
    pub(crate) fn take(&mut self) -> VecDeque<Chunk> {
        if let Some(last) = self.chunks.back_mut() {
            // What is split off shares the allocation, so a small write does not hold a whole chunk's memory alone.
            let filled = last.buffer.split();
            self.room = std::mem::replace(&mut last.buffer, filled);
        }
        self.bytes = 0;
        std::mem::take(&mut self.chunks)
    }

    /// Puts back what could not be written, in front of what was staged meanwhile.
    pub(crate) fn put_back(&mut self, mut chunks: VecDeque<Chunk>) {
        self.bytes += chunks.iter().map(|chunk| chunk.buffer.len()).sum::<usize>();
        chunks.append(&mut self.chunks);
        self.chunks = chunks;
    }

    /// The sizes of the batches staged, a mark added to the first of each chunk.
    pub(crate) fn batch_sizes(&self) -> impl Iterator<Item = u64> + '_ {
        self.chunks.iter().flat_map(|chunk| {
            let mut start = 0;
            chunk.entries.iter().filter(|entry| entry.kind.ends_batch()).map(move |entry| {
                let size = entry.frame_end() - start;
                start = entry.frame_end();
                size as u64
            })
        })
    }
}

/// True if the batch fits into the chunk's allocation. Never true for a chunk that was put back: it is full.
fn fits(chunk: &Chunk, batch_bytes: usize) -> bool {
    chunk.buffer.capacity() - chunk.buffer.len() >= batch_bytes
}

/// Written records in memory: all that are not durable, and as many of the durable ones as the cache may hold.
#[derive(Default)]
pub(crate) struct Recent {
    parts: VecDeque<Part>,
    memory: usize,
}

impl Recent {
    pub(crate) fn push(&mut self, part: Part) {
        self.memory += part.memory();
        self.parts.push_back(part);
    }

    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Forgets the oldest durable parts beyond what the options let it keep. Their memory is kept for what comes next, as
    /// long as it is no more than these parts may take anyway.
    pub(crate) fn shrink(&mut self, durable: Position, options: &Options, pool: &mut Pool) {
        let most = options.cache_bytes + options.unsynced_bytes_max() as usize;
        while self.memory > options.cache_bytes
            && self.parts.front().is_some_and(|part| part.end() <= durable)
        {
            let Some(part) = self.parts.pop_front() else { return };
            self.memory -= part.memory();
            pool.put(part, most.saturating_sub(self.memory));
        }
    }

    /// The parts that are not durable.
    pub(crate) fn unsynced(&self, durable: Position) -> impl Iterator<Item = &Part> {
        self.parts.iter().skip(self.parts.partition_point(|part| part.end() <= durable))
    }

    /// The stamp of a record in memory.
    pub(crate) fn stamp(&self, position: Position) -> Option<u64> {
        let (part, index) = self.locate(position)?;
        Some(self.parts[part].entries[index].stamp_ms)
    }

    fn locate(&self, position: Position) -> Option<(usize, usize)> {
        let part = self.parts.partition_point(|part| part.end() <= position);
        let index = position.checked_sub(self.parts.get(part)?.first)?;
        Some((part, index as usize))
    }

    /// Appends the records from `from` on to `items` while `take` agrees to the size of the next. False if `from` is not
    /// in memory.
    pub(crate) fn read(
        &self,
        from: Position,
        items: &mut Vec<Item>,
        mut take: impl FnMut(usize) -> bool,
    ) -> bool {
        let Some((first_part, first_index)) = self.locate(from) else { return false };
        let mut next = from;
        let mut index = first_index;
        for part in self.parts.range(first_part..) {
            if part.first + index as u64 != next {
                return true;
            }
            for entry in &part.entries[index..] {
                if !take(entry.length as usize) {
                    return true;
                }
                let payload = part.payload(entry);
                items.push(Item::Record(Record { position: next, stamp_ms: entry.stamp_ms, payload }));
                next += 1;
            }
            index = 0;
        }
        true
    }
}
