//! One path over all its rotations: the follower on the disk. Blocking; the pool runs it on blocking threads.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::content::{self, Content, Opened};
use super::disk::{self, Seen};
use super::follower::{Chunk, Ending, Follower, Growth, Limits};
use super::ledger::Claims;
use super::packed::Format;
use super::put_off::{Ask, PutOff};
use super::text::Encoding;
use super::{FileMetrics, Metrics, Position};

/// Programs go on writing to a rotated file until they are told to open the new one: it counts as finished when it
/// has been quiet for so long and the new one has its first bytes.
pub(super) const ROTATION_GRACE: Duration = Duration::from_secs(1);

/// An open file costs a descriptor and keeps a deleted file's space: it is closed when it has been quiet for so long.
pub(super) const CLOSE_AFTER: Duration = Duration::from_secs(300);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At a known position, in whatever the file is called now.
    At(Position),
    /// With the first byte.
    Beginning,
    /// At this byte, if there are so many; with the first one else.
    Byte(u64),
    /// With the first line that is not complete yet.
    End,
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// The sizes of lines and blocks.
    pub limits: Limits,
    /// How text is written.
    pub encoding: Encoding,
    /// How what is at the path is compressed.
    pub format: Option<Format>,
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
    path: Arc<Path>,
    reading: Reading,
    /// Where to go on when no file is open and none waits.
    begin: Begin,
    /// Boxed: most files are idle and closed.
    open: Option<Box<Open>>,
    /// Files to read after the open one, oldest first, with where to begin.
    waiting: VecDeque<(Opened, Begin)>,
    /// How the file looked when all of it was read.
    read_up: Option<Seen>,
    /// An empty file at the path, when what was rotated before it was last looked for.
    empty: Option<Seen>,
    quiet_since: Instant,
    put_off: Option<PutOff>,
    /// Batches that another may have sent already, to be given as they were: each from a position with its intent.
    repeats: VecDeque<Position>,
    /// How many batches were accepted.
    accepted: u64,
    /// Others were told where it goes on.
    is_told: bool,
    claims: Claims,
    metrics: Arc<Metrics>,
    file_metrics: Arc<FileMetrics>,
}

#[derive(Debug)]
struct Open {
    content: Content,
    follower: Follower,
    /// The first bytes, as many as a fingerprint covers. Only while there is something to read.
    head: Bytes,
    /// How the file looked when its head was compared.
    compared: Option<Seen>,
}

impl Tail {
    /// A tail of that path. Opens nothing yet.
    pub(super) fn new(
        path: Arc<Path>,
        begin: Begin,
        reading: Reading,
        now: Instant,
        claims: Claims,
        metrics: Arc<Metrics>,
    ) -> Self {
        let file_metrics = metrics.open(&path.to_string_lossy());
        Tail {
            path,
            reading,
            begin,
            open: None,
            waiting: VecDeque::new(),
            read_up: None,
            empty: None,
            quiet_since: now,
            put_off: None,
            repeats: VecDeque::new(),
            accepted: 0,
            is_told: false,
            claims,
            metrics,
            file_metrics,
        }
    }

    /// After the batch at its beginning it gives these as they were given before.
    pub(super) fn repeat(&mut self, batches: Vec<Position>) {
        self.repeats = batches.into();
    }

    /// Where the batch begins that is given now, with its intent.
    pub(super) fn offered(&self) -> Option<Position> {
        self.open.as_ref().map(|open| open.follower.position())
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
    ///
    /// Of a file that was empty so far nothing is known that would tell it from others: until it has its first bytes, the one before it
    /// is what a later life has to find.
    pub fn position(&self) -> Option<Position> {
        match (&self.open, self.begin) {
            (Some(open), Begin::At(last)) if open.follower.position().is_blank() => Some(last),
            (Some(open), _) => Some(open.follower.position()),
            (None, Begin::At(position)) => Some(position),
            (None, _) => None,
        }
    }

    /// Where it begins, once: also of a file without a line others have to know which it was. It may be rotated before they look.
    pub(super) fn poll_beginning(&mut self) -> bool {
        let is_new = !self.is_told && self.position().is_some();
        self.is_told |= is_new;
        is_new
    }

    /// Whether what was just seen at the path needs no step: it is the file that was read up, and has nothing new.
    pub(super) fn is_caught_up(&self, seen: &Seen) -> bool {
        self.put_off.is_none() && self.waiting.is_empty() && self.read_up.as_ref() == Some(seen)
    }

    /// Closes a file that has been quiet for so long; its position stays.
    pub(super) fn close_if_quiet(&mut self, now: Instant, after: Duration) {
        let is_waiting = self.put_off.is_some() || !self.waiting.is_empty();
        if now.duration_since(self.quiet_since) >= after && !is_waiting {
            self.close();
        }
    }

    fn close(&mut self) {
        self.waiting.clear();
        if self.open.is_some()
            && let Some(position) = self.position()
        {
            self.begin = Begin::At(position);
            self.open = None;
        }
    }

    /// Reads the next block that holds a line. Until a batch is accepted, the same lines come again. Of lines that may go on
    /// in what follows, `ask` says how many are left for later; without it none is.
    ///
    /// # Errors
    /// What the system says of the file. What was delivered is not affected; the next step tries again.
    pub fn step(&mut self, now: Instant, now_ns: i64, ask: Option<Ask<'_>>) -> io::Result<Step> {
        let step = self.try_step(now, now_ns, ask);
        if step.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StaleNetworkFileHandle) {
            // The server has forgotten the open file; by its path or a rotated name it can be found again.
            self.close();
        }
        step
    }

