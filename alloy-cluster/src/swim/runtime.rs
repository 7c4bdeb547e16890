//! How foca is configured, and what it puts out.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Notification, PeriodicParams, Timer};

use crate::config::Timing;
use crate::node::Identity;
use crate::packet::{ENVELOPE_BYTES, PACKET_BYTES_MAX};
use crate::seal::SEAL_BYTES;

/// How often each node passes on one piece of news: 4 * log10(n + 1), of n members all but e^-12 hear of it. 6 for up to
/// 30 members, 12 for 1,000.
pub(super) fn transmissions(members: usize) -> u8 {
    let enough = (4.0 * (members as f64 + 1.0).log10()).ceil();
    (enough as u8).clamp(6, 24)
}

pub(super) fn foca_config(timing: &Timing, transmissions: u8) -> foca::Config {
    let count = |count| NonZeroUsize::new(count).expect("the counts below are not zero");
    foca::Config {
        probe_period: timing.probe_interval,
        probe_rtt: timing.probe_timeout,
        num_indirect_probes: count(3),
        max_transmissions: NonZeroU8::new(transmissions.max(1)).expect("it is at least 1"),
        suspect_to_down_after: timing.suspicion,
        remove_down_after: Some(timing.forget_after),
        max_packet_size: count(PACKET_BYTES_MAX - ENVELOPE_BYTES - SEAL_BYTES),
        // NOTE: with foca's own suspicion timers this tells members that they are down although they have objected in
        // time (`docs/upstream`). Ours are used instead (`suspicion.rs`), and then it is only said to the dead.
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams {
            frequency: timing.probe_interval * 12,
            num_members: count(1),
        }),
        // Ours goes on while we know nobody alive, and spares those who said goodbye.
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams { frequency: timing.gossip_interval, num_members: count(3) }),
    }
}

/// What foca puts out during one call.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) packets: Vec<(Identity, Vec<u8>)>,
    pub(super) timers: Vec<(Timer<Identity>, Duration)>,
    pub(super) changed: bool,
    pub(super) rejoined: bool,
}

impl foca::Runtime<Identity> for Collected {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        self.changed = true;
        self.rejoined |= matches!(notification, Notification::Rejoin(_));
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.packets.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((event, after));
    }
}
