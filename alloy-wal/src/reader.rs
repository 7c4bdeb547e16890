//! Reading the frames of one segment, through a window, over damage.

use crate::sync::Mutex;
use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::frame::{self, ALIGNMENT, FRAME_HEADER, Header, Kind};
use crate::segment::{IndexEntry, Segment, lock};
use crate::{Error, Position, Result};

/// Bytes read at once. 1 MiB reads come within a third of what the memory gives; larger ones gain nothing.
const WINDOW_BYTES: u64 = 1 << 20;

/// Readers that stopped in the middle of a segment and are remembered. Each keeps a window and those before it: 3 MiB, more only for
/// records larger than a window.
const RESUMES_MAX: usize = 8;
/// Windows kept to be used again: the records of one read are of two windows as a rule.
const USED_MAX: usize = 2;

/// Bytes looked at together for being all zero.
const ZEROS_BYTES: usize = 4096;

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Step {
    /// An intact frame that begins at this offset.
    Frame(u64, Header),
    /// Positions whose frames are not readable; reading goes on behind them.
    Damage(Range<Position>),
    /// There is no intact frame from here on.
    End,
}

/// Where a reader stopped in the middle of a segment, with the bytes it had: the next read goes on there.
struct Resume {
    segment: u64,
    position: Position,
    offset: u64,
    window: Bytes,
    window_offset: u64,
    used: Vec<Bytes>,
}

/// Where the last readers stopped: one entry for each of as many as read at the same time.
#[derive(Default)]
pub(crate) struct Resumes(Mutex<Vec<Resume>>);

impl Resumes {
    /// Forgets the readers of a segment.
    pub(crate) fn forget(&self, segment: u64) {
        lock(&self.0).retain(|left| left.segment != segment);
    }

    fn take(&self, segment: u64, from: Position) -> Option<Resume> {
        let mut all = lock(&self.0);
        let at = all.iter().position(|left| left.segment == segment && left.position == from)?;
        Some(all.remove(at))
    }

    fn put(&self, left: Resume) {
        let mut all = lock(&self.0);
        if all.len() == RESUMES_MAX {
            all.remove(0);
        }
        all.push(left);
    }
}

/// Walks over the frames of a segment.
pub(crate) struct SegmentReader<'a> {
    segment: &'a Segment,
    /// Frames are looked for up to here.
    end: u64,
    /// The next frame is expected here, with this position.
    offset: u64,
    expected: Position,
    /// True if windows may be mapped: nobody will write to the segment any more.
    map: bool,
    window: Bytes,
    window_offset: u64,
    /// The windows before, to be used again when nobody holds a record of them any more.
    used: Vec<Bytes>,
    /// What the device cannot read counts as zeros, which are no frames.
    over_unreadable: bool,
}

