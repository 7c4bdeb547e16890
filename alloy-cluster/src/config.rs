//! How fast the failure detector is.

use std::time::Duration;

/// Times of the failure detector. All members of a cluster should have the same.
///
/// The time until a killed member is known down is: the wait until somebody probes it (up to 2 probe intervals,
/// half of one on average) + one probe interval + the suspicion + one gossip interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often each node probes another. Default 500 ms; sensible 200 ms to 5 s.
    pub probe_interval: Duration,
    /// How long a direct answer may take before others are asked to try. Default 200 ms; less than
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
    /// For a local network: a killed member is known down within about 2 s, 3 s at worst.
    pub const fn lan() -> Self {
        Timing {
            probe_interval: Duration::from_millis(500),
            probe_timeout: Duration::from_millis(200),
            suspicion: Duration::from_millis(1000),
            gossip_interval: Duration::from_millis(100),
            reconnect_interval: Duration::from_secs(2),
            forget_after: Duration::from_secs(3600),
        }
    }

    /// Over long distances: a killed member is known down within about 15 s.
    pub const fn wan() -> Self {
        Timing {
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
