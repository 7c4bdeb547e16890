//! What is written is what the specification's own reading of it says.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::formats::{compress, decompress, split};
use crate::telemetry::{
    CUSTOM_BUCKETS_SCHEMA, Extras, HistogramCounts, NativeHistogram, ResetHint, SampleBatch, Span,
};
use crate::testing::messages::{TimeSeries, WriteRequest, WriteRequest2};

const ALL: Sends = Sends { exemplars: true, native_histograms: true };

fn encode_as(external: &[(&str, &str)], sends: Sends, batch: &SampleBatch) -> (u32, WriteRequest2) {
    let mut piece = Vec::new();
    let encoder = RemoteWrite2Encoder::new(&Labels::new(external.iter().copied()), sends);
    let items = encoder.encode(batch.iter(), batch.metadata(), &mut piece);
    (items, WriteRequest2::decode(piece.as_slice()).unwrap())
}

fn block(batch: &SampleBatch) -> Bytes {
    let (_, request) = encode_as(&[("zone", "b")], ALL, batch);
    // Encoded anew by another encoder: what reads blocks must not rely on how this one writes.
    Bytes::from(compress(&request.encode_to_vec()))
}

fn read(block: &[u8]) -> WriteRequest2 {
    WriteRequest2::decode(decompress(block).unwrap().as_slice()).unwrap()
}

fn histogram(schema: i32) -> NativeHistogram {
    NativeHistogram {
        schema,
        sum: 1.5,
        zero_threshold: 0.0,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        negative_spans: Vec::new(),
        counts: HistogramCounts::Integer {
            count: 3,
            zero_count: 0,
            positive: vec![1, 1],
            negative: Vec::new(),
        },
        reset_hint: ResetHint::Unknown,
        custom_values: if schema == CUSTOM_BUCKETS_SCHEMA { vec![0.5, 2.5] } else { Vec::new() },
    }
}

/// A number, one with exemplars, a histogram, and one with listed bounds.
fn varied(target: &str, timestamp_ms: i64) -> SampleBatch {
    let exemplar = Exemplar { labels: Labels::new([("id", target)]), value: 0.5, timestamp_ms: None };
    let mut batch = SampleBatch::new(0);
    batch.push([("__name__", "a_total"), ("instance", target)], timestamp_ms, 1.0);
    batch.push([("__name__", "b"), ("instance", target)], timestamp_ms, 0.0);
    batch.add_extras(Extras { histogram: None, exemplars: vec![exemplar] });
    for (name, schema) in [("h", 3), ("listed", CUSTOM_BUCKETS_SCHEMA)] {
        batch.push([("__name__", name), ("instance", target)], timestamp_ms, 1.5);
        batch.add_extras(Extras { histogram: Some(histogram(schema)), exemplars: Vec::new() });
    }
    let about = |family: &str, metric_type| Metadata {
        family: family.to_owned(),
        help: format!("help of {family}"),
        unit: String::new(),
        metric_type,
    };
    batch.add_metadata(about("a", MetricType::Counter));
    batch.add_metadata(about("h", MetricType::Histogram));
    batch
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let mut batch = SampleBatch::new(0);
    batch.push([("a", "b")], 1, 1.0);
    let mut piece = Vec::new();
    let encoder = RemoteWrite2Encoder::new(&Labels::new::<&str, &str>([]), ALL);
    assert_eq!(encoder.encode(batch.iter(), &[], &mut piece), 1);
    let symbols = b"\x22\x00\x22\x01a\x22\x01b".as_slice();
    let series = b"\x2a\x11\x0a\x02\x01\x02\x12\x0b\x09\0\0\0\0\0\0\xf0\x3f\x10\x01".as_slice();
    assert_eq!(piece, [symbols, series].concat());
    assert!(is_remote_write_2(&compress(&piece)));
}

