//! `stage.cri`: `2016-10-06T00:17:09.669794202Z stdout F text`, as Kubernetes' runtimes write it. Parts of a line that was too long for
//! the runtime (`P`) are joined with the last part (`F`).

use bytes::Bytes;

/// The stage's arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Cri {
    /// Streams with unfinished lines at a time; with more, all are taken as they are.
    pub max_partial_lines: usize,
    /// The longest joined line, if they are cut.
    pub max_bytes: Option<usize>,
}

impl Default for Cri {
    fn default() -> Self {
        Cri { max_partial_lines: 100, max_bytes: None }
    }
}

/// What stands in front of the text, and the text.
#[derive(Debug, PartialEq)]
pub(super) struct Parts {
    pub(super) time: Bytes,
    pub(super) stream: Stream,
    pub(super) flags: Bytes,
    pub(super) content: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// What `^(?s)(\S+?) (stdout|stderr) (\S+?) (.*)$` finds.
pub(super) fn parse(line: &Bytes) -> Option<Parts> {
    let time = word(line)?;
    let rest = &line[time + 1..];
    let stream = match rest.get(..7)? {
        b"stdout " => Stream::Stdout,
        b"stderr " => Stream::Stderr,
        _ => return None,
    };
    let flags_at = time + 8;
    let flags = word(&line[flags_at..])?;
    let content = line.slice(flags_at + flags + 1..);
    Some(Parts { time: line.slice(..time), stream, flags: line.slice(flags_at..flags_at + flags), content })
}

/// How long the word is that a space ends. `None`: there is none.
fn word(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r'))?;
    (end > 0 && text[end] == b' ').then_some(end)
}

/// Cuts the text, not inside of a character.
pub(super) fn cut(text: Bytes, max_bytes: Option<usize>) -> Bytes {
    match max_bytes {
        Some(max) if text.len() > max => {
            let end = (0..=max).rev().find(|at| text[*at] & 0xc0 != 0x80).unwrap_or(0);
            text.slice(..end)
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn regex() -> ::regex::Regex {
        let slow = r"^(?s)(?P<time>[^\t\n\f\r ]+?) (?P<stream>stdout|stderr) (?P<flags>[^\t\n\f\r ]+?) (?P<content>.*)$";
        ::regex::Regex::new(slow).unwrap()
    }

    proptest! {
        #[test]
        fn heads_are_found_as_the_regular_expression_finds_them(
            line in "([0-9TZ:]{0,6}[ \t]?)(stdout|stderr|std|)( |\n|)[PFé]{0,2} ?.{0,9}"
        ) {
            let bytes = Bytes::from(line.clone());
            let fast = parse(&bytes).map(|parts| {
                [parts.time, parts.stream.name().into(), parts.flags, parts.content].map(|part| text(&part))
            });
            let slow = regex().captures(&line).map(|found| {
                ["time", "stream", "flags", "content"].map(|name| found[name].to_owned())
            });
            prop_assert_eq!(fast, slow);
        }
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_cut_leaves_characters_whole() {
        let cut = |max| text(&cut(Bytes::from_static("aé€".as_bytes()), Some(max)));
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(cut), ["", "a", "a", "aé", "aé", "aé", "aé€", "aé€"]);
    }
}
