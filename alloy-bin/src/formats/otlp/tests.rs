//! Messages made by hand, by JSON and by chance.

use proptest::prelude::*;

use super::*;

/// A request with all kinds of points, and one of logs and one of spans.
pub(crate) const METRICS: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
 "scopeMetrics":[{"scope":{"name":"lib","version":"1"},"metrics":[
  {"name":"g","unit":"1","gauge":{"dataPoints":[{"asDouble":1.5,"timeUnixNano":"1544712660300000000"},{"asInt":"-3","timeUnixNano":7}]}},
  {"name":"s","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"9007199254740993","attributes":[
    {"key":"k","value":{"arrayValue":{"values":[{"intValue":"1"},{"boolValue":true},{"doubleValue":"NaN"}]}}},
    {"key":"m","value":{"kvlistValue":{"values":[{"key":"x","value":{"bytesValue":"AAEC"}}]}}}],
    "exemplars":[{"asDouble":1,"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}]}]}},
  {"name":"h","histogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[
    {"count":"6","sum":3.25,"bucketCounts":["1","2",3],"explicitBounds":[0.5,1],"min":0}]}},
  {"name":"e","exponentialHistogram":{"dataPoints":[{"count":3,"scale":-2,"zeroCount":"1","positive":{"offset":-5,"bucketCounts":["1",1]}}]}},
  {"name":"q","summary":{"dataPoints":[{"count":1,"sum":2,"quantileValues":[{"quantile":0.5,"value":2}]}]}}]}]}]}"#;
const LOGS: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","severityNumber":9,"severityText":"INFO",
 "body":{"stringValue":"hä\n"},"traceId":"5B8EFFF798038103D269B633813FC60C","flags":1,"unknown":{"deep":[1,{"a":null}]}},
 {"severity_number":"SEVERITY_NUMBER_ERROR","body":null}]}]}]}"#;
const TRACES: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",
 "name":"GET","kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2","events":[{"name":"e"}],"links":[{"flags":256}],
 "status":{"code":"STATUS_CODE_ERROR","message":"no"},"flags":257}]}]}]}"#;

