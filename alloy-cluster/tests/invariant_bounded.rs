//! Invariant: what a node sends and keeps is bounded, whatever happens around it and whatever arrives.

mod chaos;

use std::time::Instant;

use alloy_cluster::testing::{Network, NetworkOptions};
use chaos::{Chaos, KEYS, NODES, ms, seeds};
use rand::RngExt;

/// Packets of one node in a second, the worst over 10 to 28 s of faults: beats, questions and accusations for two watched
/// and as many suspects as there are nodes, the gossip of news (3 each 100 ms), joins and reconnections.
const PACKETS_A_SECOND_MAX: u64 = 70;
/// Once all is quiet: 3.3 beats, probes, announcements.
const QUIET_PACKETS_A_SECOND_MAX: u64 = 6;

fn packets(network: &Network) -> Vec<(String, u64)> {
    let names = network.names().into_iter();
    names.map(|name| (name.to_string(), network.swim(name.as_str()).stats().packets_sent)).collect()
}

fn busiest(before: &[(String, u64)], after: &[(String, u64)]) -> u64 {
    let sent = after.iter().filter_map(|(name, after)| {
        let (_, before) = before.iter().find(|(known, _)| known == name)?;
        after.checked_sub(*before)
    });
    sent.max().unwrap_or(0)
}

#[test]
fn faults_cost_a_bounded_number_of_packets_and_nothing_is_dropped() {
    let (mut worst, mut quiet) = (0, 0);
    for seed in seeds(200) {
        let mut chaos = Chaos::settled(seed, NetworkOptions::bad(seed));
        for _ in 0..5 {
            let (before, began) = (packets(&chaos.network), chaos.network.now());
            for _ in 0..3 {
                chaos.fault();
                let pause = ms(chaos.random.random_range(50..6000));
                chaos.run(pause, |_| {});
            }
            chaos.run(ms(10_000), |_| {});
            let seconds = (chaos.network.now() - began).as_secs();
            worst = worst.max(busiest(&before, &packets(&chaos.network)) / seconds);
            assert!(worst <= PACKETS_A_SECOND_MAX, "{worst} {}", chaos.describe());
        }
        chaos.heal();
        chaos.run(ms(30_000), |_| {});
        let before = packets(&chaos.network);
        chaos.run(ms(20_000), |_| {});
        quiet = quiet.max(busiest(&before, &packets(&chaos.network)) / 20);
        assert!(quiet <= QUIET_PACKETS_A_SECOND_MAX, "{quiet} {}", chaos.describe());
        for name in chaos.network.names() {
            let handover = chaos.network.handover(name.as_str());
            assert_eq!(chaos.network.swim(name.as_str()).stats().dropped, 0, "{}", chaos.describe());
            assert_eq!(handover.stats(chaos.network.now()).keys, KEYS as usize);
            assert_eq!(chaos.network.view(name.as_str()).members().len(), NODES);
        }
    }
    println!("at most {worst} packets/s of a node under faults, {quiet} when quiet");
}

/// Bytes that are nearly right are the worst: real packets, cut, with flipped bits, or made up behind a good header.
#[test]
fn hostile_bytes_change_nothing_and_are_not_answered() {
    let mut chaos = Chaos::settled(1, NetworkOptions::healthy(1));
    let (view, sent) = (chaos.network.view("node-0").clone(), packets(&chaos.network));
    let real = chaos.network.last_packet_to("node-0").expect("it runs").clone();
    let before = Instant::now();
    for round in 0..20_000_usize {
        let mut bytes = real.to_vec();
        match round % 4 {
            0 => bytes.truncate(round % real.len()),
            1 => bytes[round % real.len()] ^= 1 << (round % 8),
            2 => chaos.random.fill(&mut bytes[8..]),
            _ => bytes.resize(real.len() + round % 1400, round as u8),
        }
        if bytes != *real {
            chaos.network.inject("node-0", &bytes);
        }
    }
    println!("{:?} of CPU for each hostile packet", before.elapsed() / 20_000);
    assert_eq!(*chaos.network.view("node-0"), view);
    assert_eq!(busiest(&sent, &packets(&chaos.network)), 0, "nothing is answered");
}
