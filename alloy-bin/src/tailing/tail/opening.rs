//! Which file a tail reads next, and where in it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use super::{Begin, Open, Tail};
use crate::tailing::content::{self, Opened};
use crate::tailing::disk;
use crate::tailing::follower::Follower;
use crate::tailing::ledger::Claim;
use crate::tailing::{Fingerprint, Position};

impl Tail {
    pub(super) fn open_next(&mut self) -> io::Result<()> {
        self.put_off = None;
        if self.waiting.is_empty() {
            match self.begin {
                Begin::At(position) => {
                    let located = content::locate(&self.path, self.reading.format, &position)?;
                    if let Some(file) = located.file {
                        if *file.path != *self.path {
                            tracing::info!(path = %self.path.display(), rotated = %file.path.display(),
                                "reading the rest of a rotated file");
                        }
                        self.waiting.push_back((file, Begin::At(position)));
                    }
                    self.wait_for(located.newer, position.last_ns);
                }
                begin => self.waiting.push_back((Opened::open(&self.path, self.reading.format)?, begin)),
            }
        }
        // A file that another tail reads is not waited for: it goes on to its own next one soon.
        while let Some((opened, begin)) = self.waiting.pop_front() {
            self.open = self.start(opened, begin)?;
            if self.open.is_some() {
                break;
            }
        }
        if self.waiting.is_empty() {
            // Of thousands of files hardly one has others in line.
            self.waiting = VecDeque::new();
        }
        Ok(())
    }

    pub(super) fn wait_for(&mut self, newer: VecDeque<Opened>, last_ns: i64) {
        for opened in newer {
            let beginning = Position::beginning(opened.seen.identity, last_ns);
            self.waiting.push_back((opened, Begin::At(beginning)));
        }
        // What is new and empty does not end what is before it: the program may not have opened it yet.
        let is_first = self.open.is_none() && self.waiting.len() == 1;
        if !is_first && self.waiting.back().is_some_and(|(last, _)| last.seen.size == 0) {
            self.waiting.pop_back();
        }
    }

    /// Begins a file; `None`: another tail reads it.
    fn start(&self, opened: Opened, begin: Begin) -> io::Result<Option<Box<Open>>> {
        let Opened { content, seen, head, .. } = opened;
        let reading = self.reading;
        let at = |offset: u64| {
            let covered = usize::try_from(offset).map_or(head.len(), |offset| head.len().min(offset));
            let fingerprint = Fingerprint::of(&head[..covered]);
            Position { fingerprint, offset, ..Position::beginning(seen.identity, 0) }
        };
        let own = match begin {
            Begin::At(position) => Position { identity: seen.identity, ..position },
            Begin::Byte(offset) if offset <= content.size(&seen) => at(offset),
            Begin::Beginning | Begin::Byte(_) => at(0),
            Begin::End => at(content.last_line_begin(&seen, reading.limits.line_bytes_max())?),
        };
        let inode = seen.identity.inode;
        let shows_it = |path: &Path| disk::look(path).is_ok_and(|other| other.identity.inode == inode);
        let mut position = match self.claims.claim(inode, shows_it) {
            Claim::Held => return Ok(None),
            Claim::ReadTo(other)
                if other.offset > own.offset
                    && other.offset <= content.size(&seen)
                    && other.fingerprint.matches(&head) =>
            {
                Position { identity: seen.identity, last_ns: own.last_ns.max(other.last_ns), ..other }
            }
            Claim::ReadTo(_) | Claim::Granted => own,
        };
        if let Begin::At(last) = self.begin {
            // Files that wait were put in line before those in front of them were read.
            position.last_ns = position.last_ns.max(last.last_ns);
        }
        let mut follower = Follower::new(reading.limits, reading.encoding, position);
        // As it was when it was put in line: it may have been truncated since.
        follower.handle_head(&head);
        Ok(Some(Box::new(Open { content, follower, head, compared: Some(seen) })))
    }
}
