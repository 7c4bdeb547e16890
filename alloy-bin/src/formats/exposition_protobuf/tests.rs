//! Pages are built and read once more by another decoder; what Prometheus makes of each family is written out.

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::testing::client_model::{self as model, Bucket, Counter, Gauge, MetricFamily, Quantile, Summary};
use crate::testing::messages::{BucketSpan, Label, Timestamp};

fn read(page: &[u8], histograms: Histograms) -> Result<Vec<String>, ProtobufError> {
    let mut seen = Vec::new();
    parse_protobuf(page, histograms, &mut |item| match item {
        Item::Metadata(family, statement) => seen.push(format!("{family}: {statement:?}")),
        Item::Series(series) => {
            let labels: Vec<String> =
                series.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let at = |time: Option<i64>| time.map_or(String::new(), |at| format!(" @{at}"));
            let extras = series.extras.unwrap_or_default();
            let what = match &extras.histogram {
                Some(histogram) => format!("{histogram:?}"),
                None => series.value.to_string(),
            };
            let exemplars = extras.exemplars.iter();
            let exemplars = exemplars
                .map(|one| format!(" # {} {}{}", one.labels.as_ref(), one.value, at(one.timestamp_ms)));
            let (labels, exemplars) = (labels.join(","), exemplars.collect::<String>());
            seen.push(format!("{}{{{labels}}} {what}{}{exemplars}", series.name, at(series.timestamp_ms)));
        }
    })?;
    Ok(seen)
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.to_owned(), value: value.to_owned() }
}

fn family(name: &str, r#type: i32, metric: Vec<model::Metric>) -> MetricFamily {
    MetricFamily { name: name.to_owned(), r#type, metric, ..MetricFamily::default() }
}

fn exemplar(value: f64, seconds: Option<i64>) -> Option<model::Exemplar> {
    let timestamp = seconds.map(|seconds| Timestamp { seconds, nanos: 7_000_000 });
    Some(model::Exemplar { label: vec![label("id", "x")], value, timestamp })
}

/// Both forms in one, as client_golang writes it.
fn histogram() -> model::Histogram {
    let bucket = |cumulative_count, upper_bound, exemplar| Bucket {
        cumulative_count,
        upper_bound,
        exemplar,
        ..Bucket::default()
    };
    model::Histogram {
        sample_count: 5,
        sample_sum: 2.5,
        bucket: vec![
            bucket(1, 0.005, None),
            bucket(3, 1.0, exemplar(0.7, Some(9))),
            bucket(4, 1e6, exemplar(2.0, None)),
        ],
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 1,
        positive_span: vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 4, length: 1 }],
        positive_delta: vec![1, 1, -1],
        ..model::Histogram::default()
    }
}

#[track_caller]
fn check(families: &[MetricFamily], histograms: Histograms, expected: &[&str]) {
    let page: Vec<u8> = families.iter().flat_map(MetricFamily::encode_length_delimited_to_vec).collect();
    let seen = read(&page, histograms).unwrap();
    let samples: Vec<&str> = seen.iter().map(String::as_str).filter(|line| line.contains('{')).collect();
    assert_eq!(samples, expected);
    assert_eq!(
        seen.len() - samples.len(),
        3 * families.iter().filter(|family| !family.metric.is_empty()).count()
    );
    // Of a page that is cut short anywhere, nothing is read as something else, and nothing panics.
    for end in 0..page.len() {
        if let Ok(part) = read(&page[..end], histograms) {
            assert!(seen.starts_with(&part), "cut at {end}");
        }
    }
}

#[test]
fn simple_families_are_read() {
    let counter = Counter { value: 3.0, exemplar: exemplar(0.5, Some(2)), created_timestamp: None };
    let counter = model::Metric {
        label: vec![label("b", "1"), label("a", "")],
        counter: Some(counter),
        ..Default::default()
    };
    let gauge = model::Metric { gauge: Some(Gauge { value: -1.5 }), timestamp_ms: 77, ..Default::default() };
    let untyped = model::Metric { untyped: Some(Gauge { value: f64::NAN }), ..Default::default() };
    let families = [
        family("c_total", 0, vec![counter]),
        family("nothing", 1, vec![]),
        family("g", 1, vec![gauge, model::Metric::default()]),
        family("u", 3, vec![untyped]),
    ];
    let expected = ["c_total{b=\"1\",a=\"\"} 3 # {id=\"x\"} 0.5 @2007", "g{} -1.5 @77", "g{} 0", "u{} NaN"];
    check(&families, Histograms::Classic, &expected);
}

#[test]
fn summaries_are_counters_and_quantiles() {
    let quantile = |quantile, value| Quantile { quantile, value };
    let summary =
        Summary { sample_count: 3, sample_sum: 4.5, quantile: vec![quantile(0.5, 1.0), quantile(0.99, 2.0)] };
    let metric = model::Metric { label: vec![label("a", "1")], summary: Some(summary), ..Default::default() };
    let expected = [
        "s_count{a=\"1\"} 3",
        "s_sum{a=\"1\"} 4.5",
        "s{a=\"1\",quantile=\"0.5\"} 1",
        "s{a=\"1\",quantile=\"0.99\"} 2",
    ];
    check(&[family("s", 2, vec![metric])], Histograms::Classic, &expected);
}