fn read(signal: Signal, text: &str) -> OtlpBatch {
    otlp_from_json(signal, text.as_bytes(), 1 << 20).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn json_becomes_the_same_message_as_protobuf_would() {
    let batch = read(Signal::Metrics, METRICS);
    assert_eq!(batch.items, 6);
    let printed = print_otlp(&batch);
    for line in [
        "string_value: \"shop\"",
        "as_double: 1.5",
        "time_unix_nano: 1544712660300000000",
        "as_int: -3",
        "as_int: 9007199254740993",
        "aggregation_temporality: CUMULATIVE",
        "aggregation_temporality: DELTA",
        "double_value: NaN",
        "bytes_value: 000102",
        "trace_id: 5b8efff798038103d269b633813fc60c",
        "bucket_counts: 2",
        "min: 0",
        "scale: -2",
        "offset: -5",
    ] {
        assert!(printed.lines().any(|printed| printed.trim() == line), "{line} is not in\n{printed}");
    }
    let logs = read(Signal::Logs, LOGS);
    assert_eq!(logs.items, 2);
    let printed = print_otlp(&logs);
    assert!(printed.contains("severity_number: ERROR") && printed.contains("\"hä\\n\""), "{printed}");
    // Bytes that another encoder makes of the same span.
    let span = b"\x0a\x10\x5b\x8e\xff\xf7\x98\x03\x81\x03\xd2\x69\xb6\x33\x81\x3f\xc6\x0c\x12\x08\xee\xe1\x9b\x7e\xc3\xc1\xb1\x74\
        \x2a\x03GET\x30\x02\x39\x01\0\0\0\0\0\0\0\x41\x02\0\0\0\0\0\0\0\x5a\x03\x12\x01e\x6a\x05\x35\0\x01\0\0\
        \x7a\x06\x18\x02\x12\x02no\x85\x01\x01\x01\0\0";
    let mut expected =
        vec![0x0a, span.len() as u8 + 6, 0x12, span.len() as u8 + 4, 0x12, span.len() as u8 + 2];
    expected[1] = span.len() as u8 + 4;
    expected[3] = span.len() as u8 + 2;
    expected[5] = span.len() as u8;
    expected.extend_from_slice(span);
    assert_eq!(read(Signal::Traces, TRACES).body, expected);
}

#[test]
fn what_json_cannot_say_is_refused_with_its_place() {
    let check = |text: &str, expected: &str| {
        let error = otlp_from_json(Signal::Logs, text.as_bytes(), 200).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    let record =
        |inside: &str| format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{inside}}}]}}]}}]}}"#);
    check("", "EOF while parsing");
    check("[]", "expected an object (ExportLogsServiceRequest)");
    check("{} {}", "trailing characters");
    check(r#"{"resourceLogs":{}}"#, "an object that is not in a list");
    check(
        &record(r#""severityNumber":"LOUD""#),
        "an unknown name does not fit the field severity_number at line 1",
    );
    check(&record(r#""traceId":"xyz""#), "what is not hexadecimal");
    check(&record(r#""traceId":"abc""#), "what is not hexadecimal");
    check(&record(r#""timeUnixNano":"-1""#), "out of the range");
    check(&record(r#""timeUnixNano":1.5"#), "a number with a fraction");
    check(&record(r#""attributes":[null]"#), "null in a list");
    check(&record(r#""attributes":[[]]"#), "a list does not fit");
    check(&record(&format!(r#""severityText":"{}""#, "x".repeat(200))), "larger than 200 bytes");
    let deep = r#"{"arrayValue":{"values":["#.repeat(60) + &"]}}".repeat(60);
    check(&record(&format!(r#""body":{deep}"#)), "recursion limit");
    let less_deep = r#"{"arrayValue":{"values":["#.repeat(35) + &"]}}".repeat(35);
    let error = otlp_from_json(Signal::Logs, record(&format!(r#""body":{less_deep}"#)).as_bytes(), 1 << 20);
    assert!(error.expect_err("too deep").to_string().contains("fewer messages inside one another"));
}

#[test]
fn what_is_no_message_is_refused_with_its_place() {
    let check = |body: &'static [u8], expected: &str| {
        let error = check_otlp(Signal::Logs, Bytes::from_static(body)).expect_err(expected).to_string();
        assert!(error.ends_with(expected), "{body:?}: {error}");
    };
    check(b"\x0a", "byte 1, in ExportLogsServiceRequest: expected a number of at most 64 bits");
    check(b"\x0a\x05ab", "byte 1, in ExportLogsServiceRequest: expected as many bytes as the length says");
    check(b"\x08\x01", "in ExportLogsServiceRequest: expected another type of field");
    check(b"\x0a\x04\x1a\x02\xff\xff", "byte 4, in ResourceLogs: expected UTF-8");
    check(b"\x00\x00", "byte 0, in ExportLogsServiceRequest: expected a field's number");
    check(b"\x0b", "byte 0, in ExportLogsServiceRequest: expected a field's tag");
    // What newer versions of the protocol may bring is not our business.
    let unknown = check_otlp(Signal::Logs, Bytes::from_static(b"\xf8\x7f\x01\xfd\x7f\0\0\0\0\x0a\0"))
        .expect("unknown fields");
    assert_eq!(unknown.items, 0);
}

#[test]
fn parts_have_their_items_and_all_that_these_belong_to() {
    let whole = read(Signal::Metrics, METRICS);
    let lines = |batch: &OtlpBatch, name: &str| {
        print_otlp(batch)
            .lines()
            .filter(|line| line.trim_start().starts_with(name))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for from in 0..whole.items {
        for to in from + 1..=whole.items {
            let part = otlp_part(&whole, from, to);
            let checked = check_otlp(part.signal, part.body.clone()).expect("a part is a message");
            assert_eq!((checked.items, part.items), (to - from, to - from), "{from}..{to}");
            assert!(print_otlp(&part).contains("service.name"), "{from}..{to}");
        }
    }
    let first = otlp_part(&whole, 0, 1);
    assert!(!first_resource(&whole).is_empty() && first_resource(&whole) == first_resource(&first));
    let second = otlp_part(&whole, 1, 2);
    assert_eq!(lines(&second, "as_"), ["          as_int: -3"]);
    assert!(print_otlp(&second).contains("name: \"g\"") && !print_otlp(&second).contains("name: \"s\""));
    let halves = join_otlp(&[otlp_part(&whole, 0, 3), otlp_part(&whole, 3, 6)]).expect("two");
    assert_eq!(check_otlp(Signal::Metrics, halves.body.clone()).expect("a message").items, 6);
    assert_eq!(lines(&halves, "as_"), lines(&whole, "as_"));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_taken_can_be_taken_apart(bytes: Vec<u8>, cut in 0..400_usize, flip in 0..400_usize, to: u8) {
        let mut damaged = read(Signal::Metrics, METRICS).body.to_vec();
        damaged.truncate(cut.max(1));
        let at = flip % damaged.len();
        damaged[at] = to;
        for body in [bytes, damaged] {
            for signal in Signal::ALL {
                let _ = otlp_from_json(signal, &body, 1000);
                if let Ok(batch) = check_otlp(signal, Bytes::from(body.clone())) {
                    let half = otlp_part(&batch, 0, batch.items / 2);
                    prop_assert_eq!(check_otlp(signal, half.body).map(|half| half.items), Ok(batch.items / 2));
                    print_otlp(&batch);
                }
            }
        }
    }
}
