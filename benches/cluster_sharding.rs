//! Sharding: what a key costs, against two other crates and a ring in the same run.
//!
//! Run: `cargo bench -p benches --bench cluster_sharding`. One thread; every round measures all candidates in turn, and a figure is
//! the median of the rounds' processor time, a ratio the median of the rounds' ratios.

use std::hint::black_box;
use std::sync::Arc;

use alloy_cluster::{Assignment, Key, Member, Node, Phase, Rank, Rendezvous, Ring, Sharder, View};
use hrw_hash::{HrwNode, HrwNodes};
use rendezvous_hash::{DefaultNodeHasher, RendezvousNodes};
use rustix::time::{ClockId, clock_gettime};

const KEYS: usize = 1_000_000;
/// A full assignment of so many keys ends before somebody else gets the processor, in most of the rounds.
const SOME_KEYS: usize = 5_000;
const SOME_ROUNDS: usize = 101;
const ROUNDS: usize = 51;
/// For the balance: so many clusters of so many nodes, or of a few when pairs are counted.
const SETS: usize = 120;
const NODES: usize = 100;
const FEW: usize = 20;
const PAIR_KEYS: usize = 100_000;

fn view(nodes: usize, except: Option<usize>) -> Arc<View> {
    let member = |index: usize| named(&format!("alloy-{index}"));
    Arc::new(View::new(1, (0..nodes).filter(|index| Some(*index) != except).map(member).collect()))
}

fn named(name: &str) -> Member {
    let node = Node { name: name.into(), address: ([10, 0, 0, 1], 1).into(), incarnation: 1 };
    Member { phase: Phase::Active, ..Member::new(node) }
}

fn keys(count: usize) -> Vec<Key> {
    (0..count as u64).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
}

/// Nanoseconds per key of each candidate in each round, one after the other.
fn per_key<const N: usize>(keys: usize, candidates: [&mut dyn FnMut(); N]) -> Vec<[f64; N]> {
    let mut candidates = candidates;
    // The first of two passes brings what a candidate needs back into the caches.
    let mut round = || {
        candidates.each_mut().map(|work| {
            work();
            once(work) / keys as f64
        })
    };
    (0..SOME_ROUNDS).map(|_| round()).collect()
}

fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[derive(Hash, PartialEq, Eq)]
struct Named(String);

impl HrwNode for Named {}

/// Ours, the ring, and the two other crates: nanoseconds per key, and how many times ours.
fn full(nodes: usize) -> [(f64, f64); 4] {
    let view = view(nodes, None);
    let some = &keys(SOME_KEYS)[..];
    let (mut owners, mut draws) = (vec![0; SOME_KEYS], vec![0; SOME_KEYS]);
    let mut ours = || Rendezvous.assign(black_box(some), &view, &mut owners, &mut draws);
    let ring = Ring::new();
    // Twice the weight is twice the points: 512, as many as Grafana Alloy has.
    let doubled = view.members().iter().map(|member| Member { weight: 200, ..member.clone() });
    let doubled = View::new(1, doubled.collect());
    let mut ring = || {
        black_box(some.iter().filter_map(|key| ring.owner(*key, &doubled)).sum::<usize>());
    };
    let hrw = HrwNodes::new((0..nodes).map(|index| Named(format!("alloy-{index}"))));
    let mut hrw = || {
        black_box(
            some.iter().filter_map(|key| hrw.sorted(key).next()).map(|node| node.0.len()).sum::<usize>(),
        );
    };
    let mut rendezvous = RendezvousNodes::new(DefaultNodeHasher::new());
    for member in view.members() {
        rendezvous.insert(member.node.name.as_str());
    }
    let mut rendezvous = || {
        black_box(
            some.iter()
                .filter_map(|key| rendezvous.calc_candidates(key).next())
                .map(|name| name.len())
                .sum::<usize>(),
        );
    };
    let rounds = per_key(SOME_KEYS, [&mut ours, &mut ring, &mut hrw, &mut rendezvous]);
    std::array::from_fn(|at| {
        let ratio = rounds.iter().map(|round| round[at] / round[0]);
        (median(rounds.iter().map(|round| round[at])), median(ratio))
    })
}

