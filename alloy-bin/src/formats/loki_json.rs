//! A Loki push request in JSON -> streams. Read while it is parsed, so that a small text can't become a large tree.
//!
//! ```text
//! {"streams": [{"stream": {"label": "value"}, "values": [["1700000000000000000", "a line", {"trace_id": "0af7"}]]}]}
//! ```
//!
//! Specification: <https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::loki_request::{LokiRequestError, PushedStream, Room, set};
use crate::telemetry::LogEntry;

/// Reads a request: at most so many streams, lines and pairs of metadata.
pub fn read_loki_json(body: &[u8], most: usize) -> Result<Vec<PushedStream>, LokiRequestError> {
    let mut reader = Reader { room: Room::new(most), full: None, streams: Vec::new() };
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = Part::Request(&mut reader).deserialize(&mut json).and_then(|()| json.end());
    match (read, reader.full) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(LokiRequestError::Json(error)),
        (Ok(()), None) => Ok(reader.streams),
    }
}

struct Reader {
    room: Room,
    /// Why reading was broken off, which JSON's own error can't carry.
    full: Option<LokiRequestError>,
    streams: Vec<PushedStream>,
}

impl Reader {
    fn take<E: Error>(&mut self) -> Result<(), E> {
        self.room.take().map_err(|error| {
            let told = E::custom(&error);
            self.full = Some(error);
            told
        })
    }
}

