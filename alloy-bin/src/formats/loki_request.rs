//! A Loki push request that comes in -> streams. The messages are drawn in `loki_push.rs`, which writes them.

use std::borrow::Cow;

use bytes::Bytes;

use super::loki_labels::read_labels;
use super::wire::{Field, Fields};
use crate::telemetry::{Labels, LogEntry};

/// A stream of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedStream {
    /// Its labels, or what is wrong with them: the other streams can be used.
    pub labels: Result<Vec<(String, String)>, String>,
    /// Its lines, in the order of the request. A timestamp that was left out is 0.
    pub entries: Vec<LogEntry>,
}

/// Why nothing of a request can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LokiRequestError {
    /// It is not what it says it is.
    #[error("the request is no protobuf of a push: {0}")]
    Protobuf(&'static str),
    /// It is not what it says it is.
    #[error("the request is no JSON of a push: {0}")]
    Json(serde_json::Error),
    /// It would take too much memory, however small it is on the wire. The sender has to make it smaller.
    #[error("more than {0} streams, lines and metadata in one request")]
    TooMany(usize),
}

/// How many things a request may still hold: the smallest is two bytes on the wire, and 50 times as much in memory.
pub(super) struct Room {
    left: usize,
    most: usize,
}

impl Room {
    pub(super) fn new(most: usize) -> Self {
        Room { left: most, most }
    }

    pub(super) fn take(&mut self) -> Result<(), LokiRequestError> {
        self.left = self.left.checked_sub(1).ok_or(LokiRequestError::TooMany(self.most))?;
        Ok(())
    }
}

/// Reads a request from protobuf: at most so many streams, lines and pairs of metadata. Lines are slices of the body.
pub fn read_loki_push(body: &Bytes, most: usize) -> Result<Vec<PushedStream>, LokiRequestError> {
    let mut reader = Reader { body, room: Room::new(most) };
    let mut streams = Vec::new();
    for field in fields(body) {
        let (number, field) = field?;
        if number == 1 {
            reader.room.take()?;
            streams.push(reader.stream(message(field, "a stream is a message")?)?);
        }
    }
    Ok(streams)
}

struct Reader<'b> {
    body: &'b Bytes,
    room: Room,
}

impl<'b> Reader<'b> {
    fn stream(&mut self, stream: &'b [u8]) -> Result<PushedStream, LokiRequestError> {
        let (mut labels, mut entries) = ("".into(), Vec::new());
        for field in fields(stream) {
            let (number, field) = field?;
            match number {
                1 => labels = text(field, "labels are a text")?,
                2 => {
                    self.room.take()?;
                    entries.push(self.entry(message(field, "an entry is a message")?)?);
                }
                _ => {}
            }
        }
        Ok(PushedStream { labels: read_labels(&labels), entries })
    }

    fn entry(&mut self, entry: &'b [u8]) -> Result<LogEntry, LokiRequestError> {
        let (mut timestamp_ns, mut line, mut metadata) = (0, Bytes::new(), Vec::new());
        for field in fields(entry) {
            let (number, field) = field?;
            match number {
                1 => timestamp_ns = timestamp(message(field, "a timestamp is a message")?)?,
                2 => {
                    line = match text(field, "a line is a text")? {
                        Cow::Borrowed(line) => self.body.slice_ref(line.as_bytes()),
                        Cow::Owned(line) => line.into(),
                    }
                }
                3 => {
                    self.room.take()?;
                    metadata.push(pair(message(field, "metadata are messages")?)?);
                }
                _ => {}
            }
        }
        Ok(LogEntry { timestamp_ns, line, metadata: set(metadata) })
    }
}

/// The pairs as a set; none if there is nothing in it.
pub(super) fn set<N: AsRef<str>, V: AsRef<str>>(pairs: Vec<(N, V)>) -> Option<Labels> {
    let labels = (!pairs.is_empty()).then(|| Labels::new(pairs));
    labels.filter(|labels| labels.iter().next().is_some())
}

fn pair(pair: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), LokiRequestError> {
    let (mut name, mut value) = ("".into(), "".into());
    for field in fields(pair) {
        let (number, field) = field?;
        match number {
            1 => name = text(field, "the name of metadata is a text")?,
            2 => value = text(field, "the value of metadata is a text")?,
            _ => {}
        }
    }
    if name.is_empty() {
        return Err(LokiRequestError::Protobuf("metadata without a name"));
    }
    Ok((name, value))
}

fn timestamp(timestamp: &[u8]) -> Result<i64, LokiRequestError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in fields(timestamp) {
        let (number, field) = field?;
        let value = match number {
            1 => &mut seconds,
            2 => &mut nanos,
            _ => continue,
        };
        let integer =
            field.integer().map_err(|_| LokiRequestError::Protobuf("a timestamp has whole numbers"))?;
        *value = i128::from(integer as i64);
    }
    let is_sound = (0..1_000_000_000).contains(&nanos);
    let all = i64::try_from(seconds * 1_000_000_000 + nanos).ok().filter(|_| is_sound);
    all.ok_or(LokiRequestError::Protobuf("a timestamp is outside of the years 1678 to 2262"))
}

fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u64, Field<'_>), LokiRequestError>> {
    const DAMAGED: LokiRequestError = LokiRequestError::Protobuf("a field is cut off or damaged");
    Fields::of(message).map(|field| field.map_err(|_| DAMAGED))
}

fn message<'b>(field: Field<'b>, what: &'static str) -> Result<&'b [u8], LokiRequestError> {
    field.bytes().map_err(|_| LokiRequestError::Protobuf(what))
}

/// Go does not look whether a text is UTF-8, so senders need not either: what is not becomes U+FFFD.
fn text<'b>(field: Field<'b>, what: &'static str) -> Result<Cow<'b, str>, LokiRequestError> {
    message(field, what).map(String::from_utf8_lossy)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::LokiPushEncoder;
    use crate::telemetry::{LogBatch, LogStream};

    fn encode(streams: Vec<LogStream>) -> Bytes {
        let mut piece = Vec::new();
        LokiPushEncoder::new(&Labels::new::<&str, &str>([]))
            .encode(&LogBatch { streams, ..LogBatch::default() }, &mut piece);
        piece.into()
    }

    fn pairs() -> impl Strategy<Value = Labels> {
        prop::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,8}", "(?s).{0,20}"), 0..4).prop_map(Labels::new)
    }

    fn entries() -> impl Strategy<Value = LogEntry> {
        (any::<i64>(), "(?s).{0,200}", pairs()).prop_map(|(timestamp_ns, line, metadata)| LogEntry {
            metadata: Some(metadata).filter(|pairs| pairs.iter().next().is_some()),
            ..LogEntry::new(timestamp_ns, line)
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            streams in prop::collection::vec((pairs(), prop::collection::vec(entries(), 1..10)), 0..5)
        ) {
            let written: Vec<LogStream> =
                streams.into_iter().map(|(labels, entries)| LogStream { labels, entries }).collect();
            let read = read_loki_push(&encode(written.clone()), 1000).expect("it was written here");
            prop_assert_eq!(read.len(), written.len());
            for (read, written) in read.into_iter().zip(written) {
                prop_assert_eq!(Labels::new(read.labels.expect("valid")), written.labels);
                prop_assert_eq!(read.entries, written.entries);
            }
        }

        #[test]
        fn a_cut_or_flipped_request_never_panics(at in 0usize..1000, bit in 0u8..8) {
            let mut entry = LogEntry::new(1, "a line");
            entry.metadata = Some(Labels::new([("a", "b")]));
            let stream = LogStream { labels: Labels::new([("a", "b")]), entries: vec![entry; 3] };
            let mut body = encode(vec![stream; 2]).to_vec();
            let at = at % body.len();
            let _ = read_loki_push(&Bytes::copy_from_slice(&body[..at]), 1000);
            body[at] ^= 1 << bit;
            let _ = read_loki_push(&body.into(), 1000);
        }
    }

    #[test]
    fn what_is_no_push_is_refused_with_the_reason() {
        let check = |body: &'static [u8], expected: &str| {
            let error = read_loki_push(&Bytes::from_static(body), 3).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(b"\x0a\x05", "a field is cut off or damaged");
        check(b"\x08\x05", "a stream is a message");
        check(b"\x0a\x02\x10\x05", "an entry is a message");
        check(b"\x0a\x06\x12\x04\x0a\x02\x0a\x00", "a timestamp has whole numbers");
        check(
            b"\x0a\x0f\x12\x0d\x0a\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "outside of the years",
        );
        check(b"\x0a\x04\x12\x02\x1a\x00", "metadata without a name");
        check(b"\x0a\x08\x12\x00\x12\x00\x12\x00\x12\x00", "more than 3 streams, lines and metadata");
        check(b"\x0a\x00\x0a\x00\x0a\x00\x0a\x00", "more than 3 streams, lines and metadata");
    }

    #[test]
    fn one_stream_with_wrong_labels_leaves_the_others_and_a_broken_text_is_mended() {
        let body = b"\x0a\x05\x0a\x03{a}\x0a\x0f\x0a\x07{a=\"b\"}\x12\x04\x12\x02\xffx";
        let streams = read_loki_push(&Bytes::from_static(body), 10).expect("sound");
        assert!(streams[0].labels.clone().expect_err("no labels").contains("a = is expected"));
        assert_eq!(streams[1].labels, Ok(vec![("a".to_owned(), "b".to_owned())]));
        assert_eq!(streams[1].entries, [LogEntry::new(0, "\u{fffd}x")]);
    }
}
