//! A native histogram as remote write has it; listed bounds are in 2.0 alone.
//!
//! ```text
//! Histogram { oneof { uint64 count_int = 1; double count_float = 2; } double sum = 3; sint32 schema = 4;
//!             double zero_threshold = 5; oneof { uint64 zero_count_int = 6; double zero_count_float = 7; }
//!             repeated BucketSpan negative_spans = 8; repeated sint64 negative_deltas = 9;
//!             repeated double negative_counts = 10; repeated BucketSpan positive_spans = 11;
//!             repeated sint64 positive_deltas = 12; repeated double positive_counts = 13;
//!             ResetHint reset_hint = 14; int64 timestamp = 15; repeated double custom_values = 16; }
//! BucketSpan { sint32 offset = 1; uint32 length = 2; }
//! ```

use crate::formats::protobuf::{
    delimited, fixed64, put_bytes, put_double, put_integer, put_message, put_varint, varint,
};
use crate::formats::wire::Fields;
use crate::telemetry::{CUSTOM_BUCKETS_SCHEMA, HistogramCounts, NativeHistogram, Span};

/// 16 does not fit the one byte that the other tags take.
const CUSTOM_VALUES: [u8; 2] = [0x82, 0x01];

pub(in crate::formats) fn put(out: &mut Vec<u8>, histogram: &NativeHistogram, timestamp_ms: i64) {
    // A count of zero is written too: which of the two it is says what kind of histogram this is.
    match &histogram.counts {
        HistogramCounts::Integer { count, zero_count, .. } => {
            out.push(varint(1));
            put_varint(out, *count);
            out.push(varint(6));
            put_varint(out, *zero_count);
        }
        HistogramCounts::Float { count, zero_count, .. } => {
            out.push(fixed64(2));
            out.extend_from_slice(&count.to_le_bytes());
            out.push(fixed64(7));
            out.extend_from_slice(&zero_count.to_le_bytes());
        }
    }
    put_double(out, fixed64(3), histogram.sum);
    put_integer(out, varint(4), zigzag(histogram.schema.into()) as i64);
    put_double(out, fixed64(5), histogram.zero_threshold);
    put_spans(out, delimited(8), &histogram.negative_spans);
    put_spans(out, delimited(11), &histogram.positive_spans);
    match &histogram.counts {
        HistogramCounts::Integer { positive, negative, .. } => {
            put_integers(out, delimited(9), negative);
            put_integers(out, delimited(12), positive);
        }
        HistogramCounts::Float { positive, negative, .. } => {
            put_doubles(out, delimited(10), negative);
            put_doubles(out, delimited(13), positive);
        }
    }
    put_integer(out, varint(14), histogram.reset_hint as i64);
    put_integer(out, varint(15), timestamp_ms);
    if !histogram.custom_values.is_empty() {
        out.extend_from_slice(&CUSTOM_VALUES);
        put_varint(out, 8 * histogram.custom_values.len() as u64);
        histogram.custom_values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }
}

/// Whether an encoded histogram has its bounds listed.
pub(in crate::formats) fn has_custom_buckets(encoded: &[u8]) -> bool {
    let schema = Fields::of(encoded).flatten().find(|(number, _)| *number == 4);
    schema.and_then(|(_, field)| field.integer().ok()) == Some(zigzag(CUSTOM_BUCKETS_SCHEMA.into()))
}

fn put_spans(out: &mut Vec<u8>, tag: u8, spans: &[Span]) {
    for span in spans {
        put_message(out, tag, 12, |out| {
            put_integer(out, varint(1), zigzag(span.offset.into()) as i64);
            put_integer(out, varint(2), span.length.into());
        });
    }
}

fn put_integers(out: &mut Vec<u8>, tag: u8, values: &[i64]) {
    if !values.is_empty() {
        put_message(out, tag, values.len(), |out| {
            values.iter().for_each(|value| put_varint(out, zigzag(*value)))
        });
    }
}

fn put_doubles(out: &mut Vec<u8>, tag: u8, values: &[f64]) {
    if !values.is_empty() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        put_bytes(out, tag, &bytes);
    }
}

