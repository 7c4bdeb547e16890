//! From bytes to lines: where a line ends in each encoding, and its text as UTF-8. What is found depends on the bytes alone.

use std::borrow::Cow;

use bytes::Bytes;
use encoding_rs::{UTF_8, UTF_16BE, UTF_16LE};
use memchr::memchr;

use super::Ending;

/// How the files of a component are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// As the file's byte-order mark says; UTF-8 without one.
    #[default]
    Marked,
    /// UTF-16, as the file's byte-order mark says; big endian without one.
    Utf16,
    /// This one.
    Named(&'static encoding_rs::Encoding),
}

impl Encoding {
    /// By a name of the Encoding Standard, which has those of IANA that are in use; `None`: there is no such encoding.
    pub fn by_name(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" => Some(Encoding::Marked),
            "utf-16" => Some(Encoding::Utf16),
            name => encoding_rs::Encoding::for_label_no_replacement(name.as_bytes()).map(Encoding::Named),
        }
    }

    /// That of a file which begins with these bytes.
    pub(super) fn of_file(self, head: &[u8]) -> Text {
        let marked = encoding_rs::Encoding::for_bom(head).map(|(encoding, _)| encoding);
        Text(match self {
            Encoding::Marked => marked.unwrap_or(UTF_8),
            Encoding::Utf16 => marked.filter(|marked| *marked != UTF_8).unwrap_or(UTF_16BE),
            Encoding::Named(encoding) => encoding,
        })
    }
}

/// How one file is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text(&'static encoding_rs::Encoding);

/// The next line of a block.
#[derive(Debug)]
pub(super) struct Found {
    /// The line without its end.
    pub(super) text: usize,
    /// The line with its end.
    pub(super) taken: usize,
    pub(super) is_cut: bool,
}

impl Text {
    /// The first line of `rest`, if it is complete, or too long.
    pub(super) fn next_line(self, rest: &[u8], line_bytes_max: usize, ending: Ending) -> Option<Found> {
        // NOTE: in the encodings of more than one byte besides UTF-16, no byte of a longer character is a line feed.
        let unit = self.unit();
        let line_bytes_max = line_bytes_max / unit * unit;
        let window = &rest[..rest.len().min(line_bytes_max + unit)];
        if let Some(end) = self.line_feed(window) {
            let text = if self.ends_with(&window[..end], b'\r') { end - unit } else { end };
            return Some(Found { text, taken: end + unit, is_cut: false });
        }
        if window.len() >= line_bytes_max + unit {
            let text = self.char_boundary(window, line_bytes_max);
            return Some(Found { text, taken: text, is_cut: true });
        }
        match ending {
            Ending::Final if !rest.is_empty() => {
                Some(Found { text: rest.len(), taken: rest.len(), is_cut: false })
            }
            _ => None,
        }
    }

    /// How long the byte-order mark is that the bytes begin with.
    pub(super) fn mark_bytes(self, bytes: &[u8]) -> usize {
        match encoding_rs::Encoding::for_bom(bytes) {
            Some((marked, length)) if marked == self.0 => length,
            _ => 0,
        }
    }