    fn try_step(&mut self, now: Instant, now_ns: i64, ask: Option<Ask<'_>>) -> io::Result<Step> {
        self.read_up = None;
        loop {
            self.begin_repeat();
            if self.open.is_none() {
                self.open_next()?;
                self.quiet_since = now;
            }
            if self.open.is_none() {
                return Ok(Step::Idle);
            }
            self.look_at_put_off(now, ask.is_some());
            if let Some(chunk) = self.read(Ending::Open, now_ns, ask.map(|ask| (now, ask)))? {
                self.quiet_since = now;
                return Ok(Step::Batch(chunk));
            }
            self.say_trouble();
            let is_superseded = self.is_superseded()?;
            // It was truncated: another one is opened.
            let Some(open) = self.open.as_mut() else { continue };
            let is_complete = open.content.is_complete();
            // Who has opened two new files since writes to this one no more.
            let is_finished = is_complete
                || self.waiting.len() > 1
                || now.duration_since(self.quiet_since) >= ROTATION_GRACE;
            if !(is_complete || is_superseded && is_finished) {
                return Ok(self.idle());
            }
            let is_torn = open.content.is_torn();
            let last = if is_torn { None } else { self.read(Ending::Final, now_ns, None)? };
            if let Some(chunk) = last {
                return Ok(Step::Batch(chunk));
            }
            if !is_superseded {
                return Ok(self.idle());
            }
            self.finish_file()?;
        }
    }

    /// Nothing to read now: only what the next look needs is kept.
    fn idle(&mut self) -> Step {
        if let Some(open) = self.open.as_mut() {
            if matches!(open.content, Content::Plain(_)) {
                open.head = Bytes::new();
            }
            self.read_up = open.compared;
        }
        Step::Idle
    }

