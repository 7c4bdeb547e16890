//! Membership of hundreds of nodes in virtual time: how fast all know, and what it costs.
//!
//! `CLUSTER_SCALE=1000,3000` sets the sizes, `CLUSTER_SEEDS=20` how many seeds of each.

use std::time::{Duration, Instant};

use alloy_cluster::testing::{Network, NetworkOptions};
use alloy_cluster::{NodeName, Timing};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn from_environment(name: &str, default: &str) -> Vec<u64> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    text.split(',').map(|number| number.parse().expect("numbers separated by commas")).collect()
}

fn knows_without(name: &str) -> impl Fn(&Network) -> bool {
    let name = NodeName::from(name);
    move |network| network.names().iter().all(|node| network.view(node.as_str()).member(&name).is_none())
}

/// Looks every 10 ms of virtual time only: looking at all views after each of a million steps would take longest.
fn until(network: &mut Network, what: &str, within: Duration, is_so: impl Fn(&Network) -> bool) -> Duration {
    let begin = network.now();
    while !is_so(network) {
        assert!(network.now() - begin < within, "not within {within:?}: {what}");
        network.run_for(ms(10), |_| {});
    }
    network.now() - begin
}

#[test]
fn a_thousand_nodes_boot_and_learn_of_crash_join_and_leave_in_time() {
    for size in from_environment("CLUSTER_SCALE", "100") {
        for seed in 0..from_environment("CLUSTER_SEEDS", "1")[0] {
            live(size, seed);
        }
    }
}

fn live(size: u64, seed: u64) {
    let cpu = Instant::now();
    let mut network = Network::new(
        NetworkOptions { lost_packets: 10, timing: Timing::lan(), ..NetworkOptions::healthy(seed) },
        0,
    );
    for index in 0..size {
        network.start(&format!("node-{index}"));
    }
    let boot = until(&mut network, "boot", ms(60_000), Network::agrees);
    let boot_bytes = network.traffic();
    println!("{size} nodes, seed {seed}: boot {boot:?} cpu {:?} traffic {boot_bytes:?}", cpu.elapsed());
    network.run_for(ms(15_000), |_| {});
    let before = network.traffic();
    network.run_for(ms(20_000), |_| {});
    let after = network.traffic();
    let per = |after: u64, before: u64, seconds: f64| (after - before) as f64 / size as f64 / seconds;
    println!(
        "  idle: {:.2} packets/s, {:.0} B/s, states {:.0} B/s; cpu {:?}",
        per(after.0, before.0, 20.0),
        per(after.1, before.1, 20.0),
        per(after.2, before.2, 20.0),
        cpu.elapsed()
    );
    let mut crashes = Vec::new();
    for crash in 0..3 {
        let name = format!("node-{}", size / 2 + crash);
        network.run_for(ms(3_000 + 137 * crash), |_| {});
        network.crash(&name);
        crashes.push(until(&mut network, "crash", ms(30_000), knows_without(&name)));
    }
    println!("  crashes {crashes:?}; cpu {:?}", cpu.elapsed());
    network.run_for(ms(3_000), |_| {});
    network.start("late");
    let join = until(&mut network, "join", ms(30_000), |network| {
        network.view("late").members().len() as u64 == size - 2
    });
    let joined = join + until(&mut network, "all know", ms(30_000), Network::agrees);
    network.run_for(ms(3_000), |_| {});
    network.leave("node-1");
    let leave = until(&mut network, "leave", ms(30_000), knows_without("node-1"));
    let end = network.traffic();
    println!("  join {join:?}, known to all active {joined:?}, leave {leave:?}; cpu {:?}", cpu.elapsed());
    let (dead, rejoins) = network.names().iter().fold((0, 0), |(dead, rejoins), name| {
        let stats = network.swim(name.as_str()).stats();
        (dead + stats.declared_down, rejoins + stats.rejoins)
    });
    println!("  declared {dead}, rejoins {rejoins}, {end:?}");
}
