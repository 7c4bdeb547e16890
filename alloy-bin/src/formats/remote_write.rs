//! Sample batch -> piece of a Prometheus remote-write 1.0 request.
//!
//! ```text
//! WriteRequest   { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }
//! TimeSeries     { repeated Label labels = 1; repeated Sample samples = 2; repeated Exemplar exemplars = 3;
//!                  repeated Histogram histograms = 4; }
//! Label          { string name = 1; string value = 2; }
//! Sample         { double value = 1; int64 timestamp = 2; }
//! Exemplar       { repeated Label labels = 1; double value = 2; int64 timestamp = 3; }
//! MetricMetadata { MetricType type = 1; string metric_family_name = 2; string help = 4; string unit = 5; }
//! ```
//!
//! Specification: <https://prometheus.io/docs/specs/prw/remote_write_spec/>, and Prometheus' `types.proto` for what it does not
//! have: exemplars, histograms, metadata. Histograms with listed bounds are deliberately absent: it says not to send them.

pub(super) mod histogram;

use super::protobuf::{
    bytes_field_len, delimited, double_field_len, fixed64, integer_field_len, put_bytes, put_double,
    put_integer, put_message, put_varint, varint,
};
use crate::telemetry::{CUSTOM_BUCKETS_SCHEMA, Exemplar, Labels, Metadata, Sample};

pub(super) const REQUEST_TIMESERIES: u8 = delimited(1);
const SERIES_LABELS: u8 = delimited(1);
const SERIES_SAMPLES: u8 = delimited(2);
const LABEL_NAME: u8 = delimited(1);
const LABEL_VALUE: u8 = delimited(2);
pub(super) const SERIES_EXEMPLARS: u8 = delimited(3);
const EXEMPLAR_VALUE: u8 = fixed64(2);
const EXEMPLAR_TIMESTAMP: u8 = varint(3);
pub(super) const SERIES_HISTOGRAMS: u8 = delimited(4);
const REQUEST_METADATA: u8 = delimited(3);
const METADATA_TYPE: u8 = varint(1);
const METADATA_FAMILY: u8 = delimited(2);
const METADATA_HELP: u8 = delimited(4);
const METADATA_UNIT: u8 = delimited(5);
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
    sends: Sends,
}

/// What an endpoint wants beside plain samples; the default is Alloy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sends {
    /// Exemplars go with their samples (`send_exemplars`).
    pub exemplars: bool,
    /// Native histograms are sent, not left out (`send_native_histograms`).
    pub native_histograms: bool,
}

impl Default for Sends {
    fn default() -> Self {
        Sends { exemplars: true, native_histograms: false }
    }
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
                put_label(&mut encoded, name.as_bytes(), value.as_bytes());
                ExternalLabel { name: name.to_owned(), encoded }
            })
            .collect();
        RemoteWriteEncoder { external, sends: Sends::default() }
    }

    /// The same for an endpoint that wants these.
    pub fn sending(self, sends: Sends) -> Self {
        RemoteWriteEncoder { sends, ..self }
    }

    /// Appends the samples to `piece`: one time series with one sample for each, in order, labels sorted by name. Histograms that
    /// the endpoint does not want, and those that the protocol has no room for, are left out. Returns how many samples went in.
    pub fn encode<'a>(&self, samples: impl IntoIterator<Item = Sample<'a>>, piece: &mut Vec<u8>) -> u32 {
        let mut items = 0;
        // Series of one batch are of similar length, so the last one's is the best guess of the next one's.
        let mut expected_len = 128;
        for sample in samples {
            if sample.extras.is_some() {
                items += u32::from(self.encode_with_extras(&sample, piece));
                continue;
            }
            items += 1;
            expected_len = put_message(piece, REQUEST_TIMESERIES, expected_len, |out| {
                self.put_labels(out, &sample);
                put_sample(out, &sample);
            });
        }
        items
    }

    /// False: it was left out.
    fn encode_with_extras(&self, sample: &Sample<'_>, piece: &mut Vec<u8>) -> bool {
        let histogram = sample.histogram();
        let sendable = |schema| self.sends.native_histograms && schema != CUSTOM_BUCKETS_SCHEMA;
        if histogram.is_some_and(|histogram| !sendable(histogram.schema)) {
            return false;
        }
        put_message(piece, REQUEST_TIMESERIES, 512, |out| {
            self.put_labels(out, sample);
            match histogram {
                Some(histogram) => {
                    put_message(out, SERIES_HISTOGRAMS, 128, |out| {
                        histogram::put(out, histogram, sample.timestamp_ms);
                    });
                }
                None => put_sample(out, sample),
            }
            let exemplars = sample.extras.filter(|_| self.sends.exemplars);
            for exemplar in exemplars.iter().flat_map(|extras| &extras.exemplars) {
                put_message(out, SERIES_EXEMPLARS, 64, |out| {
                    put_exemplar(out, exemplar, sample.timestamp_ms)
                });
            }
        });
        true
    }

    /// Appends what is said of families. It changes seldom, so an endpoint needs it far less often than samples
    /// (`metadata_config`).
    pub fn encode_metadata(metadata: &[Metadata], piece: &mut Vec<u8>) {
        for Metadata { family, help, unit, metric_type } in metadata {
            put_message(piece, REQUEST_METADATA, 128, |out| {
                put_integer(out, METADATA_TYPE, *metric_type as i64);
                for (tag, text) in [(METADATA_FAMILY, family), (METADATA_HELP, help), (METADATA_UNIT, unit)] {
                    if !text.is_empty() {
                        put_bytes(out, tag, text.as_bytes());
                    }
                }
            });
        }
    }

    /// Merges two sorted lists; the series' own label wins. Packed labels are as they are wanted here.
    fn put_labels(&self, out: &mut Vec<u8>, sample: &Sample<'_>) {
        if self.external.is_empty() {
            return out.extend_from_slice(sample.labels.packed());
        }
        let mut external = self.external.iter().peekable();
        for (name, packed) in sample.labels.packed_pairs() {
            while let Some(label) = external.next_if(|label| label.name.as_bytes() < name) {
                out.extend_from_slice(&label.encoded);
            }
            external.next_if(|label| label.name.as_bytes() == name);
            out.extend_from_slice(packed);
        }
        for label in external {
            out.extend_from_slice(&label.encoded);
        }
    }
}

