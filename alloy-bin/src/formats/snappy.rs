//! One snappy block from a piece, one request body from many blocks.
//!
//! A raw block is `varint length of what is inside, elements...`. An element is a literal or a copy from so many bytes
//! back, so it means the same behind other elements: blocks are joined by dropping their lengths and writing the sum.
//! The result decodes to the concatenation. Format: <https://github.com/google/snappy/blob/main/format_description.txt>.

use std::cell::RefCell;

use bytes::Bytes;
use snap::raw::Encoder;

use super::protobuf::put_varint;

/// A length fits 32 bits, so five bytes.
const PREFIX_BYTES_MAX: usize = 5;

thread_local! {
    /// The encoder's table and room for its worst case, 7/6 of the plain length. Made anew for each piece they cost a quarter of the
    /// compression of a small one.
    static SCRATCH: RefCell<(Encoder, Vec<u8>)> = RefCell::new((Encoder::new(), Vec::new()));
}
/// A thread keeps no more than that: pieces of 2,000 series with long labels have some 1 MiB.
const SCRATCH_BYTES_MAX: usize = 2 << 20;

/// Compresses to one raw block.
///
/// # Panics
/// When `plain` has more than 4 GiB, which the format cannot say; a batch is limited far below.
pub fn compress(plain: &[u8]) -> Vec<u8> {
    SCRATCH.with_borrow_mut(|(encoder, room)| {
        let most = snap::raw::max_compress_len(plain.len());
        if room.len() < most {
            room.resize(most, 0);
        }
        let length = encoder.compress(plain, room).expect("a batch is limited far below 4 GiB");
        let block = room[..length].to_vec();
        room.truncate(SCRATCH_BYTES_MAX);
        room.shrink_to(SCRATCH_BYTES_MAX);
        block
    })
}

/// What is in a block; `None` if it is not one.
pub fn decompress(block: &[u8]) -> Option<Vec<u8>> {
    snap::raw::Decoder::new().decompress_vec(block).ok()
}

/// How many bytes a block says that it has inside; nothing has checked that it has. `None` if it is not one.
pub fn decompressed_len(block: &[u8]) -> Option<usize> {
    snap::raw::decompress_len(block).ok()
}

/// The first byte of what is in a block: a block begins with a literal, which has it as it is.
pub(super) fn first_byte(block: &[u8]) -> Option<u8> {
    let (_, prefix_bytes) = read_prefix(block).ok()?;
    let tag = block.get(prefix_bytes)?;
    // A literal's length, less one, stands in the tag up to 59; from 60 on the tag says in how many bytes behind it.
    let length_bytes = usize::from(tag >> 2).saturating_sub(59);
    let first = block.get(prefix_bytes + 1 + length_bytes)?;
    (tag & 3 == 0).then_some(*first)
}

/// Joins the blocks into one; see [`Splice`].
pub fn join(blocks: &[Bytes]) -> Result<Bytes, SpliceError> {
    let mut splice = Splice::new();
    for block in blocks {
        splice.push(block.clone())?;
    }
    Ok(splice.to_bytes())
}

/// Several raw blocks on their way to be one. Nothing is copied until [`Splice::to_bytes`].
#[derive(Debug, Clone, Default)]
pub struct Splice {
    plain_bytes: u32,
    elements_bytes: usize,
    elements: Vec<Bytes>,
}

impl Splice {
    /// No block yet.
    pub fn new() -> Self {
        Splice::default()
    }

    /// Adds a block. After an error the splice is as it was before.
    pub fn push(&mut self, block: Bytes) -> Result<(), SpliceError> {
        let (plain_bytes, prefix_bytes) = read_prefix(&block)?;
        if (plain_bytes == 0) != (block.len() == prefix_bytes) {
            return Err(SpliceError::Length);
        }
        self.plain_bytes = self.plain_bytes.checked_add(plain_bytes).ok_or(SpliceError::TooLarge)?;
        self.elements_bytes += block.len() - prefix_bytes;
        self.elements.push(block.slice(prefix_bytes..));
        Ok(())
    }

    /// How many bytes the receiver will have after decoding.
    pub fn plain_bytes(&self) -> u32 {
        self.plain_bytes
    }

    /// How many bytes the joined block has.
    pub fn compressed_bytes(&self) -> usize {
        self.prefix().len() + self.elements_bytes
    }

