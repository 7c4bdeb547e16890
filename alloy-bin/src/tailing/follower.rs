//! Follows one file without touching it: told its size and its bytes, answers which range to read next and gives out
//! the complete lines in it.

use std::ops::Range;

use bytes::Bytes;

use super::text::{Encoding, Text};
use super::{Fingerprint, Intent, Position};

/// How much is taken at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    line_bytes_max: usize,
    block_bytes: usize,
}

impl Limits {
    /// Lines of at most so many bytes, but of eight at least, and blocks of at most so many. A block has room for the longest line
    /// and its end.
    pub fn new(line_bytes_max: usize, block_bytes: usize) -> Self {
        // A piece ends up to three bytes early, between two characters. Two pieces of eight are longer together than one may be:
        // so a batch that ends behind a piece is cut again as it was, although what follows is not read again.
        let line_bytes_max = line_bytes_max.max(8);
        Limits { line_bytes_max, block_bytes: block_bytes.max(line_bytes_max + 2) }
    }

    /// The longest line.
    pub fn line_bytes_max(&self) -> usize {
        self.line_bytes_max
    }
}

impl Default for Limits {
    /// 256 KiB is the longest line that Loki takes by default; a block is as long as that.
    fn default() -> Self {
        Limits::new(256 << 10, 256 << 10)
    }
}

/// Lines to be delivered together: the range `[from, to)` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where the first line begins.
    pub from: u64,
    /// Where the next one will.
    pub to: u64,
    /// The timestamp of the first line; each further line's is one nanosecond later.
    pub base_ns: i64,
    /// The lines without their ends, as UTF-8.
    pub lines: Vec<Bytes>,
    /// How many of them are pieces that were cut off lines longer than the limit.
    pub cut: usize,
}

/// Whether more may follow the bytes that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The last line may not be complete yet.
    Open,
    /// Nothing will follow: what has no line end is the last line.
    Final,
}

/// What a new size means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// The file goes on where it was.
    Continues,
    /// The file is shorter than what was read of it: it was truncated, and is read from its beginning.
    Truncated,
}

/// Follows one file.
#[derive(Debug)]
pub struct Follower {
    limits: Limits,
    encoding: Encoding,
    text: Text,
    position: Position,
    size: u64,
    /// All before this byte was read and holds no complete line behind the position.
    tried: u64,
}

impl Follower {
    /// Goes on at that position.
    pub fn new(limits: Limits, encoding: Encoding, position: Position) -> Self {
        let (size, tried) = (position.offset, position.offset);
        Follower { limits, encoding, text: encoding.of_file(b""), position, size, tried }
    }

    /// How far the file is delivered.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The batch that begins here is to be given as it was given before.
    pub fn handle_intent(&mut self, intent: Intent) {
        self.position.intent = Some(intent);
    }

    /// The file has this size now.
    pub fn handle_size(&mut self, size: u64) -> Growth {
        self.size = size;
        if size < self.position.offset {
            self.restart();
            return Growth::Truncated;
        }
        self.tried = self.tried.min(size);
        Growth::Continues
    }

    /// The file begins with these bytes now: as many as the fingerprint covers, or more.
    pub fn handle_head(&mut self, head: &[u8]) -> Growth {
        self.text = self.encoding.of_file(head);
        let growth = if self.position.fingerprint.matches(head) {
            Growth::Continues
        } else {
            self.restart();
            Growth::Truncated
        };
        if self.position.offset == 0 {
            // Nothing of it is delivered: what is there already tells it from others when it is rotated before more comes.
            self.position.fingerprint = Fingerprint::of(head);
        }
        growth
    }

    /// Whether a file that begins with these bytes may be the one that was read so far.
    pub fn continues(&self, head: &[u8]) -> bool {
        self.position.fingerprint.matches(head)
    }

    /// The range to read next; `None`: nothing to read until the file grows.
    pub fn poll_read(&mut self) -> Option<Range<u64>> {
        let from = self.position.offset;
        if let Some(intent) = self.position.intent {
            if intent.to <= self.size && intent.to - from <= self.limits.block_bytes as u64 {
                return Some(from..intent.to);
            }
            // What was under way is no longer there as it was: it can't be repeated exactly.
            self.position.intent = None;
        }
        let to = self.size.min(from + self.limits.block_bytes as u64);
        (to > self.tried.max(from)).then_some(from..to)
    }

    /// The range of the last line that has no end; `None`: there is none.
    pub fn poll_rest(&self) -> Option<Range<u64>> {
        let from = self.position.offset;
        (self.size > from).then_some(from..self.size.min(from + self.limits.block_bytes as u64))
    }

    /// Takes what was read from the position on and gives the lines in it; `None`: no complete line yet. The position
    /// moves only with [`Follower::handle_accepted`]; until then the same lines come again.
    pub fn handle_read(&mut self, bytes: &Bytes, ending: Ending, now_ns: i64) -> Option<Chunk> {
        self.handle_read_of(bytes, ending, now_ns, usize::MAX)
    }

