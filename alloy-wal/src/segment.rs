//! A segment: its name, its header block, and what the running log knows about it.
//!
//! The header block holds the same header twice, at 0 and at 2,048, each with its own checksum, so that a
//! flipped bit there costs nothing:
//! ```text
//!  0  magic "ALLOYWAL"      8  version u32          12  bytes of the header block u32
//! 16  id of the log u64    24  segment number u64   32  first position u64
//! 40  stamp of the first record, ms u64             48  bytes of the file u64
//! 56  salt u64             64  durable watermark when it was created u64
//! 72  zeros                2044  crc32 of the 2,044 bytes before
//! ```

use crate::sync::{Mutex, MutexGuard, PoisonError};

use crate::frame::{self, Header, Kind};
use crate::storage::SegmentFile;
use crate::{Error, Position, Result};

/// The first block of a segment: one page, so that appends never rewrite it.
pub(crate) const HEADER_BLOCK: u64 = 4096;
/// The newest format this program reads and the one it writes.
pub(crate) const VERSION: u32 = 1;
/// Positions and segment numbers on disk are below it, so that sums of them cannot overflow. At a billion records a second
/// it is reached after 146 years.
pub(crate) const NUMBER_LIMIT: u64 = 1 << 62;
const MAGIC: &[u8; 8] = b"ALLOYWAL";
const COPY_BYTES: usize = HEADER_BLOCK as usize / 2;
const CRC_AT: usize = COPY_BYTES - 4;
const EXTENSION: &str = ".wal";
/// Bytes between two entries of a segment's index: what is read in vain at most to find a position.
const INDEX_STEP: u64 = 64 << 10;

/// Locks, also after a panic in another thread: every value behind a lock of this crate is valid between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file name of a segment.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:020}{EXTENSION}")
}

/// The number in a segment's file name.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?;
    let number = digits.parse().ok().filter(|&number| number < NUMBER_LIMIT)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

/// What a segment's header block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: u64,
    pub(crate) number: u64,
    pub(crate) base: Position,
    pub(crate) created_ms: u64,
    pub(crate) file_bytes: u64,
    pub(crate) salt: u64,
    pub(crate) durable: Position,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = vec![0; COPY_BYTES];
        copy[..8].copy_from_slice(MAGIC);
        copy[8..12].copy_from_slice(&VERSION.to_le_bytes());
        copy[12..16].copy_from_slice(&(HEADER_BLOCK as u32).to_le_bytes());
        let fields =
            [self.log_id, self.number, self.base, self.created_ms, self.file_bytes, self.salt, self.durable];
        for (index, field) in fields.iter().enumerate() {
            copy[16 + index * 8..24 + index * 8].copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32fast::hash(&copy[..CRC_AT]);
        copy[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        copy.repeat(2)
    }

    /// Reads the first intact copy. `Ok(None)` if there is none.
    ///
    /// # Errors
    /// [`Error::NewerVersion`], without looking at anything that a newer version may have moved.
    pub(crate) fn decode(block: &[u8], name: &str) -> Result<Option<SegmentHeader>> {
        for copy in block.chunks_exact(COPY_BYTES).take(2) {
            let u32_at = |at: usize| u32::from_le_bytes([copy[at], copy[at + 1], copy[at + 2], copy[at + 3]]);
            let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
            if &copy[..8] != MAGIC || u32_at(CRC_AT) != crc32fast::hash(&copy[..CRC_AT]) {
                continue;
            }
            if u32_at(8) > VERSION {
                return Err(Error::NewerVersion { name: name.into(), found: u32_at(8), supported: VERSION });
            }
            let header = SegmentHeader {
                log_id: u64_at(16),
                number: u64_at(24),
                base: u64_at(32),
                created_ms: u64_at(40),
                file_bytes: u64_at(48),
                salt: u64_at(56),
                durable: u64_at(64),
            };
            if header.base.max(header.durable) < NUMBER_LIMIT {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

/// How far a segment is filled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Its positions end here.
    pub(crate) end: Position,
    /// Its frames end here, in bytes from the start of the file.
    pub(crate) bytes: u64,
}

/// Where a record begins, for finding positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexEntry {
    pub(crate) position: Position,
    pub(crate) offset: u64,
    pub(crate) stamp_ms: u64,
}

/// A segment of the running log.
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) name: String,
    pub(crate) file: Box<dyn SegmentFile>,
    /// Bytes on disk.
    pub(crate) file_bytes: u64,
    extent: Mutex<Extent>,
    /// Sparse, sorted; at most one entry per `INDEX_STEP` bytes.
    index: Mutex<Vec<IndexEntry>>,
    /// Damage up to here is counted.
    damage_counted: Mutex<Position>,
}