impl<'a> SegmentReader<'a> {
    /// Begins at a known frame.
    pub(crate) fn new(segment: &'a Segment, start: IndexEntry, end: u64, map: bool) -> SegmentReader<'a> {
        SegmentReader {
            segment,
            end,
            offset: start.offset,
            expected: start.position,
            map,
            window: Bytes::new(),
            window_offset: 0,
            used: Vec::new(),
            over_unreadable: false,
        }
    }

    /// Begins like `new`, and takes what the device cannot read for damage.
    pub(crate) fn over_unreadable(segment: &'a Segment, from: Position, end: u64) -> SegmentReader<'a> {
        SegmentReader { over_unreadable: true, ..SegmentReader::new(segment, segment.find(from), end, false) }
    }

    /// Begins at `from`, or before it at a known frame; takes over what a reader that stopped there left.
    pub(crate) fn resume(
        segment: &'a Segment,
        from: Position,
        end: u64,
        map: bool,
        resumes: &Resumes,
    ) -> SegmentReader<'a> {
        let Some(left) = resumes.take(segment.header.number, from) else {
            return SegmentReader::new(segment, segment.find(from), end, map);
        };
        let here = IndexEntry { position: left.position, offset: left.offset, stamp_ms: 0 };
        let reader = SegmentReader::new(segment, here, end, map);
        // A mapped window of a file that was shortened meanwhile must not be touched.
        let window_end = left.window_offset + left.window.len() as u64;
        if segment.file.bytes().is_ok_and(|bytes| bytes < window_end) {
            return reader;
        }
        SegmentReader { window: left.window, window_offset: left.window_offset, used: left.used, ..reader }
    }

    /// Leaves what it has for the next reader, who will begin with the record at this offset.
    pub(crate) fn leave(self, position: Position, offset: u64, resumes: &Resumes) {
        if self.over_unreadable {
            return;
        }
        let SegmentReader { segment, window, window_offset, used, .. } = self;
        resumes.put(Resume { segment: segment.header.number, position, offset, window, window_offset, used });
    }

    /// The next frame, or what is there instead.
    pub(crate) fn step(&mut self) -> Result<Step> {
        let before = self.expected;
        if let Some(header) = self.frame_at(self.offset, 0)? {
            return Ok(self.accept(header));
        }
        let mut offset = self.offset + ALIGNMENT as u64;
        while let Some(candidate) = self.candidate(offset)? {
            offset = candidate;
            let most = (offset - self.offset) / FRAME_HEADER as u64;
            if let Some(header) = self.frame_at(offset, most)? {
                let found = self.position(&header);
                self.offset = offset;
                if found == before {
                    // Only a mark was lost, and a mark is no record.
                    return Ok(self.accept(header));
                }
                self.expected = found;
                return Ok(Step::Damage(before..found));
            }
            offset += ALIGNMENT as u64;
        }
        Ok(Step::End)
    }

    /// The payload of the frame that `step` just returned.
    pub(crate) fn payload(&self, offset: u64, header: &Header) -> Bytes {
        let start = (offset - self.window_offset) as usize + FRAME_HEADER;
        self.window.slice(start..start + header.length)
    }

    pub(crate) fn position(&self, header: &Header) -> Position {
        self.segment.base() + u64::from(header.ordinal)
    }

    /// The next offset from `offset` on where the length and kind are not all zero. The unused rest of a segment mostly is, and
    /// every opening of a log looks through it once.
    fn candidate(&mut self, mut offset: u64) -> Result<Option<u64>> {
        while let Some(start) = self.fetch(offset, FRAME_HEADER as u64)? {
            let rest = &self.window[start..];
            // Whole blocks first: compared with vectors, five times as fast as word by word.
            let blocks = rest.chunks_exact(ZEROS_BYTES);
            let empty = blocks.take_while(|block| block.iter().fold(0, |all, byte| all | byte) == 0).count();
            if empty > 0 {
                offset += (empty * ZEROS_BYTES) as u64;
                continue;
            }
            let words = rest.chunks_exact(ALIGNMENT);
            let zeros = words.take_while(|word| word[4..] == [0; 4]).count();
            if zeros == 0 {
                return Ok(Some(offset));
            }
            offset += (zeros * ALIGNMENT) as u64;
        }
        Ok(None)
    }

    fn accept(&mut self, header: Header) -> Step {
        let at = self.offset;
        self.offset += header.frame_bytes() as u64;
        self.expected = self.segment.base() + u64::from(header.next_ordinal());
        Step::Frame(at, header)
    }

    /// The intact frame at `offset`, if its position is at most `ahead` after the expected one.
    fn frame_at(&mut self, offset: u64, ahead: u64) -> Result<Option<Header>> {
        let salt = self.segment.header.salt;
        let Some(start) = self.fetch(offset, FRAME_HEADER as u64)? else { return Ok(None) };
        let Some(header) = frame::peek(&self.window[start..], salt, offset) else { return Ok(None) };
        let position = self.position(&header);
        if position < self.expected || position - self.expected > ahead {
            return Ok(None);
        }
        if header.kind == Kind::Mark && header.length != 8 {
            return Ok(None);
        }
        let Some(start) = self.fetch(offset, (FRAME_HEADER + header.length) as u64)? else { return Ok(None) };
        Ok(frame::open(&self.window[start..], salt, offset))
    }

    /// Makes sure that `count` bytes at `offset` are in the window and returns where. `None` if they are beyond the end.
    fn fetch(&mut self, offset: u64, count: u64) -> Result<Option<usize>> {
        if offset.checked_add(count).is_none_or(|end| end > self.end) {
            return Ok(None);
        }
        let inside = |window: &Bytes, window_offset: u64| {
            offset >= window_offset && offset + count <= window_offset + window.len() as u64
        };
        if !inside(&self.window, self.window_offset) {
            let range = offset..(offset + count.max(WINDOW_BYTES)).min(self.end);
            let before = std::mem::take(&mut self.window);
            if !before.is_empty() {
                self.used.push(before);
            }
            let loaded = self.load(range);
            self.window = loaded.map_err(|error| Error::io("read", &self.segment.name, error))?;
            self.window_offset = offset;
        }
        // The file may be shorter than it should be; then the bytes are damage like any other.
        Ok(inside(&self.window, self.window_offset).then(|| (offset - self.window_offset) as usize))
    }

    /// Reads a window, into the memory of an earlier one if nobody holds a record of it any more: fresh memory costs a page
    /// fault for every 4 KiB.
    fn load(&mut self, range: Range<u64>) -> io::Result<Bytes> {
        if self.map
            && let Some(window) = self.segment.file.window(range.clone())
        {
            self.used.clear();
            return Ok(window);
        }
        let length = (range.end - range.start) as usize;
        let free = self.used.iter().position(Bytes::is_unique);
        let used = free.and_then(|at| self.used.swap_remove(at).try_into_mut().ok());
        self.used.truncate(USED_MAX);
        let mut buffer = match used {
            Some(used) if used.capacity() >= length => used,
            _ => BytesMut::zeroed(length),
        };
        buffer.resize(length, 0);
        let count = match self.segment.file.read_at(&mut buffer, range.start) {
            Err(_) if self.over_unreadable => self.read_blocks(&mut buffer, range.start),
            read => read?,
        };
        buffer.truncate(count);
        Ok(buffer.freeze())
    }

    /// Reads block by block what cannot be read at once; what still cannot is zeros.
    fn read_blocks(&self, buffer: &mut [u8], offset: u64) -> usize {
        let mut end = 0;
        for (index, block) in buffer.chunks_mut(ZEROS_BYTES).enumerate() {
            let at = index * ZEROS_BYTES;
            match self.segment.file.read_at(block, offset + at as u64) {
                Ok(count) => {
                    block[count..].fill(0);
                    end = at + count;
                }
                Err(_) => {
                    block.fill(0);
                    end = at + block.len();
                }
            }
        }
        end
    }
}