    /// The joined block in parts, to be sent one after the other: no byte of the blocks is copied.
    pub fn into_parts(self) -> Vec<Bytes> {
        let mut parts = Vec::with_capacity(self.elements.len() + 1);
        parts.push(Bytes::from(self.prefix()));
        parts.extend(self.elements);
        parts
    }

    /// The joined block in one piece.
    pub fn to_bytes(&self) -> Bytes {
        let mut joined = Vec::with_capacity(PREFIX_BYTES_MAX + self.elements_bytes);
        put_varint(&mut joined, self.plain_bytes.into());
        for elements in &self.elements {
            joined.extend_from_slice(elements);
        }
        joined.into()
    }

    fn prefix(&self) -> Vec<u8> {
        let mut prefix = Vec::with_capacity(PREFIX_BYTES_MAX);
        put_varint(&mut prefix, self.plain_bytes.into());
        prefix
    }
}

/// Why blocks cannot be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpliceError {
    /// The block does not begin with a length of at most 32 bits. It is damaged or no raw block; leave it out.
    #[error("the block does not begin with a length")]
    Prefix,
    /// The block promises content and has none, or the other way round. It is damaged; leave it out.
    #[error("the block's length does not fit its content")]
    Length,
    /// The pieces are compressed in different ways. Each alone can be sent.
    #[error("the pieces are compressed in different ways")]
    Mixed,
    /// The joined block would decode to more than 4 GiB. Send what there is and begin another.
    #[error("the blocks together exceed 4 GiB")]
    TooLarge,
    /// A block is not a message that can be joined. It is damaged; leave it out.
    #[error("a block is no message of its protocol")]
    Message,
}

/// The plain length, and how many bytes say it.
fn read_prefix(block: &[u8]) -> Result<(u32, usize), SpliceError> {
    let mut value = 0u64;
    for (index, byte) in block.iter().take(PREFIX_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| SpliceError::Prefix)?;
            return Ok((value, index + 1));
        }
    }
    Err(SpliceError::Prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn splice(pieces: &[Vec<u8>]) -> Splice {
        let mut splice = Splice::new();
        for piece in pieces {
            splice.push(compress(piece).into()).unwrap();
        }
        splice
    }

    fn check(pieces: &[Vec<u8>]) {
        let splice = splice(pieces);
        let body = splice.to_bytes();
        let plain = pieces.concat();
        assert!(snap::raw::Decoder::new().decompress_vec(&body).unwrap() == plain);
        assert_eq!(splice.plain_bytes() as usize, plain.len());
        assert_eq!(splice.compressed_bytes(), body.len());
        assert!(splice.into_parts().concat() == body);
        for piece in pieces {
            assert_eq!(first_byte(&compress(piece)), piece.first().copied());
        }
    }

    #[test]
    fn joined_blocks_decode_to_the_concatenation() {
        let text: Vec<u8> =
            (0..40_000).flat_map(|n: u32| format!("series_{} ", n % 977).into_bytes()).collect();
        assert!(text.len() > 4 * 65_536);
        check(&[]);
        check(&[vec![]]);
        check(&[vec![], vec![1], vec![]]);
        check(&[text.clone(), vec![], text.clone()]);
        check(&[vec![0; 65_536], vec![0; 65_537], text]);
    }

    #[test]
    fn what_is_no_block_is_refused_and_changes_nothing() {
        let check = |block: &'static [u8], expected: SpliceError| {
            let mut splice = splice(&[b"before".to_vec()]);
            assert_eq!(splice.push(Bytes::from_static(block)), Err(expected));
            assert_eq!(snap::raw::Decoder::new().decompress_vec(&splice.to_bytes()).unwrap(), b"before");
        };
        check(b"", SpliceError::Prefix);
        check(b"\x80", SpliceError::Prefix);
        check(b"\xff\xff\xff\xff\xff", SpliceError::Prefix);
        check(b"\xff\xff\xff\xff\x1f", SpliceError::Prefix);
        check(b"\x05", SpliceError::Length);
        check(b"\x00\x00a", SpliceError::Length);
        check(b"\xff\xff\xff\xff\x0f\x00", SpliceError::TooLarge);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn random_pieces_survive(
            pieces in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..40), 0usize..3_000).prop_map(|(unit, times)| unit.repeat(times)),
                0..8,
            )
        ) {
            check(&pieces);
        }
    }
}
