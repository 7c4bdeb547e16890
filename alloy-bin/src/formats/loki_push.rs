//! Log batch -> piece of a Loki push request.
//!
//! ```text
//! PushRequest   { repeated StreamAdapter streams = 1; }
//! StreamAdapter { string labels = 1; repeated EntryAdapter entries = 2; uint64 hash = 3; }
//! EntryAdapter  { google.protobuf.Timestamp timestamp = 1; string line = 2; repeated LabelPairAdapter structuredMetadata = 3; }
//! LabelPairAdapter { string name = 1; string value = 2; }
//! Timestamp     { int64 seconds = 1; int32 nanos = 2; }
//! ```
//!
//! Specification: `logproto` in <https://github.com/grafana/loki/blob/main/pkg/push/push.proto>. The hash is left out, the
//! server computes it.

use std::io::Write as _;

use super::protobuf::{
    bytes_field_len, delimited, integer_field_len, put_bytes, put_integer, put_message, put_varint, varint,
    varint_len,
};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream, TENANT_LABEL};

const REQUEST_STREAMS: u8 = delimited(1);
const STREAM_LABELS: u8 = delimited(1);
const STREAM_ENTRIES: u8 = delimited(2);
const ENTRY_TIMESTAMP: u8 = delimited(1);
const ENTRY_LINE: u8 = delimited(2);
const ENTRY_METADATA: u8 = delimited(3);
const PAIR_NAME: u8 = delimited(1);
const PAIR_VALUE: u8 = delimited(2);
const TIMESTAMP_SECONDS: u8 = varint(1);
const TIMESTAMP_NANOS: u8 = varint(2);

const NANOSECONDS: i64 = 1_000_000_000;

/// What a push request says of its body, compressed to one raw snappy block.
pub const LOKI_PUSH_HEADERS: [(&str, &str); 1] = [("content-type", "application/x-protobuf")];

/// Encodes log batches for one endpoint.
#[derive(Debug, Clone)]
pub struct LokiPushEncoder {
    /// Sorted by name.
    external: Vec<(String, String)>,
}

impl LokiPushEncoder {
    /// An encoder that adds these labels to each stream that has none of the same name.
    pub fn new(external_labels: &Labels) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        LokiPushEncoder { external: external_labels.iter().map(owned).collect() }
    }

    /// Appends the batch to `piece`: its streams and their entries in order. A stream without entries is left out.
    ///
    /// Label names are written as they are: one that the server does not take (`[a-zA-Z_][a-zA-Z0-9_]*`) costs the whole
    /// request, so whoever makes labels makes them valid.
    pub fn encode(&self, batch: &LogBatch, piece: &mut Vec<u8>) {
        for stream in batch.streams.iter().filter(|stream| !stream.entries.is_empty()) {
            put_message(piece, REQUEST_STREAMS, expected_len(stream), |out| self.put_stream(out, stream));
        }
    }

    fn put_stream(&self, out: &mut Vec<u8>, stream: &LogStream) {
        // Most label sets fit a length of two bytes.
        put_message(out, STREAM_LABELS, 128, |out| self.put_labels(out, &stream.labels));
        for entry in &stream.entries {
            put_entry(out, entry);
        }
    }

    /// Writes `{a="b", c="d"}`, merging two sorted lists; the stream's own label wins.
    fn put_labels(&self, out: &mut Vec<u8>, labels: &Labels) {
        let mut external = self.external.iter().peekable();
        let mut before = b"{".as_slice();
        let mut put = |out: &mut Vec<u8>, name: &str, value: &str| {
            out.extend_from_slice(before);
            before = b", ";
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            put_quoted(out, value);
        };
        for (name, value) in labels.iter().filter(|(name, _)| *name != TENANT_LABEL) {
            while let Some((name, value)) = external.next_if(|(other, _)| other.as_str() < name) {
                put(out, name, value);
            }
            external.next_if(|(other, _)| other == name);
            put(out, name, value);
        }
        for (name, value) in external {
            put(out, name, value);
        }
        if before == b"{" {
            out.push(b'{');
        }
        out.push(b'}');
    }
}

