//! How fast the failure detector is.

use std::time::Duration;

/// Times of the failure detector. All members of a cluster should have the same.
///
/// A member that dies is known to be down by the first after at most 2.5 watch intervals and the suspicion; gossip tells
/// the others within half a second (10 members) or one second (1,000). A member that stalls for less than 1.5 watch
/// intervals and the suspicion is never declared down; one that stalls for longer is taken over, and comes back by
/// itself. The figures of each profile are measured in the simulator: see `docs/benchmarks.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often each node tells the two that watch it that it lives. Half an interval after a beat is missed they ask,
    /// and suspect it another interval later. Default 600 ms; sensible 200 ms to 3 s.
    pub watch_interval: Duration,
    /// How often each node also probes a member at random. Default 5 s; sensible 1 s to 10 s.
    pub probe_interval: Duration,
    /// How long a direct answer to that may take before others are asked to try. Default 500 ms; less than
    /// `probe_interval`, more than the round trip.
    pub probe_timeout: Duration,
    /// How long a suspect may object, in a cluster of up to 10; a quarter longer for each ten times as many. Default
    /// 900 ms; more than three round trips, for it is asked every 200 ms until the last moment.
    pub suspicion: Duration,
    /// How often news is passed on. Default 100 ms.
    pub gossip_interval: Duration,
    /// How often nodes that are down are tried again, so that a partition heals. Default 2 s, by each of up to 8 members;
    /// more members share the work.
    pub reconnect_interval: Duration,
    /// How long a node that hears nobody any more, and saw at least two others before, keeps to its view: more likely it
    /// is cut off than all others have died. It works on what it owns and takes over nothing. Default 15 s; 0 takes over
    /// everything at once. After it, this node is a cluster of one.
    pub isolation_patience: Duration,
    /// How long a dead member is remembered. Default 1 h; long, or old news revives the dead.
    pub forget_after: Duration,
}

impl Timing {
    /// For a local network. A crash is known to the first after 2.2 s on average, to all of 1,000 after 2.8 s; a stall of
    /// 1.8 s is forgiven; 3.8 packets and 190 bytes a second.
    pub const fn lan() -> Self {
        Timing {
            watch_interval: Duration::from_millis(600),
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_millis(500),
            suspicion: Duration::from_millis(900),
            gossip_interval: Duration::from_millis(100),
            reconnect_interval: Duration::from_secs(2),
            isolation_patience: Duration::from_secs(15),
            forget_after: Duration::from_secs(3600),
        }
    }

    /// For a local network of machines that are never short of CPU. A crash is known to the first after 1.0 s, to all of 100
    /// after 1.3 s; a stall of 0.7 s is forgiven; 9.4 packets and 530 bytes a second.
    pub const fn fast() -> Self {
        Timing {
            watch_interval: Duration::from_millis(250),
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_millis(300),
            suspicion: Duration::from_millis(500),
            gossip_interval: Duration::from_millis(80),
            ..Timing::lan()
        }
    }

    /// Over long distances: round trips of up to 500 ms. A crash is known to the first after 8 s; a stall of 6.5 s is
    /// forgiven; 1.7 packets and 90 bytes a second.
    pub const fn wan() -> Self {
        Timing {
            watch_interval: Duration::from_millis(1500),
            probe_interval: Duration::from_secs(8),
            probe_timeout: Duration::from_secs(2),
            suspicion: Duration::from_secs(5),
            gossip_interval: Duration::from_millis(300),
            reconnect_interval: Duration::from_secs(5),
            isolation_patience: Duration::from_secs(30),
            ..Timing::lan()
        }
    }

    /// For throttled containers and machines that are paused: a stall of 20 s is forgiven.
    pub const fn patient() -> Self {
        Timing {
            watch_interval: Duration::from_millis(1000),
            suspicion: Duration::from_secs(20),
            isolation_patience: Duration::from_secs(45),
            ..Timing::lan()
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Timing::lan()
    }
}
