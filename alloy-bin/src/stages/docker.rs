//! `stage.docker`: `{"log":"text\n","stream":"stdout","time":"2024-01-01T00:00:00.1Z"}`, as Docker's log driver writes it.
//!
//! Lines exactly of that shape are taken apart here; all others go the long way, through the stages that the format stands
//! for: json, labels, timestamp, output.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// How much room is made at once for texts with escapes.
const ROOM: usize = 64 << 10;

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) struct Parts {
    pub(super) log: Bytes,
    pub(super) stream: Bytes,
    pub(super) time: Bytes,
}

/// The parts of a line of Docker's own shape. Texts with escapes are written behind one another into `room`.
pub(super) fn parse(line: &Bytes, room: &mut BytesMut) -> Option<Parts> {
    let mut at = expect(line, 0, b"{\"log\":\"")?;
    let log = string(line, &mut at, room)?;
    at = expect(line, at, b",\"stream\":\"")?;
    let stream = plain(line, &mut at)?;
    at = expect(line, at, b",\"time\":\"")?;
    let time = plain(line, &mut at)?;
    (&line[at..] == b"}").then_some(Parts { log, stream, time })
}

fn expect(line: &[u8], at: usize, wanted: &[u8]) -> Option<usize> {
    line.get(at..)?.starts_with(wanted).then_some(at + wanted.len())
}

/// A string without escapes, up to behind its quote.
fn plain(line: &Bytes, at: &mut usize) -> Option<Bytes> {
    let begin = *at;
    let end = begin + memchr2(b'"', b'\\', &line[begin..])?;
    let is_plain = line[end] == b'"' && line[begin..end].iter().all(|byte| *byte >= 0x20);
    *at = end + 1;
    is_plain.then(|| line.slice(begin..end))
}

fn string(line: &Bytes, at: &mut usize, room: &mut BytesMut) -> Option<Bytes> {
    let mut begin = *at;
    if let Some(end) = memchr2(b'"', b'\\', &line[begin..])
        && line[begin + end] == b'"'
    {
        return plain(line, at);
    }
    if room.capacity() < line.len() {
        room.reserve(ROOM.max(line.len()));
    }
    room.clear();
    loop {
        let end = begin + memchr2(b'"', b'\\', &line[begin..])?;
        if line[begin..end].iter().any(|byte| *byte < 0x20) {
            return None;
        }
        room.extend_from_slice(&line[begin..end]);
        if line[end] == b'"' {
            *at = end + 1;
            return Some(room.split().freeze());
        }
        let (byte, taken) = escape(line.get(end + 1..)?)?;
        let mut utf8 = [0; 4];
        room.extend_from_slice(byte.encode_utf8(&mut utf8).as_bytes());
        begin = end + 1 + taken;
    }
}

/// The character, and how many bytes behind the backslash say it. Pairs of surrogates go the long way.
fn escape(rest: &[u8]) -> Option<(char, usize)> {
    let character = match rest.first()? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        quoted @ (b'"' | b'\\' | b'/') => char::from(*quoted),
        b'u' => {
            let digits = std::str::from_utf8(rest.get(1..5)?).ok()?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let code = is_hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
            return Some((char::from_u32(code)?, 5));
        }
        _ => return None,
    };
    Some((character, 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fast(line: &str) -> Option<[String; 3]> {
        let parts = parse(&Bytes::copy_from_slice(line.as_bytes()), &mut BytesMut::new())?;
        Some([parts.log, parts.stream, parts.time].map(|part| String::from_utf8(part.to_vec()).unwrap()))
    }

    #[test]
    fn only_lines_of_dockers_own_shape_are_taken() {
        let taken = fast("{\"log\":\"a\\u003cb\\n\",\"stream\":\"stdout\",\"time\":\"t\"}");
        assert_eq!(taken, Some(["a<b\n".to_owned(), "stdout".to_owned(), "t".to_owned()]));
        for other in [
            "{\"log\":\"a\",\"stream\":\"stdout\",\"time\":\"t\",\"attrs\":{}}",
            "{\"log\":\"a\",\"stream\":\"std\\u0041\",\"time\":\"t\"}",
            "{\"log\":\"\\ud83d\\ude00\",\"stream\":\"stdout\",\"time\":\"t\"}",
            "{\"log\":\"a\tb\",\"stream\":\"stdout\",\"time\":\"t\"}",
            "{\"log\":\"\\u+041\",\"stream\":\"stdout\",\"time\":\"t\"}",
            "text",
            "",
        ] {
            assert_eq!(fast(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_what_a_json_parser_finds(
            log in r#"([a-zé"\\/\n\t\x01\x00€😀]|\\u00[0-9a-f]{2}|\\[nrtbfx"]){0,12}"#, is_raw in any::<bool>()
        ) {
            let quoted = if is_raw { format!("\"{log}\"") } else { serde_json::to_string(&log).unwrap() };
            let line = format!("{{\"log\":{quoted},\"stream\":\"stdout\",\"time\":\"now\"}}");
            let slow = serde_json::from_str::<serde_json::Value>(&line).ok();
            match (fast(&line), slow) {
                (Some(fast), Some(slow)) => prop_assert_eq!(Some(fast[0].as_str()), slow["log"].as_str()),
                (Some(_), None) => prop_assert!(false, "taken though it is no JSON: {}", line),
                // What has surrogates goes the long way.
                (None, _) => {}
            }
        }
    }
}
