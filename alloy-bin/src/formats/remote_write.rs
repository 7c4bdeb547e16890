//! Sample batch -> piece of a Prometheus remote-write 1.0 request.
//!
//! ```text
//! WriteRequest { repeated TimeSeries timeseries = 1; }
//! TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2; }
//! Label        { string name = 1; string value = 2; }
//! Sample       { double value = 1; int64 timestamp = 2; }
//! ```
//!
//! Specification: <https://prometheus.io/docs/specs/prw/remote_write_spec/>. Metadata, exemplars and native histograms are
//! deliberately absent: the model has none.

use super::protobuf::{
    bytes_field_len, delimited, double_field_len, fixed64, integer_field_len, put_bytes, put_double,
    put_integer, put_message, put_varint, varint,
};
use crate::telemetry::{Labels, Sample};

const REQUEST_TIMESERIES: u8 = delimited(1);
const SERIES_LABELS: u8 = delimited(1);
const SERIES_SAMPLES: u8 = delimited(2);
const LABEL_NAME: u8 = delimited(1);
const LABEL_VALUE: u8 = delimited(2);
const SAMPLE_VALUE: u8 = fixed64(1);
const SAMPLE_TIMESTAMP: u8 = varint(2);

/// What a remote-write request says of its body, compressed to one raw snappy block.
pub const REMOTE_WRITE_HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// Encodes sample batches for one endpoint.
///
/// ```
/// use alloy_bin::formats::{RemoteWriteEncoder, compress};
/// use alloy_bin::telemetry::{Labels, SampleBatch};
///
/// let mut batch = SampleBatch::new(0);
/// batch.push([("__name__", "up"), ("job", "node")], 1_700_000_000_000, 1.0);
/// let encoder = RemoteWriteEncoder::new(&Labels::new([("cluster", "eu")]));
/// let mut piece = Vec::new();
/// encoder.encode(batch.iter(), &mut piece);
/// let body = compress(&piece);
/// # assert!(!body.is_empty());
/// ```
#[derive(Debug, Clone)]
pub struct RemoteWriteEncoder {
    external: Vec<ExternalLabel>,
}

/// A label that every series gets, with its bytes ready.
#[derive(Debug, Clone)]
struct ExternalLabel {
    name: String,
    encoded: Vec<u8>,
}

impl RemoteWriteEncoder {
    /// An encoder that adds these labels to each series that has none of the same name.
    pub fn new(external_labels: &Labels) -> Self {
        let external = external_labels
            .iter()
            .map(|(name, value)| {
                let mut encoded = Vec::new();
                put_label(&mut encoded, name, value);
                ExternalLabel { name: name.to_owned(), encoded }
            })
            .collect();
        RemoteWriteEncoder { external }
    }

    /// Appends the samples to `piece`: one time series with one sample for each, in order, labels sorted by name.
    pub fn encode<'a>(&self, samples: impl IntoIterator<Item = Sample<'a>>, piece: &mut Vec<u8>) {
        // Series of one batch are of similar length, so the last one's is the best guess of the next one's.
        let mut expected_len = 128;
        for sample in samples {
            expected_len = put_message(piece, REQUEST_TIMESERIES, expected_len, |out| {
                self.put_labels(out, &sample);
                put_sample(out, &sample);
            });
        }
    }

    /// Merges two sorted lists; the series' own label wins.
    fn put_labels(&self, out: &mut Vec<u8>, sample: &Sample<'_>) {
        let mut external = self.external.iter().peekable();
        for (name, value) in sample.labels.iter() {
            while let Some(label) = external.next_if(|label| label.name.as_str() < name) {
                out.extend_from_slice(&label.encoded);
            }
            external.next_if(|label| label.name == name);
            put_label(out, name, value);
        }
        for label in external {
            out.extend_from_slice(&label.encoded);
        }
    }
}

fn put_label(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(SERIES_LABELS);
    put_varint(out, (bytes_field_len(name.len()) + bytes_field_len(value.len())) as u64);
    put_bytes(out, LABEL_NAME, name.as_bytes());
    put_bytes(out, LABEL_VALUE, value.as_bytes());
}

