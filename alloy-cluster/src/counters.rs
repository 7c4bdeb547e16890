//! What the edges count, shared between the handle, the driver and the links.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::SwimStats;

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// The membership protocol's.
    pub swim: SwimStats,
    /// Frames written to peers.
    pub frames_sent: u64,
    /// Frames read from peers.
    pub frames_received: u64,
    /// Messages not sent: the peer is not a member, its queue is full, or the message is too long.
    pub frames_dropped: u64,
    /// Links that did not begin as they should, or were of a cluster with another name.
    pub links_refused: u64,
    /// Datagrams that the system did not take.
    pub packets_failed: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) swim: Mutex<SwimStats>,
    pub(crate) frames_sent: AtomicU64,
    pub(crate) frames_received: AtomicU64,
    pub(crate) frames_dropped: AtomicU64,
    pub(crate) links_refused: AtomicU64,
    pub(crate) packets_failed: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            swim: *self.swim.lock().expect("no code panics while holding it"),
            frames_sent: self.frames_sent.load(Ordering::Relaxed),
            frames_received: self.frames_received.load(Ordering::Relaxed),
            frames_dropped: self.frames_dropped.load(Ordering::Relaxed),
            links_refused: self.links_refused.load(Ordering::Relaxed),
            packets_failed: self.packets_failed.load(Ordering::Relaxed),
        }
    }
}
