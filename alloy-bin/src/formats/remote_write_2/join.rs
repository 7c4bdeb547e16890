//! Requests of 2.0 that become one, and one that becomes a request of 1.0.

use bytes::Bytes;

use super::symbols::{REQUEST_SYMBOLS, Symbols};
use super::{
    EXEMPLAR_LABELS, METADATA_HELP, METADATA_UNIT, REQUEST_TIMESERIES, SERIES_EXEMPLARS, SERIES_LABELS,
    SERIES_METADATA,
};
use crate::formats::protobuf::{delimited, put_bytes, put_integer, put_message, put_varint};
use crate::formats::remote_write::{self, histogram};
use crate::formats::snappy::{compress, decompress, first_byte};
use crate::formats::wire::{Fields, varint};
use crate::formats::{Part, SpliceError};

const TIMESERIES: u64 = (REQUEST_TIMESERIES >> 3) as u64;
const LABELS: u64 = (SERIES_LABELS >> 3) as u64;
const SAMPLES: u64 = 2;
const HISTOGRAMS: u64 = 3;
const EXEMPLARS: u64 = (SERIES_EXEMPLARS >> 3) as u64;
const METADATA: u64 = (SERIES_METADATA >> 3) as u64;

/// Whether a compressed request is one of 2.0: it begins with the table of symbols, and 1.0 has no field of that number.
pub fn is_remote_write_2(block: &[u8]) -> bool {
    first_byte(block) == Some(delimited(REQUEST_SYMBOLS as u8))
}

/// Joins compressed requests of 2.0 into one. References count in their own request's table, so all but a single request are
/// written anew; a text that several have is in the result once.
pub fn join_remote_write_2(blocks: &[Bytes]) -> Result<Bytes, SpliceError> {
    if let [only] = blocks {
        return Ok(only.clone());
    }
    let mut joined =
        Joined { symbols: Symbols::new(), series: Vec::new(), message: Vec::new(), table: Vec::new() };
    for block in blocks {
        decompress(block).and_then(|plain| joined.add(&plain)).ok_or(SpliceError::Message)?;
    }
    let mut plain = joined.symbols.into_encoded();
    plain.append(&mut joined.series);
    Ok(compress(&plain).into())
}

struct Joined {
    symbols: Symbols,
    series: Vec<u8>,
    /// One series, before its length is known.
    message: Vec<u8>,
    /// From the references of the request that is read to those of the joined one.
    table: Vec<u32>,
}

impl Joined {
    fn add(&mut self, plain: &[u8]) -> Option<()> {
        self.table.clear();
        for field in Fields::whole(plain) {
            let field = field?;
            match field.number {
                REQUEST_SYMBOLS => self.table.push(self.symbols.reference(field.content()?)),
                TIMESERIES => {
                    self.message.clear();
                    put_series(&mut self.message, field.content()?, &self.table)?;
                    put_bytes(&mut self.series, REQUEST_TIMESERIES, &self.message);
                }
                _ => return None,
            }
        }
        Some(())
    }
}

fn put_series(out: &mut Vec<u8>, series: &[u8], table: &[u32]) -> Option<()> {
    for field in Fields::whole(series) {
        let field = field?;
        match field.number {
            LABELS => put_references(out, SERIES_LABELS, field.content()?, table)?,
            EXEMPLARS => {
                let mut exemplar = Vec::new();
                for field in Fields::whole(field.content()?) {
                    let field = field?;
                    match field.number {
                        LABELS => put_references(&mut exemplar, EXEMPLAR_LABELS, field.content()?, table)?,
                        _ => exemplar.extend_from_slice(field.whole),
                    }
                }
                put_bytes(out, SERIES_EXEMPLARS, &exemplar);
            }
            METADATA => {
                let mut metadata = Vec::new();
                for field in Fields::whole(field.content()?) {
                    let field = field?;
                    let tag = field.whole[0];
                    match tag {
                        METADATA_HELP | METADATA_UNIT => {
                            let reference = *table.get(usize::try_from(field.value.integer().ok()?).ok()?)?;
                            put_integer(&mut metadata, tag, reference.into());
                        }
                        _ => metadata.extend_from_slice(field.whole),
                    }
                }
                put_bytes(out, SERIES_METADATA, &metadata);
            }
            _ => out.extend_from_slice(field.whole),
        }
    }
    Some(())
}

fn put_references(out: &mut Vec<u8>, tag: u8, mut packed: &[u8], table: &[u32]) -> Option<()> {
    let mut is_whole = true;
    put_message(out, tag, packed.len(), |out| {
        while is_whole && !packed.is_empty() {
            match translate(&mut packed, table) {
                Some(reference) => put_varint(out, reference.into()),
                None => is_whole = false,
            }
        }
    });
    is_whole.then_some(())
}

fn translate(packed: &mut &[u8], table: &[u32]) -> Option<u32> {
    table.get(usize::try_from(varint(packed).ok()?).ok()?).copied()
}

/// A compressed request of 2.0 as one of 1.0, with the number of its samples. What 1.0 has no room for is left out: histograms with
/// listed bounds, and what is said of families, which 1.0 says apart from the series. `None`: it is not one of 2.0.
pub fn older_remote_write(block: &[u8]) -> Option<Part> {
    if !is_remote_write_2(block) {
        return None;
    }
    let plain = decompress(block)?;
    let mut symbols = Vec::new();
    let mut items = 0;
    let (mut older, mut message) = (Vec::new(), Vec::new());
    for field in Fields::whole(&plain) {
        let field = field?;
        match field.number {
            REQUEST_SYMBOLS => symbols.push(field.content()?),
            TIMESERIES => {
                message.clear();
                let kept = put_older_series(&mut message, field.content()?, &symbols)?;
                items += kept;
                if kept > 0 {
                    put_bytes(&mut older, remote_write::REQUEST_TIMESERIES, &message);
                }
            }
            _ => return None,
        }
    }
    Some(Part { body: compress(&older).into(), items })
}

/// Returns how many samples it has.
fn put_older_series(out: &mut Vec<u8>, series: &[u8], symbols: &[&[u8]]) -> Option<u32> {
    let mut items = 0;
    for field in Fields::whole(series) {
        let field = field?;
        match field.number {
            LABELS => put_labels(out, field.content()?, symbols)?,
            SAMPLES => {
                items += 1;
                out.extend_from_slice(field.whole);
            }
            HISTOGRAMS if !histogram::has_custom_buckets(field.content()?) => {
                items += 1;
                put_bytes(out, remote_write::SERIES_HISTOGRAMS, field.content()?);
            }
            EXEMPLARS => {
                let mut exemplar = Vec::new();
                for field in Fields::whole(field.content()?) {
                    let field = field?;
                    match field.number {
                        LABELS => put_labels(&mut exemplar, field.content()?, symbols)?,
                        _ => exemplar.extend_from_slice(field.whole),
                    }
                }
                put_bytes(out, remote_write::SERIES_EXEMPLARS, &exemplar);
            }
            _ => {}
        }
    }
    Some(items)
}

fn put_labels(out: &mut Vec<u8>, mut packed: &[u8], symbols: &[&[u8]]) -> Option<()> {
    while !packed.is_empty() {
        let mut text = || symbols.get(usize::try_from(varint(&mut packed).ok()?).ok()?).copied();
        remote_write::put_label(out, text()?, text()?);
    }
    Some(())
}
