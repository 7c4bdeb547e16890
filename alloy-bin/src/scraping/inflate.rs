//! gzip -> page: in one go where the packed page says how long it is, which is nearly always.
//!
//! One go costs about half of what a stream costs. It may not be trusted: the length is at the end, and only that of the last
//! of several members; whatever does not come out as promised is unpacked as a stream, which also finds the words for what is wrong.

use std::cell::RefCell;
use std::io::Read;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use libdeflater::Decompressor;

use super::fetch::TooLarge;

/// What a thread keeps between two pages, so that the next one meets warm memory.
struct Bench {
    inflater: Decompressor,
    page: Vec<u8>,
}

/// A larger page's memory is given back at once.
const KEPT_BYTES_MAX: usize = 4 << 20;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench { inflater: Decompressor::new(), page: Vec::new() });
}

/// Unpacks a page of at most `limit` bytes and gives it to `read`. `read` does not call this function again.
pub(super) fn with_inflated<R>(
    packed: &[u8],
    limit: usize,
    read: impl FnOnce(&[u8]) -> R,
) -> anyhow::Result<R> {
    BENCH.with_borrow_mut(|Bench { inflater, page }| {
        let result = match at_once(inflater, packed, limit, page) {
            Some(length) => Ok(read(&page[..length])),
            None => stream(packed, limit).map(|page| read(&page)),
        };
        if page.len() > KEPT_BYTES_MAX {
            *page = Vec::new();
        }
        result
    })
}

/// The length of the page, which then begins `page`; `None` if it has to be unpacked another way.
fn at_once(inflater: &mut Decompressor, packed: &[u8], limit: usize, page: &mut Vec<u8>) -> Option<usize> {
    /// Magic, deflate, and no flags: nothing stands between these bytes and the data but a time and two hints.
    const PLAIN_HEADER: [u8; 4] = [0x1f, 0x8b, 8, 0];
    const HEADER_BYTES: usize = 10;
    /// Deflate can't unpack to more than so many times its length, so who promises more is not believed.
    const RATIO_MAX: usize = 1032;
    let (rest, length) = packed.split_last_chunk::<4>()?;
    let (rest, checksum) = rest.split_last_chunk::<4>()?;
    let deflated = rest.get(HEADER_BYTES..).filter(|_| rest.starts_with(&PLAIN_HEADER))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > limit || length > deflated.len().saturating_mul(RATIO_MAX) {
        return None;
    }
    if page.len() < length {
        page.resize(length, 0);
    }
    let page = &mut page[..length];
    let unpacked = inflater.deflate_decompress(deflated, page).ok()?;
    (unpacked == length && crc32fast::hash(page) == u32::from_le_bytes(*checksum)).then_some(length)
}

fn stream(packed: &[u8], limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::with_capacity(packed.len().saturating_mul(4).min(limit));
    let read = MultiGzDecoder::new(packed).take((limit as u64).saturating_add(1)).read_to_end(&mut page);
    read.context("the page is not valid gzip")?;
    if page.len() > limit {
        return Err(TooLarge(limit).into());
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;

    fn pack(builder: GzBuilder, page: &[u8]) -> Vec<u8> {
        let mut packer = builder.write(Vec::new(), Compression::default());
        packer.write_all(page).expect("memory");
        packer.finish().expect("memory")
    }

    fn unpack(packed: &[u8], limit: usize) -> anyhow::Result<Vec<u8>> {
        with_inflated(packed, limit, <[u8]>::to_vec)
    }

    fn goes_at_once(packed: &[u8]) -> bool {
        at_once(&mut Decompressor::new(), packed, usize::MAX, &mut Vec::new()).is_some()
    }

    #[test]
    fn a_small_answer_that_unpacks_to_much_is_refused() {
        let mut bomb = pack(GzBuilder::new(), &vec![b'#'; 1 << 20]);
        assert_eq!(unpack(&bomb, 1 << 20).expect("within the limit").len(), 1 << 20);
        assert!(unpack(&bomb, (1 << 20) - 1).expect_err("over the limit").is::<TooLarge>());
        let promise = bomb.len() - 4;
        bomb[promise..].copy_from_slice(&7u32.to_le_bytes());
        assert!(unpack(&bomb, 1 << 19).expect_err("over the limit, and says otherwise").is::<TooLarge>());
        bomb[promise..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(unpack(&bomb, usize::MAX).is_err(), "nobody believes in 4 GiB");
        assert!(unpack(b"no gzip", 100).is_err());
    }

    #[test]
    fn whatever_gzip_allows_is_unpacked() {
        let (first, second) = (b"a 1\n".repeat(9), b"b 2\n".repeat(9));
        let plain = pack(GzBuilder::new(), &first);
        let named = pack(GzBuilder::new().filename("n").comment("c").extra("x"), &first);
        let members = [plain.clone(), pack(GzBuilder::new(), &second)].concat();
        assert!(goes_at_once(&plain) && !goes_at_once(&named) && !goes_at_once(&members));
        assert_eq!(unpack(&plain, 100).expect("one member"), first);
        assert_eq!(unpack(&named, 100).expect("a header with everything"), first);
        assert_eq!(unpack(&members, 100).expect("two members"), [first, second].concat());
        assert_eq!(unpack(&pack(GzBuilder::new(), b""), 100).expect("nothing"), b"");
    }

    #[test]
    fn a_flipped_bit_is_never_taken_for_a_page() {
        let page = b"a 1\nb{x=\"1\"} 2\n".repeat(3);
        let packed = pack(GzBuilder::new(), &page);
        // The time and the two hints of the header mean nothing.
        for bit in (0..packed.len() * 8).filter(|bit| !(32..80).contains(bit)) {
            let mut broken = packed.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            if let Ok(unpacked) = unpack(&broken, 1000) {
                assert!(unpacked == page, "bit {bit}");
            }
        }
        for length in 0..packed.len() {
            assert!(unpack(&packed[..length], 1000).is_err(), "cut to {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_page_comes_back(page in prop::collection::vec(any::<u8>(), 0..3000), shorter in 0usize..3000) {
            let packed = pack(GzBuilder::new(), &page);
            prop_assert_eq!(unpack(&packed, 3000).expect("valid"), page.as_slice());
            // The memory of a longer page does not shine through.
            let end = shorter.min(page.len());
            prop_assert_eq!(unpack(&pack(GzBuilder::new(), &page[..end]), 3000).expect("valid"), &page[..end]);
        }
    }
}
