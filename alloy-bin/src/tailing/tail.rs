//! One path over all its rotations: the follower on the disk. Blocking; the pool runs it on blocking threads.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::disk::{self, Seen};
use super::follower::{Chunk, Ending, Follower, Growth, Limits};
use super::ledger::{Claim, Claims};
use super::{FileMetrics, Fingerprint, Identity, Metrics, Position};

/// Programs go on writing to a rotated file until they are told to open the new one: it counts as finished when it
/// has been quiet for so long and the new one has its first bytes.
pub(super) const ROTATION_GRACE: Duration = Duration::from_secs(1);

/// An open file costs a descriptor and keeps a deleted file's space: it is closed when it has been quiet for so long.
const CLOSE_AFTER: Duration = Duration::from_secs(300);

/// From this many bytes on a fingerprint alone (on another inode) says that a path still holds the same file.
/// Shorter heads may be the same in all files of a program; reading few bytes twice is better than leaving some out.
const FINGERPRINT_ALONE_BYTES: u32 = 256;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At a known position, in whatever the file is called now.
    At(Position),
    /// With the first byte.
    Beginning,
    /// With the first line that is not complete yet.
    End,
}

/// What a step gave.
#[derive(Debug)]
pub enum Step {
    /// Lines to deliver; then comes [`Tail::handle_accepted`].
    Batch(Chunk),
    /// Nothing to read now.
    Idle,
}

/// Follows one path.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    limits: Limits,
    /// Where to go on when no file is open and none waits.
    begin: Begin,
    open: Option<Open>,
    /// Files to read after the open one, oldest first.
    waiting: VecDeque<Waiting>,
    quiet_since: Instant,
    /// Batches that another may have sent already, to be given as they were: each from a position with its intent.
    repeats: VecDeque<Position>,
    /// How many batches were accepted.
    accepted: u64,
    claims: Claims,
    metrics: Arc<Metrics>,
    file_metrics: Arc<FileMetrics>,
}

#[derive(Debug)]
struct Open {
    file: File,
    follower: Follower,
    /// The first bytes, as many as a fingerprint covers.
    head: Bytes,
    /// Size and time of the last change for which the head was compared.
    compared: Option<(u64, SystemTime)>,
}

#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    begin: Begin,
}

impl Tail {
    /// A tail of that path. Opens nothing yet.
    pub(super) fn new(
        path: PathBuf,
        begin: Begin,
        limits: Limits,
        now: Instant,
        claims: Claims,
        metrics: Arc<Metrics>,
    ) -> Self {
        let file_metrics = metrics.open(&path.to_string_lossy());
        Tail {
            path,
            limits,
            begin,
            open: None,
            waiting: VecDeque::new(),
            quiet_since: now,
            repeats: VecDeque::new(),
            accepted: 0,
            claims,
            metrics,
            file_metrics,
        }
    }

    /// After the batch at its beginning it gives these as they were given before.
    pub(super) fn repeat(&mut self, batches: Vec<Position>) {
        self.repeats = batches.into();
    }

    /// The number of the batch that is given now, or next, from 0.
    pub fn sequence(&self) -> u64 {
        self.accepted
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far it is delivered; `None` if no file was opened yet.
    pub fn position(&self) -> Option<Position> {
        match (&self.open, self.begin) {
            (Some(open), _) => Some(open.follower.position()),
            (None, Begin::At(position)) => Some(position),
            (None, _) => None,
        }
    }

    /// Whether what was just seen at the path needs no step: it is the open or last read file, and has nothing new.
    pub(super) fn is_caught_up(&self, seen: &Seen) -> bool {
        let same = self.position().is_some_and(|position| position.identity == seen.identity);
        match &self.open {
            Some(open) => {
                same && self.waiting.is_empty() && open.compared == Some((seen.size, seen.modified))
            }
            None => same && self.begin_offset() == Some(seen.size),
        }
    }

    /// Closes a file that has been quiet for long; its position stays.
    pub(super) fn close_if_quiet(&mut self, now: Instant) {
        if now.duration_since(self.quiet_since) >= CLOSE_AFTER && self.waiting.is_empty() {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.begin = Begin::At(open.follower.position());
        }
    }

    /// Reads the next block that holds a line. Until a batch is accepted, the same lines come again.
    ///
    /// # Errors
    /// What the system says of the file. What was delivered is not affected; the next step tries again.
    pub fn step(&mut self, now: Instant, now_ns: i64) -> io::Result<Step> {
        let step = self.try_step(now, now_ns);
        if step.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StaleNetworkFileHandle) {
            // The server has forgotten the open file; by its path or a rotated name it can be found again.
            self.close();
        }
        step
    }