/// Where in the request the reader is. What it finds goes into the reader.
enum Part<'r> {
    Request(&'r mut Reader),
    Streams(&'r mut Reader),
    Stream(&'r mut Reader),
    /// The values of the last stream.
    Values(&'r mut Reader),
    Entry(&'r mut Reader),
    Metadata(&'r mut Reader, &'r mut Vec<(String, String)>),
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self {
            Part::Request(_) | Part::Stream(_) | Part::Metadata(..) => deserializer.deserialize_map(self),
            Part::Streams(_) | Part::Values(_) | Part::Entry(_) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Part::Request(_) => "an object with \"streams\"",
            Part::Streams(_) => "a list of streams",
            Part::Stream(_) => "an object with \"stream\" and \"values\"",
            Part::Values(_) => "a list of entries",
            Part::Entry(_) => "[\"nanoseconds\", \"line\"] or [\"nanoseconds\", \"line\", {metadata}]",
            Part::Metadata(..) => "an object of texts",
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match self {
            Part::Metadata(reader, pairs) => {
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    reader.take()?;
                    if name.is_empty() {
                        return Err(A::Error::custom("metadata without a name"));
                    }
                    pairs.push((name, value));
                }
            }
            Part::Stream(reader) => {
                reader.take()?;
                reader.streams.push(PushedStream { labels: Ok(Vec::new()), entries: Vec::new() });
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    match &*key {
                        "stream" => {
                            let labels: BTreeMap<String, String> = map.next_value()?;
                            let wrong = labels.keys().find(|name| !is_name(name));
                            let wrong = wrong.map(|name| format!("{name:?} is no name of a label"));
                            let stream = reader.streams.last_mut().expect("it was pushed above");
                            stream.labels = wrong.map_or_else(|| Ok(labels.into_iter().collect()), Err);
                        }
                        "values" => map.next_value_seed(Part::Values(reader))?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
            }
            reader => {
                let Part::Request(reader) = reader else { return Err(A::Error::custom("no object")) };
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    match &*key {
                        "streams" => map.next_value_seed(Part::Streams(reader))?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        match self {
            Part::Streams(reader) => while list.next_element_seed(Part::Stream(reader))?.is_some() {},
            Part::Values(reader) => while list.next_element_seed(Part::Entry(reader))?.is_some() {},
            reader => {
                let Part::Entry(reader) = reader else { return Err(A::Error::custom("no list")) };
                reader.take()?;
                let incomplete = || A::Error::custom("an entry needs nanoseconds and a line");
                let nanoseconds: Cow<'_, str> = list.next_element()?.ok_or_else(incomplete)?;
                let timestamp_ns = nanoseconds.parse().map_err(|_| {
                    A::Error::custom(format_args!("{nanoseconds:?} are no nanoseconds since 1970"))
                })?;
                let line: String = list.next_element()?.ok_or_else(incomplete)?;
                let mut metadata = Vec::new();
                list.next_element_seed(Part::Metadata(reader, &mut metadata))?;
                let entry = LogEntry { metadata: set(metadata), ..LogEntry::new(timestamp_ns, line) };
                reader.streams.last_mut().expect("values are in a stream").entries.push(entry);
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    name.bytes().all(is_word) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Labels;

    #[test]
    fn a_request_of_the_documentation_is_read_whatever_the_order() {
        let expected = |labels: &[(&str, &str)], entries: Vec<LogEntry>| {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            PushedStream { labels: Ok(labels.collect()), entries }
        };
        let mut second = LogEntry::new(2, "b\n\"é");
        second.metadata = Some(Labels::new([("trace_id", "0af7")]));
        let body = r#" {"x": [1], "streams": [
            {"stream": {"foo": "bar", "a": "\u00e9"}, "values": [["1", "a"], ["2", "b\n\"é", {"trace_id": "0af7"}]]},
            {"values": [["-3", "", {}]], "y": {}, "stream": {}}, {}]} "#;
        let streams = read_loki_json(body.as_bytes(), 100).expect("sound");
        assert_eq!(
            streams,
            [
                expected(&[("a", "é"), ("foo", "bar")], vec![LogEntry::new(1, "a"), second]),
                expected(&[], vec![LogEntry::new(-3, "")]),
                expected(&[], Vec::new()),
            ]
        );
        assert_eq!(read_loki_json(b"{}", 1).expect("nothing is in it"), []);
    }

    #[test]
    fn what_is_no_push_is_refused_with_the_reason() {
        let in_values = |entry: &str| format!(r#"{{"streams": [{{"stream": {{}}, "values": [{entry}]}}]}}"#);
        for (body, expected) in [
            (String::new(), "EOF while parsing"),
            ("{} x".to_owned(), "trailing characters"),
            ("[]".to_owned(), "expected an object with \"streams\""),
            (r#"{"streams": {}}"#.to_owned(), "expected a list of streams"),
            (r#"{"streams": [{"stream": {"a": 1}}]}"#.to_owned(), "expected a string"),
            (in_values("[1, \"a\"]"), "expected a"),
            (in_values("[\"1\"]"), "an entry needs nanoseconds and a line"),
            (in_values("[\"1.5\", \"a\"]"), "\"1.5\" are no nanoseconds since 1970"),
            (in_values("[\"1\", \"a\", {\"b\": []}]"), "expected a string"),
            (in_values("[\"1\", \"a\", {\"\": \"c\"}]"), "metadata without a name"),
            (in_values("[\"1\", \"a\", {}, 4]"), "trailing characters"),
            (in_values("{}"), "expected [\"nanoseconds\", \"line\"]"),
            (
                in_values("[\"1\", \"\"], [\"1\", \"\"], [\"1\", \"\"]"),
                "more than 3 streams, lines and metadata",
            ),
            (
                in_values("[\"1\", \"\", {\"a\": \"b\", \"c\": \"d\"}]"),
                "more than 3 streams, lines and metadata",
            ),
        ] {
            let error = read_loki_json(body.as_bytes(), 3).expect_err(&body).to_string();
            assert!(error.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn a_label_with_a_wrong_name_costs_its_stream_alone() {
        let body = br#"{"streams": [{"stream": {"a-b": "c"}}, {"stream": {"ab": "c"}}]}"#;
        let streams = read_loki_json(body, 10).expect("sound");
        assert_eq!(streams[0].labels, Err("\"a-b\" is no name of a label".to_owned()));
        assert_eq!(streams[1].labels, Ok(vec![("ab".to_owned(), "c".to_owned())]));
    }
}