/// Signed numbers of small size in few bytes: 0, -1, 1, -2 as 0, 1, 2, 3.
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::formats::{RemoteWriteEncoder, Sends};
    use crate::telemetry::{Extras, Labels, ResetHint, SampleBatch};
    use crate::testing::messages::{self, WriteRequest};

    fn encode(histogram: &NativeHistogram, native_histograms: bool) -> Vec<messages::Histogram> {
        let mut batch = SampleBatch::new(0);
        batch.push([("__name__", "h")], -5, histogram.sum);
        batch.add_extras(Extras { histogram: Some(histogram.clone()), exemplars: Vec::new() });
        let sends = Sends { exemplars: true, native_histograms };
        let encoder = RemoteWriteEncoder::new(&Labels::new([("a", "1")])).sending(sends);
        let mut piece = Vec::new();
        encoder.encode(batch.iter(), &mut piece);
        let series = WriteRequest::decode(piece.as_slice()).unwrap().timeseries;
        assert!(series.iter().all(|series| series.samples.is_empty() && series.labels.len() == 2));
        series.into_iter().flat_map(|series| series.histograms).collect()
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let span = (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| Span { offset, length });
        prop::collection::vec(span, 0..4)
    }

    fn counts() -> impl Strategy<Value = HistogramCounts> {
        let integers = || prop::collection::vec(any::<i64>(), 0..6);
        let doubles = || prop::collection::vec(-1e300..1e300, 0..6);
        prop_oneof![
            (any::<u64>(), any::<u64>(), integers(), integers()).prop_map(
                |(count, zero_count, positive, negative)| {
                    HistogramCounts::Integer { count, zero_count, positive, negative }
                }
            ),
            (0.0..1e300, 0.0..1e300, doubles(), doubles()).prop_map(
                |(count, zero_count, positive, negative)| {
                    HistogramCounts::Float { count, zero_count, positive, negative }
                }
            ),
        ]
    }

    fn read_spans(spans: &[messages::BucketSpan]) -> Vec<Span> {
        spans.iter().map(|span| Span { offset: span.offset, length: span.length }).collect()
    }

    proptest! {
        #[test]
        fn every_histogram_arrives_as_it_was(
            schema in -4..=8, sum in -1e300..1e300, zero_threshold in 0.0..1.0, spans in (spans(), spans()), counts in counts(),
            gauge in any::<bool>(),
        ) {
            let reset_hint = if gauge { ResetHint::Gauge } else { ResetHint::Unknown };
            let (positive_spans, negative_spans) = spans;
            let custom_values = Vec::new();
            let sent = NativeHistogram {
                schema, sum, zero_threshold, positive_spans, negative_spans, counts, reset_hint, custom_values,
            };
            prop_assert!(encode(&sent, false).is_empty());
            let all = encode(&sent, true);
            prop_assert_eq!(all.len(), 1);
            let read = &all[0];
            prop_assert_eq!((read.timestamp, read.schema, read.reset_hint), (-5, schema, reset_hint as i32));
            prop_assert_eq!((read.sum, read.zero_threshold), (sum, zero_threshold));
            prop_assert_eq!(&read_spans(&read.positive_spans), &sent.positive_spans);
            prop_assert_eq!(&read_spans(&read.negative_spans), &sent.negative_spans);
            let counts = match (read.count_int, read.zero_count_int, read.count_float, read.zero_count_float) {
                (Some(count), Some(zero_count), None, None) => {
                    let (positive, negative) = (read.positive_deltas.clone(), read.negative_deltas.clone());
                    HistogramCounts::Integer { count, zero_count, positive, negative }
                }
                (None, None, Some(count), Some(zero_count)) => {
                    let (positive, negative) = (read.positive_counts.clone(), read.negative_counts.clone());
                    HistogramCounts::Float { count, zero_count, positive, negative }
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(&counts, &sent.counts);
            let custom = NativeHistogram { schema: CUSTOM_BUCKETS_SCHEMA, ..sent };
            prop_assert!(encode(&custom, true).is_empty());
        }
    }
}
