//! A request that is taken apart: the halves of what it repeats, in order.

use bytes::Bytes;

use super::protobuf::{delimited, put_bytes};
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

/// Cuts a compressed request of remote-write 1.0 or 2.0, or of a Loki push, between two of its series, or between two items of the
/// only one. The one half, sent behind the other, is the whole. `None`: there is only one item, or it is damaged.
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
    if let [only] = elements.as_slice() {
        return (only.number == FIRST_SERIES)
            .then(|| split_series(only.content().unwrap_or_default()))
            .flatten();
    }
    let (left, right) = elements.split_at(elements.len() / 2);
    if left.is_empty() {
        return None;
    }
    Some([left, right].map(|half| {
        let mut plain = shared.clone();
        half.iter().for_each(|element| plain.extend_from_slice(element.whole));
        let items =
            half.iter().map(|element| items(element.number, element.content().unwrap_or_default())).sum();
        Part { body: compress(&plain).into(), items }
    }))
}

/// A series of remote-write 1.0 or a stream: both halves have its labels, the first one also what is neither label nor item.
fn split_series(series: &[u8]) -> Option<[Part; 2]> {
    const LABELS: u64 = 1;
    let (mut labels, mut others, mut items) = (Vec::new(), Vec::new(), Vec::new());
    for field in Fields::whole(series) {
        let field = field?;
        match field.number {
            LABELS => labels.extend_from_slice(field.whole),
            number if is_item(FIRST_SERIES, number) => items.push(field.whole),
            _ => others.extend_from_slice(field.whole),
        }
    }
    let (left, right) = items.split_at(items.len() / 2);
    if left.is_empty() {
        return None;
    }
    Some([(left, others), (right, Vec::new())].map(|(half, others)| {
        let series = [labels.as_slice(), &half.concat(), &others].concat();
        let mut plain = Vec::with_capacity(series.len() + 8);
        put_bytes(&mut plain, delimited(FIRST_SERIES as u8), &series);
        Part { body: compress(&plain).into(), items: half.len() as u32 }
    }))
}

/// Samples and histograms of a series, lines of a stream.
fn items(number: u64, element: &[u8]) -> u32 {
    Fields::of(element).flatten().filter(|(field, _)| is_item(number, *field)).count() as u32
}

fn is_item(element: u64, field: u64) -> bool {
    match element {
        FIRST_SERIES => field == 2 || field == 4,
        SECOND_SERIES => field == 2 || field == 3,
        _ => false,
    }
}
