//! Whether anybody can be heard at all.
//!
//! A node that hears nobody cannot tell whether all others have died or it is cut off. The second is by far the more
//! likely, and taking over all keys then is failing open: it acts on everything while the others do too. So it declares
//! nobody down for a bounded time, which keeps its view as it is.

use std::time::Instant;

use super::protocol::Swim;
use super::watch::silence_max;
use crate::ClusterEvent;

/// A single other that is silent is taken at its silence: of two nodes one is more likely dead than cut off.
const OTHERS_MIN: usize = 2;

pub(super) struct Isolation {
    heard: Instant,
    is_told: bool,
}

impl Isolation {
    pub(super) fn new(now: Instant) -> Self {
        Isolation { heard: now, is_told: false }
    }
}

impl Swim {
    /// A packet of another member has come.
    pub(super) fn hear(&mut self, now: Instant) {
        self.isolation.heard = now;
        if self.isolation.is_told {
            self.isolation.is_told = false;
            // Whoever was not heard meanwhile gets the usual time to be heard.
            self.watch.forgive(now);
            self.suspicions.grant(now, self.patience());
            self.push_event(ClusterEvent::Reconnected);
        }
    }

    /// Until when nobody is declared down, if nobody at all is heard.
    pub(super) fn isolated_until(&mut self, now: Instant) -> Option<Instant> {
        let heard = self.isolation.heard;
        let until = heard + self.timing.isolation_patience;
        let others = self.view.members().len() - 1;
        if others < OTHERS_MIN || now <= heard + silence_max(self.timing.watch_interval) || now >= until {
            return None;
        }
        if !self.isolation.is_told {
            self.isolation.is_told = true;
            self.stats.isolations += 1;
            self.push_event(ClusterEvent::Isolated { others, patience: until - now });
        }
        Some(until)
    }
}
