//! A file that grows, shrinks and is read by a follower that crashes: lines come in order, each as often as it was accepted, and a
//! batch that was under way comes again as it was.

use alloy_bin::tailing::{Chunk, Encoding, Ending, Follower, Limits, Position};
use bytes::Bytes;

const ENCODINGS: [&str; 5] = ["", "utf-8", "utf-16le", "utf-16", "windows-1252"];

/// The bytes: encoding, longest line, block, then operations with their content.
pub(crate) fn check(data: &[u8]) {
    let [encoding, line_bytes, block_bytes, operations @ ..] = data else { return };
    let encoding = Encoding::by_name(ENCODINGS[usize::from(*encoding) % ENCODINGS.len()]).expect("known");
    let limits = Limits::new(usize::from(*line_bytes), usize::from(*block_bytes));
    let mut run =
        Run { limits, encoding, file: Vec::new(), follower: None, lines: Vec::new(), is_whole: true };
    for piece in operations.chunks(9) {
        run.step(piece[0], &piece[1..]);
    }
    run.end();
}

struct Run {
    limits: Limits,
    encoding: Encoding,
    file: Vec<u8>,
    follower: Option<Follower>,
    lines: Vec<Bytes>,
    /// The file was never truncated.
    is_whole: bool,
}

impl Run {
    fn step(&mut self, operation: u8, content: &[u8]) {
        match operation % 8 {
            0..4 => self.file.extend_from_slice(content),
            4 => self.read(Ending::Open),
            5 => self.crash(),
            6 => {
                self.file.clear();
                self.file.extend_from_slice(content);
                self.is_whole = false;
            }
            _ => {
                // A batch that nobody takes comes again, also after a crash.
                if let Some(first) = self.chunk(Ending::Open) {
                    self.crash();
                    let second = self.chunk(Ending::Open);
                    // Whether its last piece was cut off a longer line can't be seen any more: it is only counted.
                    let second = second.map(|second| Chunk { cut: first.cut, ..second });
                    assert_eq!(second, Some(first));
                }
            }
        }
    }

    fn chunk(&mut self, ending: Ending) -> Option<Chunk> {
        let (limits, encoding) = (self.limits, self.encoding);
        let follower =
            self.follower.get_or_insert_with(|| Follower::new(limits, encoding, Position::default()));
        follower.handle_size(self.file.len() as u64);
        follower.handle_head(&self.file[..self.file.len().min(1024)]);
        loop {
            let range = match ending {
                Ending::Open => follower.poll_read()?,
                Ending::Final => follower.poll_rest()?,
            };
            assert!(range.start < range.end && range.end <= self.file.len() as u64, "{range:?}");
            let bytes = Bytes::copy_from_slice(&self.file[range.start as usize..range.end as usize]);
            if let Some(chunk) = follower.handle_read(&bytes, ending, 7) {
                assert!(chunk.from == range.start && chunk.to > chunk.from && chunk.to <= range.end);
                assert!(chunk.lines.iter().all(|line| std::str::from_utf8(line).is_ok()));
                return Some(chunk);
            }
        }
    }

    fn read(&mut self, ending: Ending) {
        let mut last_ns = i64::MIN;
        while let Some(chunk) = self.chunk(ending) {
            assert!(chunk.base_ns > last_ns, "times grow");
            last_ns = chunk.base_ns + chunk.lines.len() as i64 - 1;
            let follower = self.follower.as_mut().expect("it gave a chunk");
            follower.handle_accepted(&chunk, &self.file[..self.file.len().min(1024)]);
            self.lines.extend(chunk.lines);
        }
    }

    fn crash(&mut self) {
        let Some(follower) = self.follower.take() else { return };
        let position = Position::decode(&follower.position().encode()).expect("it is sound");
        self.follower = Some(Follower::new(self.limits, self.encoding, position));
    }

    /// All lines came, the same as if the file had been read at once.
    fn end(mut self) {
        self.read(Ending::Open);
        self.read(Ending::Final);
        if self.is_whole {
            let (limits, encoding, file) = (self.limits, self.encoding, std::mem::take(&mut self.file));
            let mut whole = Run { limits, encoding, file, follower: None, lines: Vec::new(), is_whole: true };
            whole.read(Ending::Open);
            whole.read(Ending::Final);
            assert_eq!(self.lines, whole.lines);
        }
    }
}
