//! Bounded loads: nobody owns more than so many times the mean, and yet few keys move.
//!
//! Every key asks its owners in the order of its ranks; a member that is asked for more than it may have keeps the keys whose
//! draws it won the highest and refuses the rest, which ask on. This is deferred acceptance (Gale and Shapley, "College
//! admissions and the stability of marriage", 1962) with the bound of Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing
//! with bounded loads" (2016). If all keys cost the same, the end does not depend on the order of asking; if not, the order
//! is the same on every machine: rounds, and in each round that of the keys.

use crate::rendezvous::draw;
use crate::{Key, Phase, Rank, Sharder, View};

/// Who owns each key: its index in the view, or `u32::MAX` if nobody is active. `keys` is sorted, `costs` as long.
pub(crate) fn spread(
    sharder: &dyn Sharder,
    view: &View,
    keys: &[Key],
    costs: &[u32],
    load_max_percent: u32,
) -> Vec<u32> {
    let (mut owners, mut draws) = (vec![u32::MAX; keys.len()], vec![0; keys.len()]);
    sharder.assign(keys, view, &mut owners, &mut draws);
    let mut members = Loads::new(view, costs, load_max_percent);
    if members.active == 0 {
        return owners;
    }
    // How many owners have refused each key that was refused.
    let mut asked = vec![0_u32; keys.len()];
    let mut asking: Vec<usize> = (0..keys.len()).collect();
    let mut rank = Rank::new();
    let mut left_over = Vec::new();
    while !asking.is_empty() {
        for &key in &asking {
            members.take(owners[key] as usize, key, costs[key]);
        }
        asking = members.refuse(|member, key| draw(keys[key], view.name_hashes()[member]), costs);
        asking.sort_unstable();
        asking.retain(|&key| {
            asked[key] += 1;
            let next = asked[key] as usize;
            if next >= members.active {
                left_over.push(key);
                return false;
            }
            sharder.rank(keys[key], view, next + 1, &mut rank);
            owners[key] = rank[next] as u32;
            true
        });
    }
    // Whom nobody has room for (keys of very different cost) goes where most is left.
    left_over.sort_unstable();
    for key in left_over {
        let member = members.emptiest();
        owners[key] = member as u32;
        members.take(member, key, costs[key]);
    }
    owners
}

/// What each member has, and may have.
struct Loads {
    keys: Vec<Vec<usize>>,
    load: Vec<u64>,
    capacity: Vec<u64>,
    changed: Vec<bool>,
    active: usize,
}

impl Loads {
    fn new(view: &View, costs: &[u32], load_max_percent: u32) -> Self {
        let weights = view.members().iter().map(|member| match member.phase {
            Phase::Active => u128::from(member.weight.max(1)),
            _ => 0,
        });
        let weights: Vec<u128> = weights.collect();
        let (total, all) =
            (costs.iter().map(|cost| u128::from(*cost)).sum::<u128>(), weights.iter().sum::<u128>().max(1));
        // At least the mean, rounded up, or not all would have room.
        let capacity = weights.iter().map(|weight| {
            let bound = total * weight * u128::from(load_max_percent) / (100 * all);
            bound.max((total * weight).div_ceil(all)) as u64
        });
        let count = weights.len();
        Loads {
            keys: vec![Vec::new(); count],
            load: vec![0; count],
            capacity: capacity.collect(),
            changed: vec![false; count],
            active: weights.iter().filter(|weight| **weight > 0).count(),
        }
    }

    fn take(&mut self, member: usize, key: usize, cost: u32) {
        self.keys[member].push(key);
        self.load[member] += u64::from(cost);
        self.changed[member] = true;
    }

    /// Lets go what is too much: the keys with the lowest draws. One key is never too much.
    fn refuse(&mut self, draw: impl Fn(usize, usize) -> u64, costs: &[u32]) -> Vec<usize> {
        let mut refused = Vec::new();
        for member in 0..self.keys.len() {
            if !std::mem::take(&mut self.changed[member]) || self.load[member] <= self.capacity[member] {
                continue;
            }
            let keys = &mut self.keys[member];
            keys.sort_by_cached_key(|key| (std::cmp::Reverse(draw(member, *key)), *key));
            while self.load[member] > self.capacity[member] && keys.len() > 1 {
                let Some(key) = keys.pop() else { break };
                self.load[member] -= u64::from(costs[key]);
                refused.push(key);
            }
        }
        refused
    }

    /// The member with the most room; of equals the first by name.
    fn emptiest(&self) -> usize {
        let room = |member: &usize| self.capacity[*member] as i128 - i128::from(self.load[*member]);
        let may_own = (0..self.keys.len()).filter(|member| self.capacity[*member] > 0);
        may_own.max_by_key(|member| (room(member), std::cmp::Reverse(*member))).expect("somebody is active")
    }
}