    /// As [`Follower::handle_read`], with at most so many lines: the rest is read again.
    pub fn handle_read_of(
        &mut self,
        bytes: &Bytes,
        ending: Ending,
        now_ns: i64,
        lines_max: usize,
    ) -> Option<Chunk> {
        let from = self.position.offset;
        let repeated = self.position.intent.filter(|intent| intent.to == from + bytes.len() as u64);
        // The range of a repeated batch ended where its last line did, with a line end or without.
        let ending = if repeated.is_some() { Ending::Final } else { ending };
        let is_utf8 = self.text.utf8_bytes(bytes);
        let mut lines = Vec::new();
        let mut cut = 0;
        let mut at = 0;
        while lines.len() < lines_max
            && let Some(found) = self.text.next_line(&bytes[at..], self.limits.line_bytes_max, ending)
        {
            let begin = if from == 0 && at == 0 { self.text.mark_bytes(bytes) } else { at };
            let end = at + found.text;
            let line = bytes.slice(begin.min(end)..end);
            lines.push(if end <= is_utf8 { line } else { self.text.to_utf8(line) });
            cut += usize::from(found.is_cut);
            at += found.taken;
        }
        if lines.is_empty() {
            // An empty answer means that the file shrank between the two calls: the next size will tell.
            self.tried = if bytes.is_empty() { self.size } else { from + bytes.len() as u64 };
            return None;
        }
        let base_ns = repeated.map_or(now_ns.max(self.position.last_ns.saturating_add(1)), |r| r.base_ns);
        let to = from + at as u64;
        self.position.intent = Some(Intent { to, base_ns });
        Some(Chunk { from, to, base_ns, lines, cut })
    }

    /// Whether the range that was read can grow with the file: the block has room for more.
    pub fn has_room_behind(&self, bytes: &Bytes) -> bool {
        bytes.len() < self.limits.block_bytes
    }

    /// Whether this was offered before the agent or the file's owner changed, and has to be offered again as it was.
    pub fn is_repeated(&self) -> bool {
        self.position.intent.is_some()
    }

    /// None of the lines is to be taken now: they are read again when the file has grown.
    pub fn handle_put_off(&mut self, bytes: &Bytes) {
        self.position.intent = None;
        self.tried = self.position.offset + bytes.len() as u64;
    }

    /// What was put off is read again although the file has not grown.
    pub fn handle_waited(&mut self) {
        self.tried = self.position.offset;
    }

    /// The chunk is in custody. `head` are the file's first bytes, as many as a fingerprint covers if there are so many.
    pub fn handle_accepted(&mut self, chunk: &Chunk, head: &[u8]) {
        let position = &mut self.position;
        debug_assert_eq!(position.offset, chunk.from, "chunks are accepted in order");
        position.offset = chunk.to;
        position.last_ns = chunk.base_ns.saturating_add(chunk.lines.len() as i64 - 1);
        position.intent = None;
        if chunk.from == 0 || (position.fingerprint.bytes as usize) < Fingerprint::BYTES_MAX {
            let delivered = usize::try_from(chunk.to).unwrap_or(usize::MAX);
            position.fingerprint = Fingerprint::of(&head[..head.len().min(delivered)]);
        }
    }

    fn restart(&mut self) {
        self.position = Position::beginning(self.position.identity, self.position.last_ns);
        self.tried = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tailing::Identity;

    /// Feeds the input in pieces of these sizes (repeated) and accepts each chunk; gives all lines.
    fn follow(input: &[u8], sizes: &[usize], limits: Limits) -> Vec<String> {
        let mut follower = Follower::new(limits, Encoding::Marked, Position::default());
        let mut lines = Vec::new();
        let mut size = 0;
        let mut sizes = sizes.iter().cycle();
        while size < input.len() {
            size = input.len().min(size + sizes.next().copied().unwrap_or(1).max(1));
            assert_eq!(follower.handle_size(size as u64), Growth::Continues);
            drain(&mut follower, &input[..size], &mut lines);
        }
        while let Some(range) = follower.poll_rest() {
            let bytes = Bytes::copy_from_slice(&input[range.start as usize..range.end as usize]);
            let chunk = follower.handle_read(&bytes, Ending::Final, 0).expect("a rest is a line");
            accept(&mut follower, chunk, input, &mut lines);
        }
        lines
    }

    fn drain(follower: &mut Follower, input: &[u8], lines: &mut Vec<String>) {
        while let Some(range) = follower.poll_read() {
            let bytes = Bytes::copy_from_slice(&input[range.start as usize..range.end as usize]);
            if let Some(chunk) = follower.handle_read(&bytes, Ending::Open, 0) {
                accept(follower, chunk, input, lines);
            }
        }
    }

    fn accept(follower: &mut Follower, chunk: Chunk, head: &[u8], lines: &mut Vec<String>) {
        assert_eq!(follower.position().offset, chunk.from);
        lines.extend(chunk.lines.iter().map(|line| String::from_utf8(line.to_vec()).expect("UTF-8")));
        follower.handle_accepted(&chunk, head);
        assert!(follower.position().is_sound());
    }

    #[test]
    fn lines_are_split_as_people_see_them() {
        let check = |input: &[u8], expected: &[&str]| {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(follow(input, &[size], Limits::new(8, 16)), expected, "in pieces of {size}");
            }
        };
        check(b"", &[]);
        check(b"a\nb\n", &["a", "b"]);
        check(b"a\n\nb", &["a", "", "b"]);
        check(b"a\r\nb\rc\r\n", &["a", "b\rc"]);
        check(b"\xef\xbb\xbfa\nb\n", &["a", "b"]);
        check(b"\xef\xbb\xbf\n", &[""]);
        check(b"\xff\xfe\nok\n", &["\u{fffd}\u{fffd}", "ok"]);
        check(b"12345678\n", &["12345678"]);
        check(b"123456789\nb\n", &["12345678", "9", "b"]);
        check(b"1234567\xc3\xa9\nb\n", &["1234567", "\u{e9}", "b"]);
        check(b"1234567\r\n", &["1234567"]);
        check(b"aaaaaaaabbbbbbbbc", &["aaaaaaaa", "bbbbbbbb", "c"]);
    }