impl Segment {
    pub(crate) fn new(
        header: SegmentHeader,
        file: Box<dyn SegmentFile>,
        file_bytes: u64,
        extent: Extent,
    ) -> Segment {
        let start = IndexEntry { position: header.base, offset: HEADER_BLOCK, stamp_ms: header.created_ms };
        Segment {
            name: file_name(header.number),
            header,
            file,
            file_bytes,
            extent: Mutex::new(extent),
            index: Mutex::new(vec![start]),
            damage_counted: Mutex::new(header.base),
        }
    }

    pub(crate) fn base(&self) -> Position {
        self.header.base
    }

    pub(crate) fn extent(&self) -> Extent {
        *lock(&self.extent)
    }

    pub(crate) fn set_extent(&self, extent: Extent) {
        *lock(&self.extent) = extent;
    }

    /// The last known record at or before `position`.
    pub(crate) fn find(&self, position: Position) -> IndexEntry {
        let index = lock(&self.index);
        let after = index.partition_point(|entry| entry.position <= position);
        index[after.saturating_sub(1)]
    }

    /// Remembers where a record begins, if nothing near it is known.
    pub(crate) fn note(&self, entry: IndexEntry) {
        let mut index = lock(&self.index);
        let after = index.partition_point(|known| known.position <= entry.position);
        let far = |known: &IndexEntry| known.offset.abs_diff(entry.offset) >= INDEX_STEP;
        if after.checked_sub(1).is_none_or(|before| far(&index[before])) && index.get(after).is_none_or(far) {
            index.insert(after, entry);
        }
    }

    /// How many of the damaged positions are news.
    pub(crate) fn count_damage(&self, positions: &std::ops::Range<Position>) -> u64 {
        let mut counted = lock(&self.damage_counted);
        let new = positions.end.saturating_sub(positions.start.max(*counted));
        *counted = (*counted).max(positions.end);
        new
    }

    /// The stamp of a record with this delta.
    pub(crate) fn stamp(&self, delta_ms: i32) -> u64 {
        self.header.created_ms.wrapping_add_signed(i64::from(delta_ms))
    }

    /// True if 32 bits can say how far the stamp is from the segment's first: 24 days either way.
    pub(crate) fn can_stamp(&self, stamp_ms: u64) -> bool {
        i32::try_from(stamp_ms.wrapping_sub(self.header.created_ms).cast_signed()).is_ok()
    }

    /// True if it can stamp everything between the two. Deltas wrap around, so the two must not be far apart either.
    pub(crate) fn can_stamp_all(&self, [least, most]: [u64; 2]) -> bool {
        most.saturating_sub(least) <= i32::MAX as u64 && self.can_stamp(least) && self.can_stamp(most)
    }

    /// The delta for a stamp. NOTE: clamped where it cannot be said; a new segment is opened before that happens, except when
    /// records are rewritten after a failure.
    pub(crate) fn delta(&self, stamp_ms: u64) -> i32 {
        let delta = i32::try_from(stamp_ms.wrapping_sub(self.header.created_ms).cast_signed());
        let farthest = if stamp_ms > self.header.created_ms { i32::MAX } else { i32::MIN };
        delta.unwrap_or(farthest)
    }

    /// Fills in the mark that opens a write.
    pub(crate) fn seal_mark(&self, mark: &mut [u8], offset: u64, next: Position, durable: Position) {
        mark[frame::FRAME_HEADER..].copy_from_slice(&durable.to_le_bytes());
        let ordinal = self.ordinal(next);
        let header = Header { kind: Kind::Mark, length: 8, ordinal, delta_ms: 0 };
        frame::seal(mark, self.header.salt, offset, header);
    }

    /// The ordinal of a position of this segment. Segments are below 4 GiB, so it fits.
    pub(crate) fn ordinal(&self, position: Position) -> u32 {
        (position - self.header.base) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        log_id: 1,
        number: 2,
        base: 3,
        created_ms: 4,
        file_bytes: 65_536,
        salt: 6,
        durable: 7,
    };

    #[test]
    fn a_header_survives_a_flipped_bit_anywhere() {
        let block = HEADER.encode();
        assert_eq!(block.len() as u64, HEADER_BLOCK);
        for bit in 0..block.len() * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad, "x").expect("same version"), Some(HEADER));
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let mut block = HEADER.encode();
        block[8] = 9;
        let crc = crc32fast::hash(&block[..CRC_AT]);
        block[CRC_AT..COPY_BYTES].copy_from_slice(&crc.to_le_bytes());
        let error = SegmentHeader::decode(&block, "x").expect_err("version 9");
        assert!(matches!(error, Error::NewerVersion { found: 9, supported: 1, .. }));
    }

    #[test]
    fn file_names_are_numbers_of_twenty_digits() {
        assert_eq!(file_name(42), "00000000000000000042.wal");
        let check = |name: &str, number: Option<u64>| assert_eq!(file_number(name), number, "{name}");
        check("00000000000000000042.wal", Some(42));
        check("42.wal", None);
        check("+0000000000000000042.wal", None);
        check("99999999999999999999.wal", None);
        check("18446744073709551615.wal", None);
        check("00000000000000000042", None);
    }
}
