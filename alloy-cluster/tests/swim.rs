//! Membership in virtual time: who comes, goes, dies and returns is known to all within bounds.

use std::time::Duration;

use alloy_cluster::testing::{Network, NetworkOptions};
use alloy_cluster::{ClusterEvent, NodeName, Phase};

const SEEDS: std::ops::Range<u64> = 0..12;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn cluster(options: NetworkOptions, count: usize) -> Network {
    let mut network = Network::new(options, 0);
    for index in 0..count {
        network.start(&format!("node-{index}"));
    }
    network.run_until("all see all", ms(20_000), Network::agrees);
    network.run_for(ms(3000), |_| {});
    assert!(network.agrees(), "{}", network.describe());
    network
}

fn knows_without(name: &str) -> impl Fn(&Network) -> bool {
    let name = NodeName::from(name);
    move |network| network.names().iter().all(|node| network.view(node.as_str()).member(&name).is_none())
}

#[test]
fn a_join_is_known_to_all_at_once() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 5);
        network.start("late");
        let took = network.run_until("all see the newcomer active", ms(3000), Network::agrees);
        assert!(took < ms(700), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_crash_is_known_to_all_within_three_seconds() {
    for count in [2, 3, 5, 10] {
        let mut all: Vec<Duration> = Vec::new();
        for seed in SEEDS {
            let mut network = cluster(NetworkOptions::healthy(seed), count);
            network.run_for(ms(seed * 37), |_| {});
            network.crash("node-1");
            all.push(network.run_until("the crash is known", ms(5000), knows_without("node-1")));
        }
        all.sort();
        let mean = all.iter().sum::<Duration>() / all.len() as u32;
        let worst = *all.last().expect("there are seeds");
        println!("{count} nodes: mean {mean:?}, worst {worst:?}");
        assert!(worst < ms(3300), "{count} nodes: {worst:?}");
    }
}

#[test]
fn a_crash_is_known_in_a_bad_network_too() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::bad(seed), 5);
        network.crash("node-1");
        network.run_until("the crash is known", ms(6000), knows_without("node-1"));
        network.run_until("all agree", ms(2000), Network::agrees);
    }
}

#[test]
fn a_goodbye_is_known_to_all_within_600_ms() {
    for count in [2, 3, 10] {
        for seed in SEEDS {
            let mut network = cluster(NetworkOptions::healthy(seed), count);
            network.leave("node-1");
            let took = network.run_until("the goodbye is known", ms(2000), knows_without("node-1"));
            assert!(took < ms(600), "seed {seed}: {took:?}");
            let left = |event: &ClusterEvent| matches!(event, ClusterEvent::MemberLeft(node) if node.name.as_str() == "node-1");
            assert!(network.events("node-0").iter().any(left), "{:?}", network.events("node-0"));
        }
    }
}

#[test]
fn a_phase_is_known_to_all_within_600_ms() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 10);
        network.set_phase("node-1", Phase::Leaving);
        let took = network.run_until("all agree", ms(2000), Network::agrees);
        assert!(took < ms(600), "seed {seed}: {took:?}");
    }
}

#[test]
fn lossy_packets_alone_declare_nobody_down() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions { lost_packets: 100, ..NetworkOptions::healthy(seed) }, 5);
        network.run_for(ms(60_000), |_| {});
        for name in network.names() {
            let stats = network.swim(name.as_str()).stats();
            assert_eq!((stats.declared_down, stats.rejoins), (0, 0), "seed {seed}: {}", network.describe());
        }
    }
}

#[test]
fn a_pause_shorter_than_the_suspicion_is_forgiven() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 5);
        network.run_for(ms(seed * 37), |_| {});
        network.pause("node-1");
        network.run_for(ms(900), |_| {});
        network.resume("node-1");
        network.run_for(ms(5000), |network| assert!(network.agrees(), "seed {seed}: {}", network.describe()));
    }
}

#[test]
fn a_long_pause_ends_with_the_node_back_by_itself() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 5);
        network.pause("node-1");
        network.run_for(ms(10_000), |_| {});
        assert_eq!(network.view("node-0").members().len(), 4);
        network.resume("node-1");
        let took = network.run_until("all agree again", ms(10_000), Network::agrees);
        assert!(took < ms(5000), "seed {seed}: {took:?}");
        network
            .run_for(ms(10_000), |network| assert!(network.agrees(), "seed {seed}: {}", network.describe()));
        let rejoins = network.swim("node-1").stats().rejoins;
        assert!((1..=2).contains(&rejoins), "seed {seed}: {rejoins} changes of identity");
        let others = network.names().into_iter().filter(|name| name.as_str() != "node-1");
        let needless: u64 = others.map(|name| network.swim(name.as_str()).stats().rejoins).sum();
        assert_eq!(needless, 0, "seed {seed}: a stalled node must not declare the others down");
    }
}