/// What the stream's message will be long, near enough to guess how many bytes its length needs.
fn expected_len(stream: &LogStream) -> usize {
    let lines: usize = stream.entries.iter().map(|entry| entry_len(entry) + 3).sum();
    let labels: usize = stream.labels.iter().map(|(name, value)| name.len() + value.len() + 5).sum();
    lines + labels
}

fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) {
    out.push(STREAM_ENTRIES);
    put_varint(out, entry_len(entry) as u64);
    let (seconds, nanos) = split(entry.timestamp_ns);
    out.push(ENTRY_TIMESTAMP);
    put_varint(out, timestamp_len(entry.timestamp_ns) as u64);
    put_integer(out, TIMESTAMP_SECONDS, seconds);
    put_integer(out, TIMESTAMP_NANOS, nanos);
    put_bytes(out, ENTRY_LINE, &entry.line);
    for (name, value) in entry.metadata.iter().flat_map(Labels::iter) {
        out.push(ENTRY_METADATA);
        put_varint(out, pair_len(name, value) as u64);
        put_bytes(out, PAIR_NAME, name.as_bytes());
        put_bytes(out, PAIR_VALUE, value.as_bytes());
    }
}

fn pair_len(name: &str, value: &str) -> usize {
    bytes_field_len(name.len()) + bytes_field_len(value.len())
}

fn entry_len(entry: &LogEntry) -> usize {
    let timestamp = timestamp_len(entry.timestamp_ns);
    let pairs = entry.metadata.iter().flat_map(Labels::iter);
    let metadata: usize = pairs.map(|(name, value)| bytes_field_len(pair_len(name, value))).sum();
    1 + varint_len(timestamp as u64) + timestamp + bytes_field_len(entry.line.len()) + metadata
}

fn timestamp_len(timestamp_ns: i64) -> usize {
    let (seconds, nanos) = split(timestamp_ns);
    integer_field_len(seconds) + integer_field_len(nanos)
}

/// Seconds and nanoseconds; the nanoseconds count forward, also before 1970.
fn split(timestamp_ns: i64) -> (i64, i64) {
    (timestamp_ns.div_euclid(NANOSECONDS), timestamp_ns.rem_euclid(NANOSECONDS))
}