    fn try_step(&mut self, now: Instant, now_ns: i64) -> io::Result<Step> {
        loop {
            self.begin_repeat();
            if self.open.is_none() {
                self.open_next()?;
                self.quiet_since = now;
            }
            if self.open.is_none() {
                return Ok(Step::Idle);
            }
            if let Some(chunk) = self.read(Ending::Open, now_ns)? {
                self.quiet_since = now;
                return Ok(Step::Batch(chunk));
            }
            if !self.is_superseded() || now.duration_since(self.quiet_since) < ROTATION_GRACE {
                return Ok(Step::Idle);
            }
            if let Some(chunk) = self.read(Ending::Final, now_ns)? {
                return Ok(Step::Batch(chunk));
            }
            self.finish_file();
        }
    }

    /// Goes to the next batch that is to be given as it was, once the one before is accepted.
    fn begin_repeat(&mut self) {
        let Some(next) = self.repeats.front().copied() else { return };
        let Some(open) = self.open.as_mut() else { return };
        let position = open.follower.position();
        if position.intent.is_some() {
            return;
        }
        if position.identity.inode != next.identity.inode && self.accepted > 0 {
            // The last owner had finished this file.
            self.claims.leave(position);
            self.repeats.pop_front();
            self.open = None;
            self.waiting.clear();
            self.begin = Begin::At(next);
        } else if position.offset == next.offset
            && let Some(intent) = next.intent
        {
            self.repeats.pop_front();
            open.follower.handle_intent(intent);
        } else {
            // The file is not what it was: nothing can be given as it was.
            self.repeats.clear();
        }
    }

    /// What is left when nothing more will be followed: the last line of a file that is gone from its path.
    ///
    /// # Errors
    /// As [`Tail::step`].
    pub fn last_step(&mut self, now_ns: i64) -> io::Result<Step> {
        if self.open.is_none() || disk::look(&self.path).is_ok() {
            return Ok(Step::Idle);
        }
        Ok(self.read(Ending::Final, now_ns)?.map_or(Step::Idle, Step::Batch))
    }

    /// The chunk is in custody.
    pub fn handle_accepted(&mut self, chunk: &Chunk) {
        let open = self.open.as_mut().expect("a chunk comes from an open file, which stays open");
        open.follower.handle_accepted(chunk, &open.head);
        self.accepted += 1;
        self.metrics.cut_lines.fetch_add(chunk.cut as u64, Relaxed);
        self.file_metrics.read_bytes.fetch_add(chunk.to - chunk.from, Relaxed);
        self.file_metrics.read_lines.fetch_add(chunk.lines.len() as u64, Relaxed);
    }

    fn begin_offset(&self) -> Option<u64> {
        match self.begin {
            Begin::At(position) => Some(position.offset),
            _ => None,
        }
    }

    fn read(&mut self, ending: Ending, now_ns: i64) -> io::Result<Option<Chunk>> {
        let Some(open) = self.open.as_mut() else { return Ok(None) };
        let seen = disk::look_open(&open.file)?;
        self.file_metrics.file_bytes.store(seen.size, Relaxed);
        let mut growth = open.follower.handle_size(seen.size);
        if open.compared != Some((seen.size, seen.modified)) {
            open.head = disk::read_head(&open.file)?;
            if open.follower.handle_head(&open.head) == Growth::Truncated {
                growth = Growth::Truncated;
            }
            open.compared = Some((seen.size, seen.modified));
        }
        if growth == Growth::Truncated {
            self.metrics.truncations.fetch_add(1, Relaxed);
            tracing::info!(path = %self.path.display(), "file was truncated, reading from its beginning");
        }
        loop {
            let range = match ending {
                Ending::Open => open.follower.poll_read(),
                Ending::Final => open.follower.poll_rest(),
            };
            let Some(range) = range else { return Ok(None) };
            let bytes = disk::read_range(&open.file, range)?;
            let is_empty = bytes.is_empty();
            let chunk = open.follower.handle_read(&bytes, ending, now_ns);
            if chunk.is_some() || is_empty {
                return Ok(chunk);
            }
        }
    }

    /// Whether there is something to read after the open file.
    fn is_superseded(&self) -> bool {
        let Some(open) = &self.open else { return false };
        !self.waiting.is_empty()
            || disk::look(&self.path)
                .is_ok_and(|seen| seen.identity != open.follower.position().identity && seen.size > 0)
    }

    /// The open file is read to its end and another is at its path.
    fn finish_file(&mut self) {
        let Some(open) = self.open.take() else { return };
        let position = open.follower.position();
        self.metrics.rotations.fetch_add(1, Relaxed);
        tracing::debug!(path = %self.path.display(), inode = position.identity.inode, "file was rotated");
        self.begin = Begin::At(position);
        self.claims.leave(position);
        if self.waiting.is_empty() {
            // The open file's own name tells which files came after it, should there have been several rotations.
            let siblings = disk::rotated_siblings(&self.path).unwrap_or_default();
            let own = siblings.iter().position(|other| {
                disk::look(&other.path).is_ok_and(|seen| seen.identity == position.identity)
            });
            self.wait_for_newer(&siblings, own, position.last_ns);
        }
    }