fn put_sample(out: &mut Vec<u8>, sample: &Sample<'_>) {
    out.push(SERIES_SAMPLES);
    put_varint(out, (double_field_len(sample.value) + integer_field_len(sample.timestamp_ms)) as u64);
    put_double(out, SAMPLE_VALUE, sample.value);
    put_integer(out, SAMPLE_TIMESTAMP, sample.timestamp_ms);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::telemetry::{STALE_NAN, SampleBatch};
    use crate::testing::messages::WriteRequest;

    type Decoded = Vec<(Vec<(String, String)>, i64, u64)>;

    fn decode(piece: &[u8]) -> Decoded {
        let request = WriteRequest::decode(piece).unwrap();
        let series = request.timeseries.into_iter();
        series
            .map(|series| {
                assert_eq!(series.samples.len(), 1);
                let labels = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
                (labels, series.samples[0].timestamp, series.samples[0].value.to_bits())
            })
            .collect()
    }

    fn encode(external: &[(&str, &str)], batch: &SampleBatch) -> Vec<u8> {
        let mut piece = Vec::new();
        RemoteWriteEncoder::new(&Labels::new(external.iter().copied())).encode(batch.iter(), &mut piece);
        piece
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut batch = SampleBatch::new(0);
        batch.push([("a", "b")], 1, 1.0);
        let one = b"\x0a\x15\x0a\x06\x0a\x01a\x12\x01b\x12\x0b\x09\0\0\0\0\0\0\xf0\x3f\x10\x01";
        assert_eq!(encode(&[], &batch), one);
    }

    #[test]
    fn external_labels_are_merged_in_order_and_never_win() {
        let check = |external: &[(&str, &str)], series: &[(&str, &str)], expected: &[(&str, &str)]| {
            let mut batch = SampleBatch::new(0);
            batch.push(series.iter().copied(), 5, 0.0);
            let decoded = decode(&encode(external, &batch));
            let labels: Vec<(&str, &str)> =
                decoded[0].0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(labels, expected);
        };
        check(&[], &[("a", "1"), ("c", "3")], &[("a", "1"), ("c", "3")]);
        check(&[("b", "2")], &[("a", "1"), ("c", "3")], &[("a", "1"), ("b", "2"), ("c", "3")]);
        check(&[("a", "x"), ("c", "y")], &[("a", "1"), ("c", "3")], &[("a", "1"), ("c", "3")]);
        check(&[("0", "x"), ("d", "y")], &[("a", "1")], &[("0", "x"), ("a", "1"), ("d", "y")]);
        check(&[("d", "y")], &[], &[("d", "y")]);
    }

    #[test]
    fn every_bit_of_a_value_arrives() {
        let values =
            [0.0, -0.0, 1.5, f64::NAN, STALE_NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE];
        let times = [0, 1, -1, i64::MAX, i64::MIN, 1_700_000_000_000];
        for value in values {
            for timestamp_ms in times {
                let mut batch = SampleBatch::new(0);
                batch.push([("__name__", "x")], timestamp_ms, value);
                let decoded = decode(&encode(&[], &batch));
                assert_eq!((decoded[0].1, decoded[0].2), (timestamp_ms, value.to_bits()));
            }
        }
    }

    proptest! {
        #[test]
        fn concatenated_pieces_decode_to_all_their_series(
            batches in prop::collection::vec(
                prop::collection::vec((prop::collection::btree_map("[a-z]{1,5}", ".{1,200}", 0..4), any::<i64>(), any::<f64>()), 0..6),
                0..4,
            )
        ) {
            let mut expected: Decoded = Vec::new();
            let mut body = Vec::new();
            for samples in batches {
                let mut batch = SampleBatch::new(0);
                for (labels, timestamp_ms, value) in samples {
                    batch.push(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())), timestamp_ms, value);
                    expected.push((labels.into_iter().collect(), timestamp_ms, value.to_bits()));
                }
                body.extend(encode(&[], &batch));
            }
            prop_assert_eq!(decode(&body), expected);
        }
    }
}
