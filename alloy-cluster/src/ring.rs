//! [`Ring`]: the same trait over a classic consistent-hash ring (the `hashring` crate), for comparison and for
//! those who want it. [`Rendezvous`](crate::Rendezvous) balances better and needs no table.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use hashring::HashRing;
use twox_hash::XxHash64;

use crate::rendezvous::is_another_zone;
use crate::{Key, Phase, Rank, Sharder, View};

/// Points per share (a weight of 100): the owners' loads then differ by about 1/sqrt(256) = 6 %.
const POINTS_PER_SHARE: u32 = 256;

/// Rings that are kept: an incremental assignment asks about one small view per owner in turn.
const RINGS_MAX: usize = 64;

/// A consistent-hash ring. Building it costs O(members * points); the last few are kept.
#[derive(Default)]
pub struct Ring {
    built: Mutex<VecDeque<Arc<Built>>>,
}

impl Ring {
    /// A ring that is built when it is first asked.
    pub fn new() -> Self {
        Self::default()
    }

    fn built(&self, view: &View) -> Arc<Built> {
        let mut built = self.built.lock().expect("no code panics while holding it");
        if let Some(ring) = built.iter().find(|ring| ring.digest == view.digest()) {
            return ring.clone();
        }
        if built.len() == RINGS_MAX {
            built.pop_back();
        }
        let ring = Arc::new(Built::new(view));
        built.push_front(ring.clone());
        ring
    }
}

impl Sharder for Ring {
    fn rank(&self, key: Key, view: &View, count: usize, out: &mut Rank) {
        out.clear();
        let ring = self.built(view);
        let Some(start) = ring.ring.get(&RingKey(key)) else { return };
        let start = ring.positions[start];
        let walk = || {
            let points = ring.order.iter();
            points.clone().skip(start).chain(points.take(start)).map(|point| point.member as usize)
        };
        if count == 0 {
            return;
        }
        for member in walk() {
            if out.len() == count {
                break;
            }
            if !out.contains(&member) {
                out.push(member);
            }
        }
        let Some((&first, others)) = out.split_first() else { return };
        let zone = |member: usize| &*view.members()[member].zone;
        if others.is_empty() || zone(first).is_empty() {
            return;
        }
        let Some(second) = walk().find(|&member| is_another_zone(zone(first), zone(member))) else { return };
        // Moving the other zone's member up pushes the rest down by one; if it was not among them, the last drops out.
        let from = out.iter().position(|&member| member == second).unwrap_or(out.len() - 1);
        out[1..=from].rotate_right(1);
        out[1] = second;
    }
}

struct Built {
    digest: u64,
    ring: HashRing<Point, ExplicitHasher>,
    order: Vec<Point>,
    positions: HashMap<Point, usize>,
}

impl Built {
    fn new(view: &View) -> Self {
        let mut points = Vec::new();
        for (index, member) in view.members().iter().enumerate() {
            if member.phase != Phase::Active {
                continue;
            }
            let count = (u32::from(member.weight) * POINTS_PER_SHARE / 100).max(1);
            let name = view.name_hashes()[index];
            points.extend((0..count).map(|replica| Point { name, replica, member: index as u32 }));
        }
        // The crate keeps its order to itself; the same hashes sorted the same way are the same order.
        let mut order = points.clone();
        order.sort_by_key(|point| ExplicitHasher.hash_one(point));
        let mut ring = HashRing::with_hasher(ExplicitHasher);
        ring.batch_add(points);
        let positions = order.iter().enumerate().map(|(position, point)| (*point, position)).collect();
        Built { digest: view.digest(), ring, order, positions }
    }
}

/// One place of a member on the ring. Hashes explicit little-endian bytes, never the derived representation:
/// that may change with the compiler or the machine, and the ring with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    name: u64,
    replica: u32,
    member: u32,
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.name.to_le_bytes());
        state.write(&self.replica.to_le_bytes());
    }
}

struct RingKey(Key);

impl Hash for RingKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.to_le_bytes());
    }
}

/// XXH64 with seed 0, the same on every machine.
#[derive(Clone)]
struct ExplicitHasher;

impl BuildHasher for ExplicitHasher {
    type Hasher = XxHash64;

    fn build_hasher(&self) -> XxHash64 {
        XxHash64::with_seed(0)
    }
}