#[test]
fn a_partition_heals() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 5);
        network.partition(&["node-0", "node-1"]);
        network.run_for(ms(20_000), |_| {});
        assert_eq!(network.view("node-0").members().len(), 2, "seed {seed}");
        assert_eq!(network.view("node-4").members().len(), 3, "seed {seed}");
        network.heal();
        let took = network.run_until("all agree again", ms(15_000), Network::agrees);
        assert!(took < ms(8000), "seed {seed}: {took:?}");
        network
            .run_for(ms(20_000), |network| assert!(network.agrees(), "seed {seed}: {}", network.describe()));
    }
}

#[test]
fn an_isolated_node_returns() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 3);
        network.partition(&["node-0"]);
        network.run_for(ms(30_000), |_| {});
        assert_eq!(network.view("node-0").members().len(), 1, "seed {seed}");
        network.heal();
        let took = network.run_until("all agree again", ms(15_000), Network::agrees);
        assert!(took < ms(8000), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_restart_of_the_name_at_another_address_is_accepted_at_once() {
    for seed in SEEDS {
        let mut network = cluster(NetworkOptions::healthy(seed), 5);
        // The old process dies, the new one comes up before anybody has noticed.
        network.start("node-1");
        let took = network.run_until("all see the new life", ms(3000), Network::agrees);
        assert!(took < ms(700), "seed {seed}: {took:?}");
        let events = network.events("node-0");
        let replaced = |event: &ClusterEvent| matches!(event, ClusterEvent::MemberReplaced(_));
        let down = |event: &ClusterEvent| matches!(event, ClusterEvent::MemberDown(_));
        assert!(events.iter().any(replaced) && !events.iter().any(down), "seed {seed}: {events:?}");
        network
            .run_for(ms(10_000), |network| assert!(network.agrees(), "seed {seed}: {}", network.describe()));
    }
}

#[test]
fn garbage_changes_nothing() {
    use rand::{RngExt, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut network = cluster(NetworkOptions::healthy(7), 3);
    let before = network.view("node-0").clone();
    for length in 0..3000_usize {
        let mut bytes = vec![0; length % 1500];
        random.fill(&mut bytes[..]);
        if bytes.len() > 8 && length % 2 == 0 {
            bytes[..8].copy_from_slice(b"ALCL\x01\x00\x00\x00");
        }
        network.inject("node-0", &bytes);
    }
    assert_eq!(*network.view("node-0"), before);
    assert_eq!(network.swim("node-0").stats().malformed, 3000);
}

/// All nodes load a new configuration at the same time in a network that loses every fifth packet: all hear of all, and nothing
/// else happens.
#[test]
fn metadata_reaches_all_and_moves_nothing() {
    for seed in SEEDS {
        let mut network = Network::new(NetworkOptions::healthy(seed), 30);
        let names: Vec<String> = (0..8).map(|index| format!("node-{index}")).collect();
        names.iter().for_each(|name| network.start(name));
        network.run_until("settled", ms(60_000), |network| network.agrees() && network.is_settled());
        network.run_for(ms(3000), |_| {});
        let starts = network.started().len();
        let events: Vec<usize> = names.iter().map(|name| network.events(name).len()).collect();

        network.set_lost_packets(200);
        names.iter().for_each(|name| network.set_metadata(name, b"second"));
        let told = |network: &Network| {
            let mut views = names.iter().map(|name| network.view(name));
            views.all(|view| view.members().iter().all(|member| &*member.metadata == b"second"))
        };
        let took = network.run_until("all know", ms(10_000), told);
        assert!(took < ms(3000), "seed {seed}: {took:?}");
        network.set_lost_packets(0);
        network.run_for(ms(3000), |network| assert!(network.is_settled(), "seed {seed}"));
        assert_eq!(network.started().len(), starts, "seed {seed}: no key has moved");
        for (name, events) in names.iter().zip(events) {
            assert_eq!(network.events(name).len(), events, "seed {seed}: {:?}", network.events(name));
            assert_eq!(network.swim(name).stats().rejoins, 0, "seed {seed}");
        }
    }
}
