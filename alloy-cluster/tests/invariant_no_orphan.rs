//! Invariant: no key is without an acting owner for longer than T.
//!
//! T after a single crash is 2.4 s until the first knows, a few rounds of gossip, and the claim: 4.5 s with 5 % loss.
//! T after several faults adds the claim's timeout (5 s), once for each that died with a question, and for a node that hears
//! nobody its patience (15 s).

mod chaos;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alloy_cluster::Key;
use alloy_cluster::testing::{Network, NetworkOptions};
use chaos::{Chaos, ms, seeds};
use rand::RngExt;

const AFTER_CRASH: Duration = Duration::from_millis(4500);
const AFTER_FAULTS: Duration = Duration::from_secs(25);

#[derive(Default)]
struct Orphans {
    since: BTreeMap<Key, Instant>,
}

impl Orphans {
    /// The key that has been without an owner for longest, and for how long.
    fn look(&mut self, network: &Network, not_before: Instant) -> (Duration, Key) {
        let now = network.now();
        for (key, actors) in network.actors() {
            match actors.is_empty() {
                true => drop(self.since.entry(key).or_insert(now)),
                false => drop(self.since.remove(&key)),
            }
        }
        let longest = self.since.iter().map(|(key, since)| (now - (*since).max(not_before), *key));
        longest.max().unwrap_or_default()
    }
}

#[test]
fn a_crash_orphans_no_key_for_long() {
    let mut worst = Duration::ZERO;
    for seed in seeds(200) {
        let mut chaos = Chaos::settled(seed, NetworkOptions::bad(seed));
        let name = chaos.some();
        chaos.network.crash(&name);
        let crashed = chaos.network.now();
        let mut orphans = Orphans::default();
        chaos.run(ms(8000), |network| {
            let (longest, key) = orphans.look(network, crashed);
            assert!(longest <= AFTER_CRASH, "seed {seed}: key {key}: {longest:?}\n{}", network.describe());
            worst = worst.max(longest);
        });
    }
    println!("longest time without an owner after a crash: {worst:?}");
}

#[test]
fn faults_orphan_no_key_for_long() {
    for seed in seeds(200) {
        let mut chaos = Chaos::settled(seed, NetworkOptions::bad(seed));
        let mut orphans = Orphans::default();
        for _ in 0..5 {
            chaos.fault();
            // Somebody has to be there to own: a node that was told to leave does not.
            let staying = chaos.some();
            if !chaos.runs(&staying) {
                chaos.network.start(&staying);
            }
            chaos.network.set_phase(&staying, alloy_cluster::Phase::Active);
            chaos.network.resume(&staying);
            let pause = ms(chaos.random.random_range(1000..40_000));
            let not_before = chaos.last_fault;
            chaos.run(pause, |network| {
                let (longest, key) = orphans.look(network, not_before);
                assert!(
                    longest <= AFTER_FAULTS,
                    "seed {seed}: key {key}: {longest:?}\n{}",
                    network.describe()
                );
            });
        }
    }
}