    /// How many of the first bytes need no change to be UTF-8.
    pub(super) fn utf8_bytes(self, bytes: &[u8]) -> usize {
        if self.0 != UTF_8 {
            return 0;
        }
        std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len)
    }

    /// The line as UTF-8: what can't be read is replaced.
    pub(super) fn to_utf8(self, line: Bytes) -> Bytes {
        match self.0.decode_without_bom_handling(&line).0 {
            // Only of ASCII and UTF-8: the same bytes.
            Cow::Borrowed(_) => line,
            Cow::Owned(text) => Bytes::from(text),
        }
    }

    fn unit(self) -> usize {
        if self.0 == UTF_16LE || self.0 == UTF_16BE { 2 } else { 1 }
    }

    fn ends_with(self, text: &[u8], character: u8) -> bool {
        if self.0 == UTF_16LE {
            text.ends_with(&[character, 0])
        } else if self.0 == UTF_16BE {
            text.ends_with(&[0, character])
        } else {
            text.ends_with(&[character])
        }
    }

    fn line_feed(self, window: &[u8]) -> Option<usize> {
        if self.unit() == 1 {
            return memchr(b'\n', window);
        }
        let low = usize::from(self.0 == UTF_16BE);
        memchr::memchr_iter(b'\n', window)
            .filter(|at| at % 2 == low)
            .map(|at| at - low)
            .find(|at| window.get(at + 1 - low) == Some(&0))
    }

    /// The last boundary between two characters that is not behind `end`; `end` if the bytes are none of this encoding.
    fn char_boundary(self, bytes: &[u8], end: usize) -> usize {
        if self.unit() == 2 {
            let high = if self.0 == UTF_16BE { bytes[end - 2] } else { bytes[end - 1] };
            let is_first_of_two = (0xd8..0xdc).contains(&high);
            return if is_first_of_two { end - 2 } else { end };
        }
        let is_continuation = |at: &usize| bytes[*at] & 0xc0 == 0x80;
        match self.0 == UTF_8 {
            true => (end.saturating_sub(3)..=end).rev().find(|at| !is_continuation(at)).unwrap_or(end),
            false => end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a whole file.
    fn lines(encoding: &str, file: &[u8], line_bytes_max: usize) -> Vec<String> {
        let text = Encoding::by_name(encoding).expect("known").of_file(file);
        let (mut at, mut lines) = (0, Vec::new());
        while let Some(found) = text.next_line(&file[at..], line_bytes_max, Ending::Final) {
            let begin = if at == 0 { text.mark_bytes(file) } else { at };
            let line = Bytes::copy_from_slice(&file[begin..at + found.text]);
            lines.push(String::from_utf8(text.to_utf8(line).to_vec()).expect("UTF-8"));
            at += found.taken;
        }
        lines
    }

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn each_encoding_gives_the_same_text() {
        // U+0A0A and U+010A have bytes that look like line feeds.
        let sample = "a\u{e9}\r\n\n\u{a0a}\u{10a}x\u{1f600}\nend";
        let expected = ["a\u{e9}", "", "\u{a0a}\u{10a}x\u{1f600}", "end"];
        let (little, big) = (utf16(sample, u16::to_le_bytes), utf16(sample, u16::to_be_bytes));
        let marked = |mark: &[u8], text: &[u8]| [mark, text].concat();
        let check =
            |encoding: &str, file: &[u8]| assert_eq!(lines(encoding, file, 64), expected, "{encoding:?}");
        check("", sample.as_bytes());
        check("utf-8", &marked(b"\xef\xbb\xbf", sample.as_bytes()));
        check("UTF-16LE", &little);
        check("utf-16le", &marked(b"\xff\xfe", &little));
        check("utf-16be", &big);
        check("utf-16", &big);
        check("utf-16", &marked(b"\xff\xfe", &little));
        check("", &marked(b"\xff\xfe", &little));
        check("", &marked(b"\xfe\xff", &big));
        assert_eq!(lines("iso-8859-1", b"a\xe9\r\n\xfc", 64), ["a\u{e9}", "\u{fc}"]);
        assert_eq!(lines("windows-1252", b"\x80\n", 64), ["\u{20ac}"]);
        assert_eq!(
            lines("shift_jis", b"\x83\x65\x83\x58\x83\x67\nok\n", 64),
            ["\u{30c6}\u{30b9}\u{30c8}", "ok"]
        );
        assert_eq!(Encoding::by_name("utf-17"), None);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let little = utf16("ab\u{1f600}c\n", u16::to_le_bytes);
        assert_eq!(lines("utf-16le", &little, 6), ["ab", "\u{1f600}c"]);
        assert_eq!(lines("utf-16le", &little, 7), ["ab", "\u{1f600}c"], "an odd limit is the even one below");
        assert_eq!(lines("utf-8", "1234567\u{e9}\nb".as_bytes(), 8), ["1234567", "\u{e9}", "b"]);
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(lines("utf-8", b"\xff\xfe\nok\n", 64), ["\u{fffd}\u{fffd}", "ok"]);
        assert_eq!(lines("utf-16le", b"a\0\n\0b", 64), ["a", "\u{fffd}"], "half a character at the end");
    }
}
