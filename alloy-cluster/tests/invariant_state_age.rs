//! Invariant: a state that a key starts with is never older than what its successor had acknowledged.
//!
//! One fault at a time: if owner and successor die together, the state dies with them.

mod chaos;

use std::collections::BTreeMap;

use alloy_cluster::testing::{Network, NetworkOptions};
use alloy_cluster::{Key, Phase};
use chaos::{Chaos, ms, seeds};
use rand::RngExt;

/// The newest count of each key that a successor has acknowledged.
#[derive(Default)]
struct Acknowledged {
    counts: BTreeMap<Key, u64>,
    checked: usize,
}

impl Acknowledged {
    fn look(&mut self, network: &Network) {
        for start in &network.started()[self.checked..] {
            let least = self.counts.get(&start.key).copied().unwrap_or(0);
            assert!(start.count >= least, "{start:?}, and {least} was acknowledged\n{}", network.describe());
        }
        self.checked = network.started().len();
        for name in network.names() {
            let handover = network.handover(name.as_str());
            for status in handover.statuses() {
                let Some(replicated) = status.replicated else { continue };
                let Some((version, state)) = handover.state(status.key) else { continue };
                let count = u64::from_le_bytes(state.as_ref().try_into().expect("a count"));
                // Each update counts one further.
                assert_eq!(version.term, replicated.term, "seed of an earlier owner: {status:?}");
                let count = count - (version.sequence - replicated.sequence);
                let newest = self.counts.entry(status.key).or_default();
                *newest = count.max(*newest);
            }
        }
    }
}

#[test]
fn a_start_is_never_older_than_what_was_acknowledged() {
    let mut starts = 0;
    for seed in seeds(200) {
        let mut chaos = Chaos::settled(seed, NetworkOptions::bad(seed));
        let mut acknowledged = Acknowledged { checked: chaos.network.started().len(), ..Default::default() };
        acknowledged.look(&chaos.network);
        for _ in 0..4 {
            let name = chaos.some();
            match chaos.random.random_range(0..4) {
                0 => chaos.network.crash(&name),
                1 => chaos.network.start(&name),
                2 => chaos.network.set_phase(&name, Phase::Leaving),
                _ => chaos.network.leave(&name),
            }
            let pause = ms(chaos.random.random_range(100..6000));
            chaos.run(pause, |network| acknowledged.look(network));
            chaos.heal();
            let mut waited = 0;
            while !(chaos.network.agrees() && chaos.network.is_settled()) {
                chaos.run(ms(20), |network| acknowledged.look(network));
                waited += 1;
                assert!(waited < 2000, "{}", chaos.describe());
            }
            // The copies of the new owners reach their successors.
            chaos.run(ms(3000), |network| acknowledged.look(network));
        }
        starts += chaos.network.started().len();
        let alive = acknowledged.counts.len();
        assert_eq!(alive, chaos::KEYS as usize, "seed {seed}: every key was acknowledged some time");
    }
    println!("{starts} starts");
}