    #[test]
    fn a_partial_line_waits_and_is_not_read_again_before_the_file_grows() {
        let mut follower = Follower::new(Limits::default(), Encoding::Marked, Position::default());
        follower.handle_size(3);
        assert_eq!(follower.poll_read(), Some(0..3));
        assert_eq!(follower.handle_read(&Bytes::from_static(b"abc"), Ending::Open, 5), None);
        follower.handle_size(3);
        assert_eq!(follower.poll_read(), None);
        follower.handle_size(5);
        assert_eq!(follower.poll_read(), Some(0..5));
    }

    #[test]
    fn a_chunk_comes_again_with_the_same_timestamps_until_it_is_accepted() {
        let mut follower = Follower::new(
            Limits::default(),
            Encoding::Marked,
            Position { last_ns: 99, ..Position::default() },
        );
        follower.handle_size(4);
        let bytes = Bytes::from_static(b"a\nb\n");
        let first = follower.handle_read(&bytes, Ending::Open, 7).expect("two lines");
        assert_eq!(first.base_ns, 100);
        // Elsewhere, later, with a longer file: the same batch.
        let mut other = Follower::new(Limits::default(), Encoding::Marked, follower.position());
        other.handle_size(6);
        assert_eq!(other.poll_read(), Some(0..4));
        assert_eq!(other.handle_read(&bytes, Ending::Open, 500), Some(first.clone()));
        other.handle_accepted(&first, b"a\nb\nc\n");
        assert_eq!(other.poll_read(), Some(4..6));
        assert_eq!(other.position().last_ns, 101);
        assert_eq!(other.position().fingerprint, Fingerprint::of(b"a\nb\n"));
    }

    #[test]
    fn a_shorter_or_rewritten_file_is_read_from_its_beginning() {
        let position = Position {
            identity: Identity { device: 1, inode: 2 },
            fingerprint: Fingerprint::of(b"old\n"),
            offset: 4,
            last_ns: 50,
            intent: Some(Intent { to: 8, base_ns: 51 }),
        };
        let beginning = Position::beginning(position.identity, 50);

        let mut shorter = Follower::new(Limits::default(), Encoding::Marked, position);
        assert_eq!(shorter.handle_size(3), Growth::Truncated);
        assert_eq!(shorter.position(), beginning);
        assert_eq!(shorter.poll_read(), Some(0..3));

        let mut rewritten = Follower::new(Limits::default(), Encoding::Marked, position);
        assert_eq!(rewritten.handle_size(9), Growth::Continues);
        assert_eq!(rewritten.handle_head(b"new\nlines"), Growth::Truncated);
        assert_eq!(
            rewritten.position(),
            Position { fingerprint: Fingerprint::of(b"new\nlines"), ..beginning }
        );
        assert_eq!(rewritten.poll_read(), Some(0..9));
    }

    #[test]
    fn an_intent_that_no_longer_fits_the_file_is_forgotten() {
        let position =
            Position { offset: 4, intent: Some(Intent { to: 8, base_ns: 1 }), ..Position::default() };
        let mut follower = Follower::new(Limits::default(), Encoding::Marked, position);
        follower.handle_size(6);
        assert_eq!(follower.poll_read(), Some(4..6));
        assert_eq!(follower.position().intent, None);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            input in proptest::collection::vec(
                prop_oneof![4 => Just(b'a'), 2 => Just(b'\n'), 1 => Just(b'\r'), 1 => 0u8..=255], 0..400),
            sizes in proptest::collection::vec(1usize..40, 1..20),
            line_bytes_max in 8usize..40,
            block_bytes in 1usize..80,
        ) {
            let whole = follow(&input, &[input.len()], Limits::new(line_bytes_max, 1000));
            prop_assert_eq!(follow(&input, &sizes, Limits::new(line_bytes_max, block_bytes)), whole);
        }
    }
}
