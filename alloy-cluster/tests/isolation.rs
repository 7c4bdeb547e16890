//! A node that hears nobody does not take over everything at once: it keeps to its view for a bounded time.

use std::time::Duration;

use alloy_cluster::testing::{Network, NetworkOptions};
use alloy_cluster::{ClusterEvent, Key, Timing};

const KEYS: Key = 40;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn cluster(options: NetworkOptions, count: usize) -> Network {
    let mut network = Network::new(options, KEYS);
    for index in 0..count {
        network.start(&format!("node-{index}"));
    }
    network.run_until("settled", ms(30_000), |network| network.agrees() && network.is_settled());
    network.run_for(ms(3000), |_| {});
    network
}

fn was_told(network: &Network, name: &str, is_it: fn(&ClusterEvent) -> bool) -> bool {
    network.events(name).iter().any(is_it)
}

#[test]
fn a_node_that_hears_nobody_keeps_to_its_keys_for_a_bounded_time() {
    for seed in 0..40 {
        for count in [3, 5] {
            let mut network = cluster(NetworkOptions::healthy(seed), count);
            let before = network.handover("node-0").acting();
            network.partition(&["node-0"]);
            network.run_for(ms(14_000), |network| {
                assert_eq!(network.handover("node-0").acting(), before, "seed {seed}: it takes over nothing");
                assert_eq!(network.view("node-0").members().len(), count);
            });
            // The others have not waited.
            assert_eq!(network.view("node-1").members().len(), count - 1, "seed {seed}");
            assert!(was_told(&network, "node-0", |event| matches!(event, ClusterEvent::Isolated { .. })));
            network.run_until("it goes on alone", ms(20_000), |network| {
                network.handover("node-0").acting() == KEYS as usize
            });
            network.heal();
            network.run_until("all agree", ms(20_000), |network| network.agrees() && network.is_settled());
        }
    }
}

#[test]
fn whoever_is_reached_again_in_time_has_never_been_alone() {
    for seed in 0..40 {
        let mut network = cluster(NetworkOptions::healthy(seed), 4);
        network.partition(&["node-0"]);
        network.run_for(ms(9_000), |_| {});
        network.heal();
        network.run_for(ms(15_000), |network| {
            assert!(network.view("node-0").members().len() >= 2, "seed {seed}: {}", network.describe());
        });
        assert!(network.agrees() && network.is_settled(), "seed {seed}: {}", network.describe());
        assert!(was_told(&network, "node-0", |event| matches!(event, ClusterEvent::Reconnected)));
    }
}

#[test]
fn of_two_nodes_one_that_dies_is_replaced_at_once() {
    for seed in 0..20 {
        let mut network = cluster(NetworkOptions::healthy(seed), 2);
        network.crash("node-1");
        let took = network.run_until("taken over", ms(10_000), |network| {
            network.handover("node-0").acting() == KEYS as usize
        });
        assert!(took < ms(4_000), "seed {seed}: {took:?}");
    }
}

#[test]
fn without_patience_a_node_goes_on_alone_at_once() {
    let timing = Timing { isolation_patience: Duration::ZERO, ..Timing::lan() };
    let mut network = cluster(NetworkOptions { timing, ..NetworkOptions::healthy(1) }, 3);
    network.partition(&["node-0"]);
    network.run_until("it goes on alone", ms(8_000), |network| network.view("node-0").members().len() == 1);
    assert!(!was_told(&network, "node-0", |event| matches!(event, ClusterEvent::Isolated { .. })));
}
