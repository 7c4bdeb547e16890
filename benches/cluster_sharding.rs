//! Sharding: what a key costs, against two other crates and a ring in the same run.
//!
//! Run: `cargo bench -p benches --bench cluster_sharding`. Each figure is the best of five, one thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use alloy_cluster::{Assignment, Key, Member, Node, Phase, Rendezvous, Ring, Sharder, View};
use hrw_hash::{HrwNode, HrwNodes};
use rendezvous_hash::{DefaultNodeHasher, RendezvousNodes};

const KEYS: usize = 1_000_000;
/// The other crates are slow: a part of the keys tells as much.
const RIVAL_KEYS: usize = 20_000;
const ROUNDS: usize = 5;

fn view(nodes: usize, except: Option<usize>) -> Arc<View> {
    let node = |index: usize| Node {
        name: format!("alloy-{index}").as_str().into(),
        address: ([10, 0, 0, 1], 1).into(),
        incarnation: 1,
    };
    let member = |index: usize| Member { phase: Phase::Active, ..Member::new(node(index)) };
    Arc::new(View::new(1, (0..nodes).filter(|index| Some(*index) != except).map(member).collect()))
}

fn keys(count: usize) -> Vec<Key> {
    (0..count as u64).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
}

/// Nanoseconds per key, the best of some rounds.
fn per_key(keys: usize, mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed().as_nanos() as f64 / keys as f64
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

#[derive(Hash, PartialEq, Eq)]
struct Named(String);

impl HrwNode for Named {}

fn full(nodes: usize) -> (f64, f64, f64, f64) {
    let view = view(nodes, None);
    let all = keys(KEYS);
    let (mut owners, mut draws) = (vec![0; KEYS], vec![0; KEYS]);
    let ours = per_key(KEYS, || Rendezvous.assign(black_box(&all), &view, &mut owners, &mut draws));
    let ring = Ring::new();
    let some = &all[..RIVAL_KEYS];
    let ring = per_key(RIVAL_KEYS, || {
        black_box(some.iter().filter_map(|key| ring.owner(*key, &view)).sum::<usize>());
    });
    let hrw = HrwNodes::new((0..nodes).map(|index| Named(format!("alloy-{index}"))));
    let hrw = per_key(RIVAL_KEYS, || {
        black_box(
            some.iter().filter_map(|key| hrw.sorted(key).next()).map(|node| node.0.len()).sum::<usize>(),
        );
    });
    let mut rendezvous = RendezvousNodes::new(DefaultNodeHasher::new());
    for member in view.members() {
        rendezvous.insert(member.node.name.as_str());
    }
    let rendezvous = per_key(RIVAL_KEYS, || {
        black_box(
            some.iter()
                .filter_map(|key| rendezvous.calc_candidates(key).next())
                .map(|name| name.len())
                .sum::<usize>(),
        );
    });
    (ours, ring, hrw, rendezvous)
}

fn incremental() {
    let (with, without) = (view(100, None), view(100, Some(42)));
    let mut assignment = Assignment::new(Arc::new(Rendezvous));
    assignment.set_keys(keys(KEYS));
    assignment.set_view(without.clone());
    let (mut join, mut leave, mut moved) = (f64::INFINITY, f64::INFINITY, 0);
    for _ in 0..ROUNDS {
        join = join.min(once(|| moved = assignment.set_view(with.clone()).len()) / KEYS as f64);
        leave = leave.min(once(|| moved = assignment.set_view(without.clone()).len()));
    }
    println!("| incremental, 1 M keys, one of 100 joins | {join:.2} ns per key | {moved} moves |");
    println!(
        "| incremental, 1 M keys, one of 100 leaves | {:.2} ns per key | {:.0} ns per key that moves |",
        leave / KEYS as f64,
        leave / moved as f64
    );
}

fn once(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as f64
}

/// The standard deviation of the loads, against that of throwing dice.
fn balance() {
    let view = view(100, None);
    let (mut owners, mut draws) = (vec![0; KEYS], vec![0; KEYS]);
    Rendezvous.assign(&keys(KEYS), &view, &mut owners, &mut draws);
    let mut loads = vec![0_f64; 100];
    for owner in owners {
        loads[owner as usize] += 1.0;
    }
    let mean = KEYS as f64 / 100.0;
    let deviation = (loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / 100.0).sqrt();
    let dice = (KEYS as f64 * 0.01 * 0.99).sqrt();
    let worst = loads.iter().fold(0.0, |worst: f64, load| worst.max((load - mean).abs() / mean));
    println!(
        "| balance, 1 M keys, 100 nodes | deviation {:.2} x that of dice | worst load {:.2} % off |",
        deviation / dice,
        worst * 100.0
    );
}

fn main() {
    println!("| full assignment | ours | ring, 256 points | hrw-hash | rendezvous_hash |");
    println!("| --- | --- | --- | --- | --- |");
    for nodes in [10, 100] {
        let (ours, ring, hrw, rendezvous) = full(nodes);
        println!(
            "| {nodes} nodes, ns per key | {ours:.1} | {ring:.1} ({:.1} x) | {hrw:.0} ({:.0} x) | {rendezvous:.0} ({:.0} x) |",
            ring / ours,
            hrw / ours,
            rendezvous / ours
        );
    }
    incremental();
    balance();
}