    fn open_next(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            match self.begin {
                Begin::At(position) => self.locate(position)?,
                begin => self.waiting.push_back(Waiting { path: self.path.clone(), begin }),
            }
        }
        while let Some(next) = self.waiting.front() {
            let is_last = next.path == self.path;
            match self.open_at(next) {
                Ok(Some(open)) => {
                    self.waiting.pop_front();
                    self.open = Some(open);
                    return Ok(());
                }
                // Another tail still reads what is at the path now, and goes on to its own next file soon.
                Ok(None) if is_last => return Ok(()),
                Ok(None) => {}
                Err(error) if !is_last && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.waiting.clear();
                    return Err(error);
                }
            }
            // A rotated file that is gone, or that another tail reads, is not waited for.
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Opens a file; `None`: another tail reads it.
    fn open_at(&self, next: &Waiting) -> io::Result<Option<Open>> {
        let (file, seen) = disk::open(&next.path)?;
        let head = disk::read_head(&file)?;
        let beginning = Position::beginning(seen.identity, 0);
        let own = match next.begin {
            Begin::At(position) => Position { identity: seen.identity, ..position },
            Begin::Beginning => beginning,
            Begin::End => {
                let offset = disk::last_line_begin(&file, seen.size, self.limits.line_bytes_max())?;
                let covered = usize::try_from(offset).map_or(head.len(), |offset| head.len().min(offset));
                Position { fingerprint: Fingerprint::of(&head[..covered]), offset, ..beginning }
            }
        };
        let inode = seen.identity.inode;
        let shows_it = |path: &Path| disk::look(path).is_ok_and(|other| other.identity.inode == inode);
        let position = match self.claims.claim(inode, shows_it) {
            Claim::Held => return Ok(None),
            Claim::ReadTo(other)
                if other.offset > own.offset
                    && other.offset <= seen.size
                    && other.fingerprint.matches(&head) =>
            {
                Position { identity: seen.identity, last_ns: own.last_ns.max(other.last_ns), ..other }
            }
            Claim::ReadTo(_) | Claim::Granted => own,
        };
        Ok(Some(Open { file, follower: Follower::new(self.limits, position), head, compared: None }))
    }

    /// Finds the file of a position: at the path, or rotated away while nobody looked.
    fn locate(&mut self, position: Position) -> io::Result<()> {
        let at_path = Likeness::of(&self.path, &position);
        if at_path == Likeness::Same {
            self.waiting.push_back(Waiting { path: self.path.clone(), begin: Begin::At(position) });
            return Ok(());
        }
        let siblings = disk::rotated_siblings(&self.path)?;
        let alike: Vec<Likeness> = siblings.iter().map(|s| Likeness::of(&s.path, &position)).collect();
        let same = alike.iter().position(|likeness| *likeness == Likeness::Same);
        let similar = || alike.iter().rposition(|likeness| *likeness == Likeness::Similar);
        let is_at_path = at_path == Likeness::Similar
            && position.fingerprint.bytes >= FINGERPRINT_ALONE_BYTES
            && same.is_none();
        if is_at_path {
            self.waiting.push_back(Waiting { path: self.path.clone(), begin: Begin::At(position) });
            return Ok(());
        }
        let found = same.or_else(similar);
        if let Some(index) = found {
            let path = siblings[index].path.clone();
            tracing::info!(path = %self.path.display(), rotated = %path.display(), "reading the rest of a rotated file");
            self.waiting.push_back(Waiting { path, begin: Begin::At(position) });
        }
        self.wait_for_newer(&siblings, found, position.last_ns);
        Ok(())
    }

    /// Puts the files that came after that one in line, then the path itself.
    fn wait_for_newer(&mut self, siblings: &[disk::Rotated], after: Option<usize>, last_ns: i64) {
        let begin = Begin::At(Position::beginning(Identity::default(), last_ns));
        if let Some(index) = after {
            let age = &siblings[index].age;
            for newer in siblings.iter().filter(|other| other.age.is_newer_than(age)) {
                self.waiting.push_back(Waiting { path: newer.path.clone(), begin });
            }
        }
        self.waiting.push_back(Waiting { path: self.path.clone(), begin });
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Some(position) = self.position() {
            self.claims.leave(position);
        }
        self.metrics.close(&self.path.to_string_lossy());
    }
}

/// How much a file is like the one of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    /// The same inode, long enough, the same first bytes.
    Same,
    /// Another inode, long enough, the same first bytes: a copy, or the file as seen from elsewhere.
    Similar,
    /// Another file.
    Other,
}

impl Likeness {
    fn of(path: &Path, position: &Position) -> Self {
        let look = || -> io::Result<Likeness> {
            let (file, seen) = disk::open(path)?;
            let is_alike =
                seen.size >= position.offset && position.fingerprint.matches(&disk::read_head(&file)?);
            let is_same_inode = seen.identity.inode == position.identity.inode;
            Ok(match (is_alike, is_same_inode) {
                (true, true) => Likeness::Same,
                (true, false) if position.fingerprint.bytes > 0 => Likeness::Similar,
                _ => Likeness::Other,
            })
        };
        look().unwrap_or(Likeness::Other)
    }
}

#[cfg(test)]
mod tests;
