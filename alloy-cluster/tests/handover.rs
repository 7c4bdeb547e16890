//! Keys change hands in virtual time: exactly in planned moves, nearly so after crashes, and in the end always.
//!
//! Each node counts on the keys it acts on, and the count is the state (see `testing::Network`).

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_cluster::testing::{Network, NetworkOptions};
use alloy_cluster::{Key, Origin, Phase};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KEYS: Key = 40;
const SEEDS: std::ops::Range<u64> = 0..8;

/// One replicate interval, one step of the counting, and the way there with one loss.
const REPLICA_AGE_MAX: u64 = (250 + 50 + 100) / 50 + 1;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn cluster(options: NetworkOptions, count: usize) -> Network {
    let mut network = Network::new(options, KEYS);
    for index in 0..count {
        network.start(&format!("node-{index}"));
    }
    network.run_until("settled", ms(30_000), Network::is_settled);
    network.run_for(ms(2000), |_| {});
    network
}

/// No key has two actors, ever.
fn check_single(network: &Network) {
    for (key, actors) in network.actors() {
        assert!(actors.len() <= 1, "key {key} has {actors:?}\n{}", network.describe());
    }
}

/// Every start since went on from the very last count.
fn check_exact(network: &Network, since: usize, counts: &BTreeMap<Key, u64>) {
    for start in &network.started()[since..] {
        let least = counts[&start.key];
        let handed = matches!(start.origin, Origin::Handed { .. });
        assert!(handed && start.count >= least, "{start:?}, at least {least}");
    }
}

fn counts(network: &Network) -> BTreeMap<Key, u64> {
    (0..KEYS).map(|key| (key, network.newest(key))).collect()
}

/// Steps that are planned: for each key the count at a start is the last one that was written.
fn run_exactly(network: &mut Network, what: &str) {
    let since = network.started().len();
    let before = counts(network);
    let mut checked = since;
    let mut newest = before.clone();
    let end = network.now() + ms(6000);
    while network.now() < end {
        network.run_for(ms(1), |network| {
            check_single(network);
            for start in &network.started()[checked..] {
                assert_eq!(start.count, newest[&start.key], "{what}: {start:?}");
            }
            checked = network.started().len();
            newest = counts(network);
        });
    }
    check_exact(network, since, &before);
    network.run_until(what, ms(1), Network::is_settled);
}

#[test]
fn a_join_takes_exact_states() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 3);
        let since = network.started().len();
        network.start("late");
        run_exactly(&mut network, "a join");
        assert!(network.started()[since..].iter().all(|start| start.node.as_str() == "late"), "seed {seed}");
        assert!(network.handover("late").acting() > 0, "seed {seed}");
    }
}

#[test]
fn a_leave_gives_exact_states() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 3);
        network.set_phase("node-1", Phase::Leaving);
        run_exactly(&mut network, "a leave");
        assert!(network.handover("node-1").is_drained(), "seed {seed}");
        let since = network.started().len();
        network.leave("node-1");
        network.run_for(ms(3000), check_single);
        assert_eq!(network.started().len(), since, "seed {seed}: a goodbye after that moves nothing");
    }
}

#[test]
fn a_rolling_restart_keeps_exact_states() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 3);
        for name in ["node-0", "node-1", "node-2"] {
            network.set_phase(name, Phase::Leaving);
            run_exactly(&mut network, "leaving");
            network.leave(name);
            network.run_for(ms(500), check_single);
            network.start(name);
            run_exactly(&mut network, "returning");
        }
    }
}

#[test]
fn planned_moves_are_exact_over_bad_links_too() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::bad(seed), 4);
        network.start("late");
        network.run_for(ms(10_000), check_single);
        network.run_until("the join is done", ms(20_000), Network::is_settled);
        let before = counts(&network);
        let since = network.started().len();
        network.set_phase("node-1", Phase::Leaving);
        network.run_for(ms(10_000), check_single);
        network.run_until("the leave is done", ms(20_000), Network::is_settled);
        for start in &network.started()[since..] {
            assert!(start.count >= before[&start.key], "seed {seed}: {start:?}");
        }
    }
}

