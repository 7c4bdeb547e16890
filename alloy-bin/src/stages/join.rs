//! Several lines -> one: `stage.multiline`, and the parts of `stage.cri`. Joined is what stands in one batch; what may go on
//! behind it is told to the source, which offers it again with what follows.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::cri::{self, Cri};
use super::line::{Line, text};
use crate::relabel::go_regex;

/// The arguments of `stage.multiline`.
#[derive(Debug, Clone)]
pub struct Multiline {
    firstline: regex::Regex,
    max_lines: usize,
    /// How long it is worth waiting for more lines.
    pub(super) max_wait: Duration,
    trim_newlines: bool,
}

impl Multiline {
    /// Compiles the expression. The error is for people.
    pub fn new(
        firstline: &str,
        max_lines: usize,
        max_wait: Duration,
        trim_newlines: bool,
    ) -> Result<Self, String> {
        Ok(Multiline { firstline: go_regex(firstline)?, max_lines, max_wait, trim_newlines })
    }
}

/// The blocks of one stage that are not finished, by stream. Few streams come in one batch: a list finds them.
#[derive(Default)]
pub(super) struct Blocks<'p>(Vec<(usize, Block<'p>)>);

pub(super) struct Block<'p> {
    /// Whose time, labels and values the joined line has.
    head: Line<'p>,
    /// The first entry of what is in `parts`.
    from: usize,
    to: usize,
    parts: Vec<Bytes>,
}

impl<'p> Blocks<'p> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the earliest of the unfinished lines begins.
    pub(super) fn earliest(&self) -> Option<usize> {
        let open = self.0.iter().filter(|(_, block)| !block.parts.is_empty());
        open.map(|(_, block)| block.from).min()
    }

    /// All that there is, oldest first.
    pub(super) fn finish(&mut self, separator: &str) -> Vec<Line<'p>> {
        let mut blocks = std::mem::take(&mut self.0);
        blocks.sort_by_key(|(_, block)| block.from);
        blocks.into_iter().filter_map(|(_, mut block)| block.take(separator)).collect()
    }

    /// Takes a line of a multiline block. Gives back what may go on.
    pub(super) fn push_multiline(&mut self, stage: &Multiline, line: Line<'p>) -> [Option<Line<'p>>; 2] {
        let stream = line.labels.address();
        let is_first = stage.firstline.is_match(&text(&line.text));
        let index = self.0.iter().position(|(other, _)| *other == stream);
        let part = if stage.trim_newlines { trim(&line.text) } else { line.text.clone() };
        let (index, earlier) = match (index, is_first) {
            // Nothing has begun that it could belong to.
            (None, false) => return [Some(line), None],
            (None, true) => {
                let (from, to) = (line.from, line.to);
                self.0.push((stream, Block { head: line, from, to, parts: Vec::new() }));
                (self.0.len() - 1, None)
            }
            (Some(index), is_first) => {
                let block = &mut self.0[index].1;
                let earlier = if is_first { block.take(LINE_END) } else { None };
                if block.parts.is_empty() {
                    block.from = line.from;
                }
                block.to = line.to;
                if is_first {
                    block.head = line;
                }
                (index, earlier)
            }
        };
        let block = &mut self.0[index].1;
        block.parts.push(part);
        let full = if block.parts.len() == stage.max_lines { block.take(LINE_END) } else { None };
        [earlier, full]
    }

    /// Takes a line whose head is off. Gives back what may go on.
    pub(super) fn push_cri(&mut self, stage: &Cri, mut line: Line<'p>, is_partial: bool) -> Vec<Line<'p>> {
        let stream = line.labels.address();
        let index = self.0.iter().position(|(other, _)| *other == stream);
        if !is_partial {
            if let Some(index) = index {
                let mut block = self.0.remove(index).1;
                block.parts.push(line.text.clone());
                line.text = cri::cut(join(&block.parts, ""), stage.max_bytes);
                line.from = block.from;
            }
            return vec![line];
        }
        if self.0.len() >= stage.max_partial_lines {
            let all = self.finish("");
            self.begin(stage, stream, line);
            return all;
        }
        match index {
            Some(index) => {
                let block = &mut self.0[index].1;
                block.to = line.to;
                let length: usize = block.parts.iter().map(Bytes::len).sum();
                if stage.max_bytes.is_none_or(|max| length < max) {
                    block.parts.push(line.text.clone());
                }
                block.head = line;
            }
            None => self.begin(stage, stream, line),
        }
        Vec::new()
    }

    fn begin(&mut self, stage: &Cri, stream: usize, line: Line<'p>) {
        let part = cri::cut(line.text.clone(), stage.max_bytes);
        self.0.push((stream, Block { from: line.from, to: line.to, parts: vec![part], head: line }));
    }
}

/// What stands between the lines of a block.
pub(super) const LINE_END: &str = "\n";

impl<'p> Block<'p> {
    fn take(&mut self, separator: &str) -> Option<Line<'p>> {
        if self.parts.is_empty() {
            return None;
        }
        let text = join(&std::mem::take(&mut self.parts), separator);
        Some(Line { text, from: self.from, to: self.to, ..self.head.clone() })
    }
}

fn join(parts: &[Bytes], separator: &str) -> Bytes {
    if let [only] = parts {
        return only.clone();
    }
    let length: usize = parts.iter().map(|part| part.len() + separator.len()).sum();
    let mut joined = BytesMut::with_capacity(length);
    for part in parts {
        // As in Promtail, nothing stands behind lines that are all empty.
        if !joined.is_empty() {
            joined.extend_from_slice(separator.as_bytes());
        }
        joined.extend_from_slice(part);
    }
    joined.freeze()
}

fn trim(line: &Bytes) -> Bytes {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    line.slice(..end)
}
