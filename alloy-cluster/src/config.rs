//! How fast the failure detector is.

use std::time::Duration;

/// Times of the failure detector. All members of a cluster should have the same.
///
/// A killed member is known down after at most: 4 watch intervals + the suspicion + two round trips of gossip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often each node asks the two that it watches whether they live; three silent intervals raise a suspicion.
    /// Default 300 ms; sensible 200 ms to 3 s.
    pub watch_interval: Duration,
    /// How often each node also probes a member at random. Default 1 s; sensible 500 ms to 5 s.
    pub probe_interval: Duration,
    /// How long a direct answer may take before others are asked to try. Default 500 ms; less than
    /// `probe_interval`, more than the round trip.
    pub probe_timeout: Duration,
    /// How long a suspect may object, in a cluster of up to 10; grows with the logarithm of the size (twice as
    /// long at 100). A node that stalls for less is never declared down. Default 1 s.
    pub suspicion: Duration,
    /// How often news is passed on. Default 100 ms.
    pub gossip_interval: Duration,
    /// How often nodes that are down are tried again, so that a partition heals. Default 2 s.
    pub reconnect_interval: Duration,
    /// How long a dead member is remembered. Default 1 h; long, or old news revives the dead.
    pub forget_after: Duration,
}

impl Timing {
    /// For a local network: a killed member is known down within 2.3 s.
    pub const fn lan() -> Self {
        Timing {
            watch_interval: Duration::from_millis(300),
            probe_interval: Duration::from_millis(1000),
            probe_timeout: Duration::from_millis(500),
            suspicion: Duration::from_millis(1000),
            gossip_interval: Duration::from_millis(100),
            reconnect_interval: Duration::from_secs(2),
            forget_after: Duration::from_secs(3600),
        }
    }

    /// Over long distances: a killed member is known down within about 13 s.
    pub const fn wan() -> Self {
        Timing {
            watch_interval: Duration::from_millis(1500),
            probe_interval: Duration::from_secs(3),
            probe_timeout: Duration::from_secs(1),
            suspicion: Duration::from_secs(6),
            gossip_interval: Duration::from_millis(500),
            reconnect_interval: Duration::from_secs(10),
            forget_after: Duration::from_secs(3600),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Timing::lan()
    }
}
