//! Invariant: no two nodes act on one key while their views agree and their link works.

mod chaos;

use std::time::Duration;

use alloy_cluster::Phase;
use alloy_cluster::testing::{Network, NetworkOptions};
use chaos::{Chaos, ms, seeds};
use rand::RngExt;

/// After a disagreement or a fault two may act for so long: the reminder of the one that acts to the one that owns
/// (2 s), the claim and its repetitions, and a stop.
const SETTLING: Duration = Duration::from_secs(10);

fn doubled(network: &Network) -> Option<String> {
    let actors = network.actors();
    actors.into_iter().find(|(_, actors)| actors.len() > 1).map(|(key, actors)| format!("{key}: {actors:?}"))
}

#[test]
fn planned_moves_never_have_two_owners() {
    for seed in seeds(200) {
        let mut chaos = Chaos::settled(seed, NetworkOptions::bad(seed));
        for _ in 0..4 {
            let name = chaos.some();
            if chaos.network.names().len() > 3 && chaos.runs(&name) {
                // Leaves in order: gives everything away, and goes.
                chaos.network.set_phase(&name, Phase::Leaving);
                let mut waits = 0;
                while !chaos.network.handover(&name).is_drained() {
                    chaos.run(ms(100), |network| assert_eq!(doubled(network), None, "seed {seed}"));
                    waits += 1;
                    assert!(waits < 400, "{}", chaos.describe());
                }
                chaos.network.leave(&name);
            } else if !chaos.runs(&name) {
                chaos.network.start(&name);
            }
            let pause = ms(chaos.random.random_range(100..5000));
            chaos.run(pause, |network| assert_eq!(doubled(network), None, "seed {seed}"));
        }
    }
}

#[test]
fn after_faults_two_owners_end_soon_and_stay_away() {
    for seed in seeds(200) {
        let mut chaos = Chaos::settled(seed, NetworkOptions::bad(seed));
        for _ in 0..8 {
            chaos.fault();
            let pause = ms(chaos.random.random_range(50..6000));
            chaos.run(pause, |_| {});
        }
        chaos.heal();
        let mut agreed_since = None;
        let end = chaos.network.now() + ms(45_000);
        while chaos.network.now() < end {
            chaos.run(ms(20), |_| {});
            let now = chaos.network.now();
            if !chaos.network.agrees() {
                agreed_since = None;
                continue;
            }
            let since = *agreed_since.get_or_insert(now);
            if now > since + SETTLING {
                assert_eq!(doubled(&chaos.network), None, "{}", chaos.describe());
            }
        }
        assert!(agreed_since.is_some_and(|since| end > since + SETTLING), "{}", chaos.describe());
    }
}