pub(super) fn put_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(SERIES_LABELS);
    put_varint(out, (bytes_field_len(name.len()) + bytes_field_len(value.len())) as u64);
    put_bytes(out, LABEL_NAME, name);
    put_bytes(out, LABEL_VALUE, value);
}

fn put_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar, sample_ms: i64) {
    for (name, value) in exemplar.labels.as_ref().iter_bytes() {
        put_label(out, name, value);
    }
    put_double(out, EXEMPLAR_VALUE, exemplar.value);
    put_integer(out, EXEMPLAR_TIMESTAMP, exemplar.timestamp_ms.unwrap_or(sample_ms));
}

/// How many bytes [`put_sample`] writes.
pub(super) fn sample_field_len(sample: &Sample<'_>) -> usize {
    bytes_field_len(double_field_len(sample.value) + integer_field_len(sample.timestamp_ms))
}

pub(super) fn put_sample(out: &mut Vec<u8>, sample: &Sample<'_>) {
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
    use crate::telemetry::{Extras, MetricType, STALE_NAN, SampleBatch};
    use crate::testing::messages::WriteRequest;

    #[test]
    fn exemplars_go_with_their_sample_if_they_are_wanted() {
        let exemplar =
            |timestamp_ms| Exemplar { labels: Labels::new([("id", "7")]), value: 0.5, timestamp_ms };
        let mut batch = SampleBatch::new(0);
        batch.push([("__name__", "a")], 10, 1.0);
        batch.add_extras(Extras { histogram: None, exemplars: vec![exemplar(Some(9)), exemplar(None)] });
        for (exemplars, expected) in [(true, vec![9, 10]), (false, vec![])] {
            let mut piece = Vec::new();
            let sends = Sends { exemplars, native_histograms: false };
            let encoder = RemoteWriteEncoder::new(&Labels::new([("z", "1")])).sending(sends);
            encoder.encode(batch.iter(), &mut piece);
            let series = WriteRequest::decode(piece.as_slice()).unwrap().timeseries.remove(0);
            let times: Vec<i64> = series.exemplars.iter().map(|exemplar| exemplar.timestamp).collect();
            assert_eq!((times, series.samples.len(), series.labels.len()), (expected, 1, 2));
            assert!(
                series
                    .exemplars
                    .iter()
                    .all(|exemplar| exemplar.value == 0.5 && exemplar.labels[0].value == "7")
            );
        }
    }

    #[test]
    fn metadata_is_a_part_of_the_request() {
        let metadata = Metadata {
            family: "a_bytes".to_owned(),
            help: "h".to_owned(),
            unit: "bytes".to_owned(),
            metric_type: MetricType::StateSet,
        };
        let mut piece = Vec::new();
        RemoteWriteEncoder::encode_metadata(&[metadata, Metadata::default()], &mut piece);
        let decoded = WriteRequest::decode(piece.as_slice()).unwrap().metadata;
        let texts = |index: usize| {
            let one = &decoded[index];
            (one.r#type, one.metric_family_name.as_str(), one.help.as_str(), one.unit.as_str())
        };
        assert_eq!((texts(0), texts(1)), ((7, "a_bytes", "h", "bytes"), (0, "", "", "")));
    }

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
