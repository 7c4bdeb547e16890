//! Lines that are left in the file for later, because a receiver joins them with those that follow.

use bytes::Bytes;
use tokio::time::Instant;

use super::follower::{Chunk, Ending, Follower};
use crate::graph::Unfinished;

/// What receivers would rather have later.
pub type Ask<'a> = &'a dyn Fn(&Chunk) -> Option<Unfinished>;

/// Lines that may go on in what follows, left for later.
#[derive(Debug, Clone, Copy)]
pub(super) struct PutOff {
    /// Where the first of them begins.
    from: u64,
    /// How long they wait.
    until: Instant,
}

impl PutOff {
    /// Whether it is no use to wait any longer.
    pub(super) fn has_waited(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Leaves out the lines that are better taken with what follows, unless they have waited long enough for it.
    pub(super) fn shorten(
        put_off: &mut Option<PutOff>,
        follower: &mut Follower,
        chunk: Chunk,
        bytes: &Bytes,
        now: Instant,
        unfinished: Unfinished,
    ) -> Option<Chunk> {
        let count = unfinished.from;
        let (ending, now_ns) = (Ending::Open, chunk.base_ns);
        let shorter = (count > 0).then(|| follower.handle_read_of(bytes, ending, now_ns, count)).flatten();
        let from = shorter.as_ref().map_or(chunk.from, |shorter| shorter.to);
        match put_off {
            Some(waiting) if waiting.from == from && waiting.has_waited(now) => {
                *put_off = None;
                return follower.handle_read_of(bytes, ending, now_ns, usize::MAX);
            }
            Some(waiting) if waiting.from == from => {}
            _ => *put_off = Some(PutOff { from, until: now + unfinished.wait }),
        }
        if shorter.is_none() {
            follower.handle_put_off(bytes);
        }
        shorter
    }
}