#[test]
fn histograms_are_read_in_the_form_that_is_wanted() {
    let metric =
        model::Metric { label: vec![label("a", "1")], histogram: Some(histogram()), ..Default::default() };
    let families = [family("h", 4, vec![metric])];
    let native = "h{a=\"1\"} NativeHistogram { schema: 3, sum: 2.5, zero_threshold: 1e-128, \
                  positive_spans: [Span { offset: -3, length: 2 }, Span { offset: 4, length: 1 }], negative_spans: [], \
                  counts: Integer { count: 5, zero_count: 1, positive: [1, 1, -1], negative: [] }, reset_hint: Unknown, \
                  custom_values: [] } # {id=\"x\"} 0.7 @9007";
    let classic = [
        "h_count{a=\"1\"} 5",
        "h_sum{a=\"1\"} 2.5",
        "h_bucket{a=\"1\",le=\"0.005\"} 1",
        "h_bucket{a=\"1\",le=\"1.0\"} 3 # {id=\"x\"} 0.7 @9007",
        "h_bucket{a=\"1\",le=\"1e+06\"} 4 # {id=\"x\"} 2",
        "h_bucket{a=\"1\",le=\"+Inf\"} 5",
    ];
    check(&families, Histograms::Classic, &classic);
    check(&families, Histograms::Native, &[native]);
    check(&families, Histograms::Both, &[&[native], classic.as_slice()].concat());

    // One without a native form is classic in any case, and one without a classic form is not made one.
    let only_classic =
        model::Histogram { bucket: histogram().bucket, sample_count_float: 5.5, ..Default::default() };
    let metric = model::Metric { histogram: Some(only_classic), ..Default::default() };
    let seen =
        read(&family("h", 4, vec![metric]).encode_length_delimited_to_vec(), Histograms::Native).unwrap();
    assert_eq!((seen.len(), seen[3].as_str()), (3 + 6, "h_count{} 5.5"));
    let only_native = model::Histogram { bucket: vec![], ..histogram() };
    let metric = model::Metric { histogram: Some(only_native), ..Default::default() };
    let seen =
        read(&family("h", 4, vec![metric]).encode_length_delimited_to_vec(), Histograms::Both).unwrap();
    assert_eq!(seen.len(), 3 + 1);
}

#[test]
fn a_gauge_of_floats_stays_one() {
    let floats = model::Histogram {
        sample_count_float: 2.5,
        zero_count_float: 0.5,
        negative_span: vec![BucketSpan { offset: 0, length: 2 }],
        negative_count: vec![1.0, 1.0],
        exemplars: exemplar(-1.0, Some(1)).into_iter().chain(exemplar(-2.0, None)).collect(),
        ..Default::default()
    };
    let metric = model::Metric { histogram: Some(floats), timestamp_ms: 5, ..Default::default() };
    check(
        &[family("h", 5, vec![metric])],
        Histograms::Native,
        &["h{} NativeHistogram { schema: 0, sum: 0.0, zero_threshold: 0.0, positive_spans: [], \
           negative_spans: [Span { offset: 0, length: 2 }], counts: Float { count: 2.5, zero_count: 0.5, positive: [], \
           negative: [1.0, 1.0] }, reset_hint: Gauge, custom_values: [] } @5 # {id=\"x\"} -1 @1007"],
    );
}

#[test]
fn what_is_wrong_is_refused() {
    let check = |family: MetricFamily, expected: &str| {
        let error = read(&family.encode_length_delimited_to_vec(), Histograms::Native).unwrap_err();
        assert_eq!(error.expected, expected);
    };
    let one = || vec![model::Metric::default()];
    let with = |histogram| vec![model::Metric { histogram: Some(histogram), ..Default::default() }];
    let fits = "a native histogram whose schema, spans and counts fit";
    check(family("", 0, one()), "a family with a name");
    check(family("a", 6, one()), "a metric type");
    check(
        MetricFamily { unit: "bytes".to_owned(), ..family("a_seconds", 1, one()) },
        "a unit that the name ends with",
    );
    check(family("h", 4, with(model::Histogram { positive_delta: vec![1], ..histogram() })), fits);
    check(family("h", 4, with(model::Histogram { positive_delta: vec![1, -2, 1], ..histogram() })), fits);
    check(family("h", 4, with(model::Histogram { schema: 9, ..histogram() })), fits);
    let unnamed = model::Metric { label: vec![label("", "x")], ..Default::default() };
    check(family("a", 1, vec![unnamed]), "a label with a name");
    let with_unit = MetricFamily { unit: "bytes".to_owned(), ..family("a_bytes_total", 0, one()) };
    assert!(read(&with_unit.encode_length_delimited_to_vec(), Histograms::Native).is_ok());

    let refused = |page: &[u8]| read(page, Histograms::Native).unwrap_err().to_string();
    assert_eq!(refused(b"\x05\x0a\x01a"), "byte 0: expected as many bytes as the length says");
    assert_eq!(refused(b"\x03\x0a\x01\xff"), "byte 3: expected valid UTF-8");
    assert_eq!(refused(b"\x01\x0b"), "byte 1: expected a field's tag");
    assert_eq!(refused(&[0xff; 12]), "byte 0: expected a number of at most 64 bits");
}

proptest! {
    #[test]
    fn bytes_of_any_kind_never_panic(
        page in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let metric = model::Metric { label: vec![label("a", "1")], histogram: Some(histogram()), ..Default::default() };
        let mut changed = family("h", 4, vec![metric]).encode_length_delimited_to_vec();
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        for histograms in [Histograms::Classic, Histograms::Native, Histograms::Both] {
            let _ = read(&page, histograms);
            if let Err(error) = read(&changed, histograms) {
                prop_assert!(error.at <= changed.len());
            }
        }
    }
}
