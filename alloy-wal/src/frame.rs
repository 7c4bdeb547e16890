//! The framing of records inside a segment. Pure: bytes in, frames out.
//!
//! ```text
//!  0  crc32   of bytes 4.. to the end of the payload, seeded with the segment's salt and the frame's offset
//!  4  length of the payload: 29 bits | kind: 3 bits
//!  8  ordinal of the record in its segment, masked with the salt and the offset
//! 12  stamp, signed milliseconds since the segment's first record
//! 16  payload, then zeros up to a multiple of 8
//! ```
//!
//! For fixed bytes a CRC is a bijection of its seed, so an intact frame of an earlier life of the file, or at another
//! offset, can never pass. The mask keeps a search behind damage cheap whatever the payloads contain: without the salt
//! nobody can write bytes that look like plausible frames and cost a checksum each.

/// Bytes in front of a payload.
pub(crate) const FRAME_HEADER: usize = 16;
/// Bytes of the header that the checksum covers: all but itself.
const COVERED: usize = FRAME_HEADER - 4;
/// Frames begin at multiples of it.
pub(crate) const ALIGNMENT: usize = 8;
/// The largest payload that 29 bits can say.
pub(crate) const PAYLOAD_BYTES_MAX: usize = (1 << 29) - 1;

/// What a frame is. 0 never occurs, so zeros are no frame; 6 and 7 are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A batch of one record.
    Single = 1,
    /// The first record of a batch.
    First = 2,
    /// One in the middle of a batch.
    Middle = 3,
    /// The last record of a batch.
    Last = 4,
    /// Opens a write; its payload is the durable watermark of that moment, its ordinal that of the next record.
    Mark = 5,
}

impl Kind {
    fn from_bits(bits: u32) -> Option<Kind> {
        Some(match bits {
            1 => Kind::Single,
            2 => Kind::First,
            3 => Kind::Middle,
            4 => Kind::Last,
            5 => Kind::Mark,
            _ => return None,
        })
    }

    /// The kind of the record at `index` of a batch of `count`.
    pub(crate) fn of(index: usize, count: usize) -> Kind {
        match (index == 0, index + 1 == count) {
            (true, true) => Kind::Single,
            (true, false) => Kind::First,
            (false, false) => Kind::Middle,
            (false, true) => Kind::Last,
        }
    }

    /// True if a batch ends with this frame.
    pub(crate) fn ends_batch(self) -> bool {
        matches!(self, Kind::Single | Kind::Last)
    }
}

/// A frame's header, unmasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Bytes of payload.
    pub(crate) length: usize,
    pub(crate) ordinal: u32,
    pub(crate) delta_ms: i32,
}

impl Header {
    /// Bytes of the whole frame.
    pub(crate) fn frame_bytes(&self) -> usize {
        frame_bytes(self.length)
    }

    /// The ordinal that follows this frame.
    pub(crate) fn next_ordinal(&self) -> u32 {
        self.ordinal.wrapping_add(u32::from(self.kind != Kind::Mark))
    }
}

/// Bytes of a frame around a payload of `length` bytes.
pub(crate) fn frame_bytes(length: usize) -> usize {
    (FRAME_HEADER + length).next_multiple_of(ALIGNMENT)
}

/// Fills in the header of the frame at the start of `frame`, whose payload is already in place.
pub(crate) fn seal(frame: &mut [u8], salt: u64, offset: u64, header: Header) {
    debug_assert!(header.length <= PAYLOAD_BYTES_MAX, "limits are checked when a batch is appended");
    let word = (header.length as u32) << 3 | header.kind as u32;
    let mut covered = [0; COVERED];
    covered[..4].copy_from_slice(&word.to_le_bytes());
    covered[4..8].copy_from_slice(&(header.ordinal ^ mask(salt, offset)).to_le_bytes());
    covered[8..].copy_from_slice(&header.delta_ms.to_le_bytes());
    let (place, payload) = frame.split_at_mut(FRAME_HEADER);
    let crc = checksum(&covered, &payload[..header.length], salt, offset);
    place[..4].copy_from_slice(&crc.to_le_bytes());
    place[4..].copy_from_slice(&covered);
}

/// Reads the header at the start of `bytes` without checking the checksum. `None` if it cannot be a frame.
pub(crate) fn peek(bytes: &[u8], salt: u64, offset: u64) -> Option<Header> {
    let header = bytes.first_chunk::<FRAME_HEADER>()?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let kind = Kind::from_bits(word(4) & 7)?;
    let length = (word(4) >> 3) as usize;
    let ordinal = word(8) ^ mask(salt, offset);
    Some(Header { kind, length, ordinal, delta_ms: word(12) as i32 })
}

/// Reads the frame at the start of `bytes` and checks it.
pub(crate) fn open(bytes: &[u8], salt: u64, offset: u64) -> Option<Header> {
    let header = peek(bytes, salt, offset)?;
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let (covered, rest) = rest.split_first_chunk::<COVERED>()?;
    let payload = rest.get(..header.length)?;
    (u32::from_le_bytes(*crc) == checksum(covered, payload, salt, offset)).then_some(header)
}

/// In two steps: most payloads are multiples of what the processor's instructions take at once, and the header that was
/// written an instant ago is not read back through them, which would stall. For 128 bytes that is 15 ns in place of 26.
fn checksum(covered: &[u8; COVERED], payload: &[u8], salt: u64, offset: u64) -> u32 {
    let seed = (salt ^ (salt >> 32)) as u32 ^ (offset / ALIGNMENT as u64) as u32;
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(covered);
    hasher.update(payload);
    hasher.finalize()
}

/// A splitmix64 step over salt and offset.
fn mask(salt: u64, offset: u64) -> u32 {
    let mut mixed = salt.wrapping_add(offset.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { kind: Kind::First, length: 5, ordinal: 7, delta_ms: -3 };

    fn frame(salt: u64, offset: u64) -> Vec<u8> {
        let mut frame = vec![0; frame_bytes(5)];
        frame[FRAME_HEADER..FRAME_HEADER + 5].copy_from_slice(b"hello");
        seal(&mut frame, salt, offset, HEADER);
        frame
    }

    #[test]
    fn a_frame_is_read_back_as_it_was_sealed() {
        let frame = frame(42, 4096);
        assert_eq!(frame.len(), 24);
        assert_eq!(open(&frame, 42, 4096), Some(HEADER));
    }

    #[test]
    fn a_frame_is_valid_only_with_its_salt_and_at_its_offset() {
        let frame = frame(42, 4096);
        assert_eq!(open(&frame, 43, 4096), None);
        assert_eq!(open(&frame, 42, 4104), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = frame(1, 4096);
        for bit in 0..(FRAME_HEADER + 5) * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&bad, 1, 4096), None, "bit {bit}");
        }
    }

    #[test]
    fn short_or_empty_bytes_are_no_frame() {
        let good = frame(1, 4096);
        for length in 0..FRAME_HEADER + 5 {
            assert_eq!(open(&good[..length], 1, 4096), None, "{length} bytes");
        }
        assert_eq!(open(&[0; 64], 1, 4096), None);
    }
}