    fn say_trouble(&mut self) {
        if let Some(trouble) = self.open.as_mut().and_then(|open| open.content.poll_trouble()) {
            self.metrics.read_errors.fetch_add(1, Relaxed);
            tracing::warn!(path = %self.path.display(), error = %trouble,
                "a compressed file ends too early, its last lines may be missing");
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
        Ok(self.read(Ending::Final, now_ns, None)?.map_or(Step::Idle, Step::Batch))
    }

    /// The chunk is in custody.
    pub fn handle_accepted(&mut self, chunk: &Chunk) {
        let open = self.open.as_mut().expect("a chunk comes from an open file, which stays open");
        open.follower.handle_accepted(chunk, &open.head);
        self.accepted += 1;
        self.is_told = true;
        self.metrics.cut_lines.fetch_add(chunk.cut as u64, Relaxed);
        self.file_metrics.read_bytes.fetch_add(chunk.to - chunk.from, Relaxed);
        self.file_metrics.read_lines.fetch_add(chunk.lines.len() as u64, Relaxed);
    }

    fn read(
        &mut self,
        ending: Ending,
        now_ns: i64,
        ask: Option<(Instant, Ask<'_>)>,
    ) -> io::Result<Option<Chunk>> {
        let Some(seen) = self.compare()? else { return Ok(None) };
        self.read_seen(seen, ending, now_ns, ask)
    }

    /// Reads what was seen. What is read of a file that was truncated and written again since is not given: the next look tells.
    fn read_seen(
        &mut self,
        seen: Seen,
        ending: Ending,
        now_ns: i64,
        ask: Option<(Instant, Ask<'_>)>,
    ) -> io::Result<Option<Chunk>> {
        let Some(open) = self.open.as_mut() else { return Ok(None) };
        loop {
            let range = match ending {
                Ending::Open => open.follower.poll_read(),
                Ending::Final => open.follower.poll_rest(),
            };
            let Some(range) = range else { return Ok(None) };
            let bytes = open.content.read(range)?;
            if open.content.look()? != seen && !open.follower.continues(&open.content.read_head()?) {
                return Ok(None);
            }
            let is_empty = bytes.is_empty();
            let is_repeated = open.follower.is_repeated();
            let chunk = open.follower.handle_read(&bytes, ending, now_ns);
            if chunk.is_none() && !is_empty {
                // The end of a compressed file is known once it was seen. One that ends before the position is torn.
                let size = open.content.size(&seen);
                if size >= open.follower.position().offset {
                    open.follower.handle_size(size);
                }
                continue;
            }
            let Some(chunk) = chunk else { return Ok(None) };
            let can_wait = !is_repeated && open.follower.has_room_behind(&bytes);
            let unfinished = ask.filter(|_| can_wait).and_then(|(now, ask)| Some((now, ask(&chunk)?)));
            let Some((now, unfinished)) = unfinished else {
                self.put_off = None;
                return Ok(Some(chunk));
            };
            return Ok(PutOff::shorten(
                &mut self.put_off,
                &mut open.follower,
                chunk,
                &bytes,
                now,
                unfinished,
            ));
        }
    }

    /// Lines that have waited long enough are read again, and taken as they are.
    fn look_at_put_off(&mut self, now: Instant, may_wait: bool) {
        if let (Some(put_off), Some(open)) = (self.put_off, &mut self.open)
            && (put_off.has_waited(now) || !may_wait)
        {
            open.follower.handle_waited();
        }
    }

    /// Compares the open file with what was read of it; `None`: it was truncated, and what is to be read is to be found again.
    fn compare(&mut self) -> io::Result<Option<Seen>> {
        let Some(open) = self.open.as_mut() else { return Ok(None) };
        let before = open.follower.position();
        let seen = open.content.look()?;
        self.file_metrics.file_bytes.store(seen.size, Relaxed);
        let is_changed = open.compared.is_some_and(|compared| compared != seen);
        if let (true, true, Begin::At(last)) = (is_changed, before.is_blank(), self.begin) {
            // It was empty. It may have been written, copied and truncated since, even several times.
            let located = content::locate(&self.path, self.reading.format, &last)?;
            let newer = located.newer;
            // Without the file before it, or if it is the first, what comes next is not known to be anything else.
            let is_known = located.file.is_some() && last.identity.inode != seen.identity.inode;
            if is_known && newer.front().is_some_and(|first| first.seen.identity != seen.identity) {
                self.claims.leave(before);
                self.open = None;
                self.waiting.clear();
                self.wait_for(newer, last.last_ns);
                return Ok(None);
            }
        }
        if is_changed {
            open.content.handle_change()?;
        }
        if is_changed || open.head.is_empty() {
            open.head = open.content.read_head()?;
        }
        let mut growth = Growth::Continues;
        if open.compared != Some(seen) {
            growth = open.follower.handle_head(&open.head);
        }
        if growth == Growth::Continues && open.content.size(&seen) < before.offset && !open.content.is_torn()
        {
            growth = Growth::Truncated;
        } else if growth == Growth::Continues && open.content.size(&seen) >= before.offset {
            growth = open.follower.handle_size(open.content.size(&seen));
        }
        open.compared = Some(seen);
        if growth == Growth::Continues {
            return Ok(Some(seen));
        }
        self.metrics.truncations.fetch_add(1, Relaxed);
        tracing::info!(path = %self.path.display(), "file was truncated, reading from its beginning");
        // What was written to it since the last look is in the copy that was made of it, if one was.
        self.claims.leave(before);
        self.waiting.clear();
        self.open = None;
        self.begin = Begin::At(before);
        Ok(None)
    }

    /// Whether there is something to read after the open file.
    fn is_superseded(&mut self) -> io::Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        if !self.waiting.is_empty() {
            return Ok(true);
        }
        let position = open.follower.position();
        let Ok(seen) = disk::look(&self.path) else { return Ok(false) };
        if seen.identity == position.identity || seen.size > 0 || self.empty == Some(seen) {
            return Ok(seen.identity != position.identity && seen.size > 0);
        }
        // The program may go on with the old file. Or there was another one between the two.
        let newer = content::locate(&self.path, self.reading.format, &position)?.newer;
        self.empty = Some(seen);
        let has_lines = newer.iter().any(|opened| opened.seen.size > 0);
        if has_lines {
            self.wait_for(newer, position.last_ns);
        }
        Ok(has_lines)
    }

    /// The open file is read to its end and another is at its path.
    fn finish_file(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let position = open.follower.position();
        self.metrics.rotations.fetch_add(1, Relaxed);
        tracing::debug!(path = %self.path.display(), inode = position.identity.inode, "file was rotated");
        self.begin = Begin::At(position);
        self.claims.leave(position);
        if self.waiting.is_empty() {
            // There may have been several rotations since it was opened.
            let located = content::locate(&self.path, self.reading.format, &position)?;
            self.wait_for(located.newer, position.last_ns);
        }
        Ok(())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        match &self.open {
            Some(open) => self.claims.leave(open.follower.position()),
            None => self.position().into_iter().for_each(|position| self.claims.leave(position)),
        }
        self.metrics.close(&self.path.to_string_lossy());
    }
}

mod opening;
#[cfg(test)]
mod tests;