#[test]
fn a_crash_costs_at_most_a_replicate_interval() {
    for zones in [0, 2] {
        for seed in SEEDS {
            let mut network = Network::new(NetworkOptions::healthy(seed), KEYS);
            for index in 0..4 {
                let zone = if zones == 0 { String::new() } else { format!("zone-{}", index % zones) };
                network.start_in(&format!("node-{index}"), &zone);
            }
            network.run_until("settled", ms(30_000), Network::is_settled);
            network.run_for(ms(5000 + seed * 13), |_| {});
            let since = network.started().len();
            let before = counts(&network);
            network.crash("node-1");
            let took = network.run_until("taken over", ms(6000), Network::is_settled);
            assert!(took < ms(3600), "seed {seed}: {took:?}");
            assert!(network.started().len() > since);
            for start in &network.started()[since..] {
                let lost = before[&start.key] - start.count;
                assert!(lost <= REPLICA_AGE_MAX, "seed {seed}: {lost} steps lost: {start:?}");
                assert!(matches!(start.origin, Origin::Replica { .. }), "seed {seed}: {start:?}");
            }
        }
    }
}

#[test]
fn a_killed_node_that_is_back_before_anybody_noticed_gets_its_states_back() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 3);
        network.run_for(ms(5000), |_| {});
        let before = counts(&network);
        let since = network.started().len();
        network.start("node-1");
        network.run_until("settled again", ms(5000), Network::is_settled);
        for start in &network.started()[since..] {
            let lost = before[&start.key].saturating_sub(start.count);
            assert!(lost <= REPLICA_AGE_MAX, "seed {seed}: {lost} steps lost: {start:?}");
        }
    }
}

#[test]
fn after_a_partition_one_owner_remains_with_the_newest_term() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 5);
        network.run_for(ms(2000), |_| {});
        let before = counts(&network);
        network.partition(&["node-0", "node-1"]);
        network.run_for(ms(20_000), |_| {});
        network.heal();
        network.run_until("settled again", ms(20_000), |network| network.agrees() && network.is_settled());
        network.run_for(ms(10_000), check_single);
        assert!(network.is_settled(), "seed {seed}: {}", network.describe());
        for (key, count) in counts(&network) {
            assert!(count > before[&key], "seed {seed}: key {key}");
        }
    }
}

/// Chaos, with one invariant: while views have agreed for long enough, nothing acts twice. Then heal, and everything
/// has to be in order within 20 s.
#[test]
fn after_any_chaos_every_key_has_one_owner() {
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut network = Network::new(NetworkOptions::bad(seed), KEYS);
        let names: Vec<String> = (0..6).map(|index| format!("node-{index}")).collect();
        for name in &names {
            network.start(name);
        }
        for _ in 0..12 {
            let name = &names[random.random_range(0..names.len())];
            let other = &names[random.random_range(0..names.len())];
            let runs = network.names().iter().any(|running| running.as_str() == name);
            match random.random_range(0..8) {
                0 => network.crash(name),
                1 if runs => network.leave(name),
                2 if runs => network.set_phase(name, Phase::Leaving),
                3 if runs => network.pause(name),
                4 => network.partition(&[name, other]),
                5 if random.random_bool(0.3) => network.heal(),
                _ => network.start(name),
            }
            network.run_for(ms(random.random_range(50..6000)), |_| {});
        }
        network.heal();
        for name in &names {
            if network.names().iter().any(|running| running.as_str() == name) {
                network.set_phase(name, Phase::Active);
            } else {
                network.start(name);
            }
        }
        let took =
            network.run_until("all in order", ms(40_000), |network| network.agrees() && network.is_settled());
        assert!(took < ms(20_000), "seed {seed}: {took:?}\n{}", network.describe());
        network.run_for(ms(15_000), |network| {
            check_single(network);
            assert!(network.is_settled(), "seed {seed}: {}", network.describe());
        });
    }
}
