//! Each node watches the next two in the order of names.
//!
//! SWIM probes at random: on average a crash is found within one interval, but in one of a hundred cases it takes
//! five. With a watcher for every node the time has a bound, whatever the size of the cluster, for two small packets
//! per watched node and interval. The random probes stay: they find those whose watchers are cut off.

use std::time::{Duration, Instant};

use crate::node::Identity;

/// How many each node watches: two may die at once.
const WATCHED: usize = 2;

#[derive(Default)]
pub(super) struct Watch {
    targets: Vec<(Identity, Instant)>,
}

impl Watch {
    /// Sets who is there, in the order of names; those watched before keep their time.
    pub(super) fn follow(&mut self, now: Instant, me: &Identity, members: &[Identity]) {
        let after = members.iter().filter(|member| member.name > me.name);
        let before = members.iter().filter(|member| member.name < me.name);
        let next: Vec<Identity> = after.chain(before).take(WATCHED).cloned().collect();
        let heard = |identity: &Identity| {
            let known = self.targets.iter().find(|(target, _)| target == identity);
            known.map_or(now, |(_, at)| *at)
        };
        self.targets = next.into_iter().map(|identity| (identity.clone(), heard(&identity))).collect();
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &Identity> {
        self.targets.iter().map(|(identity, _)| identity)
    }

    /// It lives.
    pub(super) fn heard(&mut self, now: Instant, from: &Identity) {
        for (identity, at) in &mut self.targets {
            if identity == from {
                *at = now;
            }
        }
    }

    /// This node itself was stalled: nobody is to blame for the silence.
    pub(super) fn forgive(&mut self, now: Instant) {
        for (_, at) in &mut self.targets {
            *at = now;
        }
    }

    /// Those who have been silent for too long.
    pub(super) fn silent(&self, now: Instant, patience: Duration) -> Vec<Identity> {
        let silent = self.targets.iter().filter(|(_, at)| now > *at + patience);
        silent.map(|(identity, _)| identity.clone()).collect()
    }
}
