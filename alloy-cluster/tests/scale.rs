//! Membership of hundreds of nodes in virtual time: how fast all know, and what it costs.
//!
//! `CLUSTER_SCALE=1000` sets the size, `CLUSTER_SEEDS=20` how many seeds, `CLUSTER_HOURS=1000` how many hours of nodes are
//! watched for false deaths, `CLUSTER_PROFILE=fast` the profile; `CLUSTER_WARM=10000` the size of a cluster that already runs, and
//! `CLUSTER_CRASHES=5` how many of it crash. The tables in `docs/benchmarks.md` are what this prints with `--nocapture` and `--release`.

use std::time::{Duration, Instant};

use alloy_cluster::testing::{Network, NetworkOptions};
use alloy_cluster::{NodeName, Timing};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn from_environment(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
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

fn boot(size: u64, options: NetworkOptions) -> (Network, Duration) {
    let mut network = Network::new(options, 0);
    for index in 0..size {
        network.start(&format!("node-{index}"));
    }
    let took = until(&mut network, "all see all", ms(60_000), Network::agrees);
    network.run_for(ms(10_000), |_| {});
    (network, took)
}

/// Packets and bytes of one node in a second, over so long.
fn traffic(network: &mut Network, size: u64, duration: Duration) -> (f64, f64) {
    let before = network.traffic();
    network.run_for(duration, |_| {});
    let after = network.traffic();
    let rate = |after: u64, before: u64| (after - before) as f64 / size as f64 / duration.as_secs_f64();
    (rate(after.0, before.0), rate(after.1, before.1))
}

/// Times until all know, of some crashes one after the other; and until the first knows.
fn crashes(network: &mut Network, size: u64, count: u64) -> (Vec<Duration>, Vec<Duration>) {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for crash in 0..count {
        let name = format!("node-{}", (size / 2 + crash) % size);
        network.run_for(ms(3_000 + 137 * crash), |_| {});
        network.crash(&name);
        let somebody_knows = |network: &Network| {
            network
                .names()
                .iter()
                .any(|node| network.view(node.as_str()).member(&name.as_str().into()).is_none())
        };
        let sooner = until(network, "the first knows", ms(60_000), somebody_knows);
        first.push(sooner);
        last.push(sooner + until(network, "all know", ms(30_000), knows_without(&name)));
    }
    (first, last)
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / times.len() as u32
}

fn max(times: &[Duration]) -> Duration {
    times.iter().max().copied().unwrap_or_default()
}

#[test]
fn many_nodes_boot_and_know_of_crash_join_and_leave_in_time() {
    let size = from_environment("CLUSTER_SCALE", 100);
    let mut all = Vec::new();
    for seed in 0..from_environment("CLUSTER_SEEDS", 2) {
        let began = Instant::now();
        let is_fast = std::env::var("CLUSTER_PROFILE").is_ok_and(|profile| profile == "fast");
        let timing = if is_fast { Timing::fast() } else { Timing::lan() };
        let options = NetworkOptions { timing, lost_packets: 10, ..NetworkOptions::healthy(seed) };
        let (mut network, boot) = boot(size, options);
        assert!(boot < ms(15_000), "boot {boot:?}");
        let (packets, bytes) = traffic(&mut network, size, ms(10_000));
        assert!(is_fast || packets <= 5.0 && bytes <= 300.0, "{packets} packets/s, {bytes} B/s");
        let (_, last) = crashes(&mut network, size, 4);
        assert!(max(&last) < ms(6_500), "{last:?}");
        network.run_for(ms(3_000), |_| {});
        network.start("late");
        let knows_all = |network: &Network| network.view("late").members().len() as u64 == size - 3;
        let join = until(&mut network, "the joiner knows all", ms(30_000), knows_all);
        assert!(join < ms(1_500), "join {join:?}");
        until(&mut network, "all know the joiner", ms(30_000), Network::agrees);
        network.run_for(ms(3_000), |_| {});
        network.leave("node-1");
        let leave = until(&mut network, "all know of the leave", ms(30_000), knows_without("node-1"));
        assert!(leave < ms(600), "leave {leave:?}");
        let rejoins: u64 =
            network.names().iter().map(|name| network.swim(name.as_str()).stats().rejoins).sum();
        assert_eq!(rejoins, 0, "nobody had to change its identity");
        println!(
            "{size} nodes, seed {seed}: boot {boot:?}, {packets:.2} packets/s, {bytes:.0} B/s, crashes {last:?}, join {join:?}, leave {leave:?}; {:?} of computing",
            began.elapsed()
        );
        all.extend(last);
    }
    assert!(mean(&all) < ms(4_000), "{all:?}");
    println!("a crash is known to all {size} after {:?} on average, {:?} at most", mean(&all), max(&all));
}

/// How far the crash of one of very many has got, in a cluster that has been there for long: `CLUSTER_WARM=10000` says of
/// how many, `CLUSTER_CRASHES=8` how many crash, one after the other.
#[test]
fn a_crash_in_a_cluster_that_runs_is_known_to_all_in_time() {
    let size = from_environment("CLUSTER_WARM", 200);
    let began = Instant::now();
    let options = NetworkOptions { lost_packets: 10, ..NetworkOptions::healthy(size) };
    let mut network = Network::new(options, 0);
    network.start_together(&(0..size).map(|index| format!("node-{index}")).collect::<Vec<_>>());
    assert!(network.agrees(), "all see all from the beginning");
    println!("{size} nodes know each other after {:?} of computing", began.elapsed());
    network.run_for(ms(10_000), |_| {});
    let (packets, bytes) = traffic(&mut network, size, ms(5_000));
    println!("{packets:.2} packets/s, {bytes:.0} B/s; {:?} of computing", began.elapsed());
    let (first, last) = crashes(&mut network, size, from_environment("CLUSTER_CRASHES", 4));
    println!("known to the first after {first:?}, to all after {last:?}");
    println!(
        "| {size} | {:.2?} | {:.2?} | {:.2?} | {:.2?} | {packets:.2} | {bytes:.0} | {:.0?} |",
        mean(&first),
        max(&first),
        mean(&last),
        max(&last),
        began.elapsed()
    );
    let stats = network.names().into_iter().map(|name| network.swim(name.as_str()).stats());
    let (down, rejoins) =
        stats.fold((0, 0), |sum, stats| (sum.0 + stats.declared_down, sum.1 + stats.rejoins));
    assert_eq!(rejoins, 0, "nobody had to change its identity");
    assert!(down >= first.len() as u64);
    assert!(mean(&last) < ms(4_000) && max(&last) < ms(6_500), "{last:?}");
}

/// The longest pause of one node after which nobody has declared it down, in steps of 100 ms.
fn tolerated(timing: &Timing) -> Duration {
    let (mut pause, step) = (ms(300), ms(100));
    loop {
        for seed in 0..6 {
            let options = NetworkOptions { timing: timing.clone(), ..NetworkOptions::healthy(seed) };
            let (mut network, _) = boot(5, options);
            network.run_for(ms(seed * 97), |_| {});
            network.pause("node-1");
            network.run_for(pause, |_| {});
            network.resume("node-1");
            network.run_for(ms(3000), |_| {});
            let down: u64 =
                network.names().iter().map(|name| network.swim(name.as_str()).stats().declared_down).sum();
            if down > 0 {
                return pause - step;
            }
        }
        pause += step;
    }
}

#[test]
fn profiles_keep_what_their_documentation_says() {
    println!(
        "| profile | first of 3 knows, mean | max | first of 10, mean | max | all of 100 know, mean | max | stall forgiven | packets/s | B/s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, timing, first_max, stall_min) in [
        ("fast", Timing::fast(), 1_400, 700),
        ("lan", Timing::lan(), 2_600, 1_700),
        ("wan", Timing::wan(), 9_500, 6_400),
        ("patient", Timing::patient(), 23_500, 20_000),
    ] {
        let options = |seed| NetworkOptions {
            timing: timing.clone(),
            lost_packets: 10,
            ..NetworkOptions::healthy(seed)
        };
        // Of three only one may crash, if two shall be left.
        let [first_of_3, first] = [(3, 30, 1), (10, 10, 3)].map(|(size, seeds, count)| {
            let mut first = Vec::new();
            for seed in 0..seeds {
                let (mut network, _) = boot(size, options(seed));
                network.run_for(ms(seed * 61), |_| {});
                first.extend(crashes(&mut network, size, count).0);
            }
            first
        });
        let (mut network, _) = boot(100, options(1));
        let (packets, bytes) = traffic(&mut network, 100, ms(20_000));
        let last = crashes(&mut network, 100, 8).1;
        let stall = tolerated(&timing);
        println!(
            "| {name} | {:.2?} | {:.2?} | {:.2?} | {:.2?} | {:.2?} | {:.2?} | {stall:.1?} | {packets:.1} | {bytes:.0} |",
            mean(&first_of_3),
            max(&first_of_3),
            mean(&first),
            max(&first),
            mean(&last),
            max(&last)
        );
        assert!(max(&first) < ms(first_max), "{name}: {first:?}");
        assert!(max(&first_of_3) < ms(first_max), "{name}: {first_of_3:?}");
        assert!(stall >= ms(stall_min), "{name}: {stall:?}");
    }
}

/// Loss alone kills nobody: 0 in 1,000 hours of nodes, which `CLUSTER_HOURS=1000` runs.
#[test]
fn loss_alone_declares_nobody_down() {
    for lost in [10, 50] {
        let size = 50;
        let options = NetworkOptions { lost_packets: lost, ..NetworkOptions::healthy(u64::from(lost)) };
        let (mut network, _) = boot(size, options);
        let hours = from_environment("CLUSTER_HOURS", 4);
        network.run_for(Duration::from_secs(hours * 3600 / size), |_| {});
        let stats = network.names().into_iter().map(|name| network.swim(name.as_str()).stats());
        let (suspicions, down, rejoins) = stats.fold((0, 0, 0), |sum, stats| {
            (sum.0 + stats.suspicions, sum.1 + stats.declared_down, sum.2 + stats.rejoins)
        });
        println!(
            "{hours} hours of nodes, {lost} of 1,000 lost: {suspicions} suspicions, {down} down, {rejoins} rejoins"
        );
        assert_eq!((down, rejoins), (0, 0));
    }
}
