//! What callers of [`Handover`](super::Handover) see: options, events, origins, versions, status.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{Key, NodeName};

/// The longest state of one key.
pub const STATE_BYTES_MAX: usize = 64 * 1024;

/// Times of the handover. The same on all nodes, or nearly so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoverOptions {
    /// How long an asked node may stay silent before its answer is given up. Default 5 s.
    pub claim_timeout: Duration,
    /// How long a claim may last in all, though the asked node says that it is not done. Default 30 s.
    pub claim_patience: Duration,
    /// After this a claim that is not answered is sent again. Default 500 ms.
    pub resend_interval: Duration,
    /// How often changed states go to the successors: the most a crash can lose. Default 250 ms.
    pub replicate_interval: Duration,
    /// How much a successor trusts its copy when the owner is gone. Default [`Trust::Copy`].
    pub trust: Trust,
    /// After this a key that acts here, is owned elsewhere and is not claimed counts as unclaimed. Default 10 s.
    pub unclaimed_after: Duration,
    /// How long the state of a key that is in no set is kept. Default 10 min.
    pub forget_after: Duration,
    /// How many keys may be known beyond the set: their states came from nodes that know more. Default 10,000.
    pub unknown_keys_max: usize,
}

/// What a successor does when the owner of a key is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// It starts at once with the copy that it holds. If it has been the successor for less than a replicate interval,
    /// another member may have held a newer one.
    #[default]
    Copy,
    /// It asks all members first and takes the newest copy: one round trip more.
    Members,
}

impl Default for HandoverOptions {
    fn default() -> Self {
        HandoverOptions {
            claim_timeout: Duration::from_secs(5),
            claim_patience: Duration::from_secs(30),
            resend_interval: Duration::from_millis(500),
            replicate_interval: Duration::from_millis(250),
            trust: Trust::default(),
            unclaimed_after: Duration::from_secs(10),
            forget_after: Duration::from_secs(600),
            unknown_keys_max: 10_000,
        }
    }
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Begin to act on the key, from this state.
    Start {
        /// What to act on.
        key: Key,
        /// Where to go on, as an owner before has left it.
        state: Option<Bytes>,
        /// Where the state comes from.
        origin: Origin,
    },
    /// Stop acting on the key, flush, and then call [`handle_stopped`](super::Handover::handle_stopped):
    /// the next owner waits for it.
    Stop {
        /// What to stop.
        key: Key,
    },
}

/// Where the state at a start comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody had any.
    Fresh,
    /// The owner before has stopped and handed it over: it is exact.
    Handed {
        /// Who.
        from: NodeName,
    },
    /// The owner before is gone, or did not answer: this is the copy that it had sent out.
    Replica {
        /// Whose state it was.
        of: NodeName,
        /// When this node received the copy; `None` if it came from a third node.
        last_heard: Option<Instant>,
    },
    /// This node's own, of earlier in this life or offered from its disk.
    Restored,
}

/// Which of two states of a key is the newer. Grows with each change of owner (`term`) and with each update
/// (`sequence`, from 0 in each term).
///
/// Term 0 is an owner that had to start without knowing whether there was a state: any other state beats it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Counts the owners.
    pub term: u64,
    /// Counts the updates by one owner.
    pub sequence: u64,
}

/// What a node does about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activity {
    /// Nothing: somebody else acts on it, or nobody needs to.
    Idle,
    /// It owns the key and asks those who may act on it to let go.
    Claiming,
    /// It acts: between `Start` and `Stop`.
    Acting,
    /// It was told to stop and has not yet said that it has.
    Stopping,
}

impl Activity {
    /// The word for people and labels: `idle`, `claiming`, `acting`, `stopping`.
    pub fn as_str(self) -> &'static str {
        match self {
            Activity::Idle => "idle",
            Activity::Claiming => "claiming",
            Activity::Acting => "acting",
            Activity::Stopping => "stopping",
        }
    }
}

/// What is known about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// The key.
    pub key: Key,
    /// Who owns it in this node's view.
    pub owner: Option<NodeName>,
    /// Who holds a copy, and is likely to own it next.
    pub successor: Option<NodeName>,
    /// What this node does about it.
    pub activity: Activity,
    /// Whose key it is, if this node acts on it because its owner cannot.
    pub stands_in_for: Option<NodeName>,
    /// Since when it does that.
    pub since: Instant,
    /// Since when this node acts on it though another owns it, if so.
    pub misplaced_since: Option<Instant>,
    /// While this node acts on it: the newest version that its successor has acknowledged. A crash costs what came after.
    pub replicated: Option<Version>,
    /// Whose answers a claim waits for.
    pub waiting_for: Vec<NodeName>,
    /// The version of the newest state that is known here.
    pub version: Option<Version>,
}

/// What has been counted since the start, and what is so now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HandoverStats {
    /// Keys known here, of the set and beyond.
    pub keys: usize,
    /// Keys this node acts on.
    pub acting: usize,
    /// Keys this node is asking for.
    pub claiming: usize,
    /// Keys the caller has been told to stop.
    pub stopping: usize,
    /// Keys this node acts on though another owns them.
    pub misplaced: usize,
    /// Of those, the ones that nobody claimed within `unclaimed_after`.
    pub unclaimed: usize,
    /// Keys of this node on which others act for it.
    pub lent: usize,
    /// Keys of others on which this node acts for them.
    pub borrowed: usize,
    /// Starts with a state that was handed over.
    pub started_handed: u64,
    /// Starts with a copy.
    pub started_replica: u64,
    /// Starts with a state of this node's own.
    pub started_restored: u64,
    /// Starts without a state.
    pub started_fresh: u64,
    /// Claims that were given up because somebody did not answer.
    pub claims_expired: u64,
    /// Times two nodes were found to act on one key, and this one, the owner, took the newer state.
    pub conflicts: u64,
    /// Messages that were damaged, or from nodes not in the view.
    pub messages_refused: u64,
    /// States longer than [`STATE_BYTES_MAX`], which were not taken.
    pub states_refused: u64,
}
