//! A request that is taken apart: the halves of what it repeats, in order.

use bytes::Bytes;

use super::snappy::{compress, decompress};
use super::wire::Fields;

/// A compressed request, complete by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its body.
    pub body: Bytes,
    /// Samples or lines in it.
    pub items: u32,
}

/// Top-level fields: the series of remote-write 1.0, which are also the streams of a Loki push; 2.0 has texts that all of its
/// series share, and its own number for series.
const FIRST_SERIES: u64 = 1;
const SYMBOLS: u64 = 4;
const SECOND_SERIES: u64 = 5;

/// Cuts a compressed request of remote-write 1.0 or 2.0, or of a Loki push, between two of its series. The one half, sent behind
/// the other, is the whole. `None`: there is only one, or it is damaged.
pub fn split(block: &[u8]) -> Option<[Part; 2]> {
    let plain = decompress(block)?;
    let (mut shared, mut elements) = (Vec::new(), Vec::new());
    for field in Fields::whole(&plain) {
        let field = field?;
        match field.number {
            SYMBOLS => shared.extend_from_slice(field.whole),
            _ => elements.push(field),
        }
    }
    if elements.len() < 2 {
        return None;
    }
    let (left, right) = elements.split_at(elements.len() / 2);
    Some([left, right].map(|half| {
        let mut plain = shared.clone();
        half.iter().for_each(|element| plain.extend_from_slice(element.whole));
        let items =
            half.iter().map(|element| items(element.number, element.content().unwrap_or_default())).sum();
        Part { body: compress(&plain).into(), items }
    }))
}

/// Samples and histograms of a series, lines of a stream.
fn items(number: u64, element: &[u8]) -> u32 {
    let is_item = |inner| match number {
        FIRST_SERIES => inner == 2 || inner == 4,
        SECOND_SERIES => inner == 2 || inner == 3,
        _ => false,
    };
    Fields::of(element).flatten().filter(|(number, _)| is_item(*number)).count() as u32
}
