//! Invariant: once faults have ended, all see exactly each other within 20 s, every key has its owner, and it stays so.

mod chaos;

use std::time::Duration;

use alloy_cluster::Phase;
use alloy_cluster::testing::{Network, NetworkOptions};
use chaos::{Chaos, ms, seeds};
use rand::RngExt;

#[test]
fn after_any_faults_views_are_equal_and_keys_are_owned() {
    let mut worst = Duration::ZERO;
    for seed in seeds(200) {
        let mut chaos = Chaos::settled(seed, NetworkOptions::bad(seed));
        for _ in 0..10 {
            chaos.fault();
            let pause = ms(chaos.random.random_range(50..8000));
            chaos.run(pause, |_| {});
        }
        chaos.heal();
        let all_active = |network: &Network| {
            let view = network.view("node-0");
            view.members().iter().all(|member| member.phase == Phase::Active)
        };
        let took = chaos.network.run_until("all in order", ms(60_000), |network| {
            network.agrees() && all_active(network) && network.is_settled()
        });
        assert!(took < ms(20_000), "{took:?} {}", chaos.describe());
        worst = worst.max(took);
        chaos.network.run_for(ms(2000), |_| {});
        chaos.run(ms(15_000), |network| {
            assert!(network.agrees() && network.is_settled(), "seed {seed}: {}", network.describe());
        });
    }
    println!("healed after at most {worst:?}");
}