#[test]
fn each_text_is_sent_once_and_external_labels_never_win() {
    let mut batch = SampleBatch::new(0);
    for name in ["x", "y", "x"] {
        batch.push([("__name__", name), ("instance", "i"), ("zone", "own")], 5, 1.0);
    }
    batch.push([("__name__", "x")], 5, 1.0);
    let (items, request) = encode_as(&[("cluster", "c"), ("zone", "b")], ALL, &batch);
    assert_eq!(items, 4);
    assert_eq!(
        request.symbols,
        ["", "cluster", "c", "zone", "b", "__name__", "x", "instance", "i", "own", "y"]
    );
    let texts = |series: &TimeSeries| {
        series
            .labels
            .iter()
            .map(|label| format!("{}={}", label.name, label.value))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let resolved = request.resolved().unwrap().timeseries;
    assert_eq!(texts(&resolved[1]), "__name__=y cluster=c instance=i zone=own");
    assert_eq!(texts(&resolved[3]), "__name__=x cluster=c zone=b");
}

#[test]
fn what_is_said_of_a_family_goes_with_each_of_its_series() {
    let (_, request) = encode_as(&[], ALL, &varied("i", 5));
    let about = |index: usize| {
        request.timeseries[index]
            .metadata
            .as_ref()
            .map(|about| (about.r#type, request.symbols[about.help_ref as usize].as_str(), about.unit_ref))
    };
    assert_eq!(about(0), Some((1, "help of a", 0)));
    assert_eq!((about(1), about(3)), (None, None));
    assert_eq!(about(2), Some((3, "help of h", 0)));

    let check = |name: &str, metric_type, expected: bool| {
        let mut batch = SampleBatch::new(0);
        batch.push([("__name__", name)], 5, 1.0);
        let help = "h".to_owned();
        batch.add_metadata(Metadata { family: "f".to_owned(), help, unit: String::new(), metric_type });
        let (_, request) = encode_as(&[], ALL, &batch);
        assert_eq!(request.timeseries[0].metadata.is_some(), expected, "{name} {metric_type:?}");
    };
    check("f", MetricType::Gauge, true);
    check("f_total", MetricType::Counter, true);
    check("f_total", MetricType::Gauge, false);
    check("f_bucket", MetricType::Histogram, true);
    check("f_count", MetricType::Summary, true);
    check("f_gsum", MetricType::GaugeHistogram, true);
    check("f_sum", MetricType::Counter, false);
    check("g", MetricType::Gauge, false);
}

#[test]
fn what_an_endpoint_does_not_want_is_left_out_and_not_counted() {
    let check = |exemplars, native_histograms, expected: (u32, usize, usize)| {
        let (items, request) = encode_as(&[], Sends { exemplars, native_histograms }, &varied("i", 5));
        let count = |of: fn(&crate::testing::messages::TimeSeries2) -> usize| {
            request.timeseries.iter().map(of).sum::<usize>()
        };
        let found = (items, count(|series| series.exemplars.len()), count(|series| series.histograms.len()));
        assert_eq!(found, expected);
        assert!(request.resolved().is_ok());
    };
    check(true, true, (4, 1, 2));
    check(false, true, (4, 0, 2));
    check(true, false, (2, 1, 0));
}

#[test]
fn joined_requests_say_what_they_said_apart() {
    let batches = [varied("one", 5), varied("two", 6), varied("one", 7)];
    let blocks: Vec<Bytes> = batches.iter().map(block).collect();
    let joined = read(&join_remote_write_2(&blocks).unwrap());
    let apart: Vec<TimeSeries> =
        blocks.iter().flat_map(|block| read(block).resolved().unwrap().timeseries).collect();
    assert_eq!(joined.resolved().unwrap().timeseries, apart);
    let mut texts = joined.symbols.clone();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), joined.symbols.len(), "each text once");
    let helps: Vec<&str> = joined
        .timeseries
        .iter()
        .filter_map(|series| Some(joined.symbols[series.metadata.as_ref()?.help_ref as usize].as_str()))
        .collect();
    assert_eq!(helps, ["help of a", "help of h"].repeat(3));
    assert_eq!(joined.timeseries[3].histograms[0].custom_values, [0.5, 2.5]);

    assert!(join_remote_write_2(&[blocks[0].clone(), Bytes::from_static(b"nonsense")]).is_err());
    let without_symbols = read(&blocks[0]);
    let without_symbols = WriteRequest2 { symbols: vec![String::new()], ..without_symbols }.encode_to_vec();
    let broken = Bytes::from(compress(&without_symbols));
    assert!(join_remote_write_2(&[blocks[0].clone(), broken.clone()]).is_err());
    assert_eq!(older_remote_write(&broken), None);
}

#[test]
fn a_request_of_1_0_says_the_same_without_what_it_has_no_room_for() {
    let block = block(&varied("i", 5));
    let older = older_remote_write(&block).expect("it is of 2.0");
    let request = WriteRequest::decode(decompress(&older.body).unwrap().as_slice()).unwrap();
    let mut expected = read(&block).resolved().unwrap().timeseries;
    expected.pop();
    assert_eq!((request.timeseries, older.items), (expected, 3));
    assert!(!is_remote_write_2(&older.body));
    assert_eq!(older_remote_write(&older.body), None, "it is of 1.0 already");
}

#[test]
fn the_halves_of_a_request_are_complete_by_themselves() {
    let whole = block(&varied("i", 5));
    let [left, right] = split(&whole).expect("four series");
    let series = |block: &[u8]| read(block).resolved().unwrap().timeseries;
    assert_eq!([series(&left.body), series(&right.body)].concat(), series(&whole));
    assert_eq!((left.items, right.items), (2, 2));
    assert!(is_remote_write_2(&right.body));
}

proptest! {
    #[test]
    fn whatever_is_encoded_and_joined_comes_back(
        batches in prop::collection::vec(
            prop::collection::vec(
                (prop::collection::btree_map("[a-e]{1,2}", "[x-z]{1,3}|.{1,200}", 0..5), any::<i64>(), any::<f64>()),
                1..30,
            ),
            1..4,
        )
    ) {
        let mut expected = Vec::new();
        let mut blocks = Vec::new();
        for samples in batches {
            let mut batch = SampleBatch::new(0);
            for (labels, timestamp_ms, value) in samples {
                batch.push(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())), timestamp_ms, value);
                expected.push((labels.into_iter().collect::<Vec<_>>(), timestamp_ms, value.to_bits()));
            }
            let mut piece = Vec::new();
            let encoder = RemoteWrite2Encoder::new(&Labels::new::<&str, &str>([]), ALL);
            prop_assert_eq!(encoder.encode(batch.iter(), &[], &mut piece) as usize, batch.len());
            blocks.push(Bytes::from(compress(&piece)));
        }
        let joined = join_remote_write_2(&blocks).unwrap();
        let older = older_remote_write(&joined).expect("it is of 2.0");
        let older = WriteRequest::decode(decompress(&older.body).unwrap().as_slice()).unwrap();
        for request in [read(&joined).resolved().unwrap(), older] {
            let found: Vec<_> = request.timeseries.into_iter().map(|series| {
                let labels = series.labels.into_iter().map(|label| (label.name, label.value)).collect::<Vec<_>>();
                (labels, series.samples[0].timestamp, series.samples[0].value.to_bits())
            }).collect();
            prop_assert_eq!(&found, &expected);
        }
    }
}