/// Quotes as Go's `strconv.Quote` does, as far as the server's parser can see a difference.
///
/// NOTE: U+FFFD is escaped though Go would not: the parser takes a plain one for broken UTF-8 and refuses the request.
fn put_quoted(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut plain_from = 0;
    for (at, character) in value.char_indices() {
        if !(character.is_control() || matches!(character, '"' | '\\' | '\u{fffd}')) {
            continue;
        }
        out.extend_from_slice(&value.as_bytes()[plain_from..at]);
        plain_from = at + character.len_utf8();
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\x07' => out.extend_from_slice(b"\\a"),
            '\x08' => out.extend_from_slice(b"\\b"),
            '\x0b' => out.extend_from_slice(b"\\v"),
            '\x0c' => out.extend_from_slice(b"\\f"),
            ascii if ascii.is_ascii() => {
                write!(out, "\\x{:02x}", ascii as u32).expect("a Vec takes every write");
            }
            other => write!(out, "\\u{:04x}", other as u32).expect("a Vec takes every write"),
        }
    }
    out.extend_from_slice(&value.as_bytes()[plain_from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::testing::messages::PushRequest;

    type Decoded = Vec<(String, Vec<(i64, i32, String)>)>;

    fn decode(piece: &[u8]) -> Decoded {
        let request = PushRequest::decode(piece).unwrap();
        let entry = |entry: crate::testing::messages::EntryAdapter| {
            let timestamp = entry.timestamp.unwrap();
            (timestamp.seconds, timestamp.nanos, entry.line)
        };
        let streams = request.streams.into_iter();
        streams.map(|stream| (stream.labels, stream.entries.into_iter().map(entry).collect())).collect()
    }

    fn encode(external: &[(&str, &str)], streams: Vec<LogStream>) -> Vec<u8> {
        let mut piece = Vec::new();
        let encoder = LokiPushEncoder::new(&Labels::new(external.iter().copied()));
        encoder.encode(&LogBatch { streams, ..LogBatch::default() }, &mut piece);
        piece
    }

    fn stream(labels: &[(&str, &str)], lines: &[(i64, &str)]) -> LogStream {
        let entries = lines
            .iter()
            .map(|(timestamp_ns, line)| LogEntry::new(*timestamp_ns, Bytes::copy_from_slice(line.as_bytes())))
            .collect();
        LogStream { labels: Labels::new(labels.iter().copied()), entries }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let piece = encode(&[], vec![stream(&[("a", "b")], &[(1_000_000_002, "hi")])]);
        assert_eq!(piece, b"\x0a\x15\x0a\x07{a=\"b\"}\x12\x0a\x0a\x04\x08\x01\x10\x02\x12\x02hi");
    }

    #[test]
    fn labels_are_written_in_lokis_form() {
        let check = |external: &[(&str, &str)], labels: &[(&str, &str)], expected: &str| {
            assert_eq!(decode(&encode(external, vec![stream(labels, &[(1, "x")])]))[0].0, expected);
        };
        check(&[], &[], "{}");
        check(&[], &[("a", "b"), ("c", "d")], r#"{a="b", c="d"}"#);
        check(&[("b", "2")], &[("a", "1"), ("c", "3")], r#"{a="1", b="2", c="3"}"#);
        check(&[("a", "x"), ("z", "y")], &[("a", "1")], r#"{a="1", z="y"}"#);
        check(&[("z", "y")], &[], r#"{z="y"}"#);
        check(&[], &[("__tenant_id__", "t"), ("a", "b")], r#"{a="b"}"#);
        check(&[], &[("p", "C:\\x\n\"q\"\t")], r#"{p="C:\\x\n\"q\"\t"}"#);
        check(&[], &[("p", "\x01\x7f\u{85}\u{fffd}é😀")], r#"{p="\x01\x7f\u0085\ufffdé😀"}"#);
    }

    #[test]
    fn timestamps_before_1970_keep_positive_nanoseconds() {
        let times = [(0, (0, 0)), (-1, (-1, 999_999_999)), (i64::MAX, (9_223_372_036, 854_775_807))];
        for (timestamp_ns, (seconds, nanos)) in times {
            let decoded = decode(&encode(&[], vec![stream(&[("a", "b")], &[(timestamp_ns, "")])]));
            assert_eq!(decoded[0].1, [(seconds, nanos, String::new())]);
        }
    }

    #[test]
    fn what_is_said_of_a_line_goes_with_it() {
        let mut stream = stream(&[("a", "b")], &[(1, "first"), (2, "second")]);
        let long = "v".repeat(200);
        stream.entries[1].metadata = Some(Labels::new([("trace_id", "0af7"), ("note", &long)]));
        let request = PushRequest::decode(encode(&[], vec![stream]).as_slice()).unwrap();
        let pairs = |entry: usize| -> Vec<(String, String)> {
            let pairs = request.streams[0].entries[entry].structured_metadata.iter();
            pairs.map(|pair| (pair.name.clone(), pair.value.clone())).collect()
        };
        assert_eq!(pairs(0), []);
        assert_eq!(pairs(1), [("note".to_owned(), long), ("trace_id".to_owned(), "0af7".to_owned())]);
    }

    #[test]
    fn a_stream_without_lines_is_left_out() {
        assert_eq!(encode(&[("a", "b")], vec![stream(&[("c", "d")], &[])]), b"");
    }

    proptest! {
        #[test]
        fn concatenated_pieces_decode_to_all_their_lines(
            batches in prop::collection::vec(prop::collection::vec((any::<i64>(), ".{0,300}"), 1..20), 0..5)
        ) {
            let mut body = Vec::new();
            let mut expected = Decoded::new();
            for lines in batches {
                let borrowed: Vec<_> = lines.iter().map(|(at, line)| (*at, line.as_str())).collect();
                body.extend(encode(&[], vec![stream(&[("a", "b")], &borrowed)]));
                let entry = |(at, line): (i64, String)| {
                    let (seconds, nanos) = split(at);
                    (seconds, nanos as i32, line)
                };
                expected.push((r#"{a="b"}"#.to_owned(), lines.into_iter().map(entry).collect()));
            }
            prop_assert_eq!(decode(&body), expected);
        }
    }
}
