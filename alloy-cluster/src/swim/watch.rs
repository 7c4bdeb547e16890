//! Each node tells two others that it lives, and listens to two others that do the same.
//!
//! SWIM probes at random: on average a crash is found within one interval, but in one of a hundred cases it takes
//! five. With two watchers for every node the time has a bound, whatever the size of the cluster, for two small
//! packets per node and interval, and nobody has to answer. Only a watcher that misses a beat asks. The random probes
//! stay, more rarely: they find those whose watchers are gone or cut off.
//!
//! Who watches whom follows the hashes of the names around a circle: machines that die together often have names that
//! are sorted together, and must not be each other's only watchers.

use std::time::{Duration, Instant};

use crate::View;
use crate::node::Identity;

/// How many each node watches: two may die at once.
const WATCHED: usize = 2;
/// The watch is looked at so often in one interval.
pub(super) const TICKS: u32 = 4;

struct Target {
    identity: Identity,
    tag: u64,
    heard: Instant,
}

/// What a silence calls for.
pub(super) enum Silence {
    /// A beat is missing: ask.
    Doubt(Identity),
    /// No answer either.
    Suspect(Identity),
}

#[derive(Default)]
pub(super) struct Watch {
    targets: Vec<Target>,
    watchers: Vec<Identity>,
    ticks: u32,
}

impl Watch {
    /// Sets who is there; those watched before keep their time.
    pub(super) fn follow(
        &mut self,
        now: Instant,
        me: usize,
        view: &View,
        identity_of: impl Fn(usize) -> Option<Identity>,
    ) {
        let hashes = view.name_hashes();
        // The way around the circle from this node to each other; equal hashes are told apart by the order of names.
        let way = |index: usize| (hashes[index].wrapping_sub(hashes[me]), index);
        let mut others: Vec<_> = (0..hashes.len()).filter(|index| *index != me).map(way).collect();
        if others.len() > 2 * WATCHED {
            others.select_nth_unstable(WATCHED - 1);
            let last = others.len() - WATCHED;
            others[WATCHED..].select_nth_unstable(last - WATCHED);
        }
        let near = others.len().min(WATCHED);
        let identities =
            |some: &[(u64, usize)]| some.iter().filter_map(|(_, index)| identity_of(*index)).collect();
        let next: Vec<Identity> = identities(&others[..near]);
        self.watchers = identities(&others[others.len() - near..]);
        let before = std::mem::take(&mut self.targets);
        let heard = |identity: &Identity| {
            let known = before.iter().find(|target| target.identity == *identity);
            known.map_or(now, |target| target.heard)
        };
        let target = |identity: Identity| Target { heard: heard(&identity), tag: identity.tag(), identity };
        self.targets = next.into_iter().map(target).collect();
    }

    /// Who waits for this node's beat, if it is time for one.
    pub(super) fn beat(&mut self) -> &[Identity] {
        self.ticks = (self.ticks + 1) % TICKS;
        if self.ticks == 0 { &self.watchers } else { &[] }
    }

    /// It lives.
    pub(super) fn heard(&mut self, now: Instant, from: &Identity) {
        for target in self.targets.iter_mut().filter(|target| target.identity == *from) {
            target.heard = now;
        }
    }

    /// The node of that tag lives; says who that is, if it is watched.
    pub(super) fn heard_tag(&mut self, now: Instant, tag: u64) -> Option<Identity> {
        let target = self.targets.iter_mut().find(|target| target.tag == tag)?;
        target.heard = now;
        Some(target.identity.clone())
    }

    /// This node itself was stalled: nobody is to blame for the silence.
    pub(super) fn forgive(&mut self, now: Instant) {
        for target in &mut self.targets {
            target.heard = now;
        }
    }

    /// Those who are silent. A beat is missed after one interval; half an interval later they are asked, four times
    /// before they are suspected: with 5 % loss that takes one in 10 million beats.
    pub(super) fn silent(&self, now: Instant, interval: Duration) -> Vec<Silence> {
        let silence = |target: &Target| {
            let silent = now.saturating_duration_since(target.heard);
            let identity = target.identity.clone();
            match () {
                () if silent > silence_max(interval) => Some(Silence::Suspect(identity)),
                () if silent > interval * 3 / 2 => Some(Silence::Doubt(identity)),
                () => None,
            }
        };
        self.targets.iter().filter_map(silence).collect()
    }
}

/// How long a watched node may be silent.
pub(super) fn silence_max(interval: Duration) -> Duration {
    interval * 5 / 2
}