fn incremental() {
    let (with, without) = (view(100, None), view(100, Some(42)));
    let mut assignment = Assignment::new(Arc::new(Rendezvous));
    assignment.set_keys(keys(KEYS));
    assignment.set_view(without.clone());
    let (mut join, mut leave, mut moved) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        join.push(once(|| moved = assignment.set_view(with.clone()).len()) / KEYS as f64);
        leave.push(once(|| moved = assignment.set_view(without.clone()).len()));
    }
    let best = join.iter().copied().fold(f64::INFINITY, f64::min);
    let (join, leave) = (median(join), median(leave));
    println!(
        "| incremental, 1 M keys, one of 100 joins | {join:.2} ns per key, {best:.2} at best | {moved} moves |"
    );
    println!(
        "| incremental, 1 M keys, one of 100 leaves | {:.2} ns per key | {:.0} ns per key that moves |",
        leave / KEYS as f64,
        leave / moved as f64
    );
}

/// Nanoseconds of this thread's processor time: what else runs there meanwhile is not counted, however long it takes.
fn once(work: impl FnOnce()) -> f64 {
    let processor_ns = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let begin = processor_ns();
    work();
    processor_ns() - begin
}

/// How uneven loads are, and the pairs of first and second in rank, against throwing dice: 1 is the same. Over clusters of
/// other names, since the deviation of one cluster's loads is itself known to a fourteenth only.
fn balance() {
    let all = keys(KEYS);
    let (mut owners, mut draws) = (vec![0; KEYS], vec![0; KEYS]);
    let (mut squares, mut pairs) = (0.0, 0.0);
    for set in 0..SETS {
        let members = (0..NODES).map(|index| named(&format!("cluster-{set}-node-{index}")));
        let view = View::new(1, members.collect());
        Rendezvous.assign(&all, &view, &mut owners, &mut draws);
        squares += chi_square(owners.iter().map(|owner| *owner as usize), NODES) / (NODES - 1) as f64;
        let few = View::new(1, view.members()[..FEW].to_vec());
        let mut rank = Rank::new();
        let both = all[..PAIR_KEYS].iter().map(|key| {
            Rendezvous.rank(*key, &few, 2, &mut rank);
            // The second is one of the others.
            rank[0] * (FEW - 1) + if rank[1] > rank[0] { rank[1] - 1 } else { rank[1] }
        });
        pairs += chi_square(both, FEW * (FEW - 1)) / (FEW * (FEW - 1) - 1) as f64;
    }
    let ratio = |sum: f64| (sum / SETS as f64).sqrt();
    let error = |freedom: usize| 1.0 / (2.0 * (SETS * freedom) as f64).sqrt();
    println!(
        "| balance, 1 M keys, {NODES} nodes, {SETS} clusters | deviation {:.4} x that of dice | chance: +-{:.4} |",
        ratio(squares),
        error(NODES - 1)
    );
    println!(
        "| first and second, {FEW} nodes, {SETS} clusters | deviation {:.4} x that of dice | chance: +-{:.4} |",
        ratio(pairs),
        error(FEW * (FEW - 1) - 1)
    );
}

fn chi_square(found: impl Iterator<Item = usize>, kinds: usize) -> f64 {
    let mut counts = vec![0_f64; kinds];
    found.for_each(|kind| counts[kind] += 1.0);
    let mean = counts.iter().sum::<f64>() / kinds as f64;
    counts.iter().map(|count| (count - mean).powi(2) / mean).sum()
}

/// What a bound costs: from nothing, and when one of 100 leaves.
fn bounded() {
    let (with, without) = (view(100, None), view(100, Some(42)));
    let mut assignment = Assignment::bounded(Arc::new(Rendezvous), 110);
    assignment.set_view(with);
    let full = once(|| drop(assignment.set_keys(keys(KEYS)))) / KEYS as f64;
    let mut moved = 0;
    let leave = once(|| moved = assignment.set_view(without).len()) / KEYS as f64;
    println!(
        "| bounded load 1.10, 1 M keys, 100 nodes | {full:.0} ns per key | one leaves: {leave:.0} ns per key, {moved} moves |"
    );
}

fn main() {
    println!("| full assignment | ours | ring, 512 points | hrw-hash | rendezvous_hash |");
    println!("| --- | --- | --- | --- | --- |");
    for nodes in [10, 100] {
        let [(ours, _), ring, hrw, rendezvous] = full(nodes);
        let [ring, hrw, rendezvous] =
            [ring, hrw, rendezvous].map(|(ns, times)| format!("{ns:.0} ({times:.1} x)"));
        println!("| {nodes} nodes, ns per key | {ours:.1} | {ring} | {hrw} | {rendezvous} |");
    }
    incremental();
    bounded();
    balance();
}
