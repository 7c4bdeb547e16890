//! [`Rendezvous`], the default [`Sharder`]: weighted highest-random-weight hashing.
//!
//! Every member draws a number for the key, the best draw owns it. A member's draws do not depend on who else
//! is there, so a join takes only what the new member wins, and a leave moves only what the leaver had.
//! Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); the weights as in
//! draft-ietf-bess-weighted-hrw: the least `-log(draw) / weight` wins. The logarithm is done in integers,
//! because `f64::ln` may differ in its last bit from one machine to the next.

use crate::{Key, Phase, Rank, Sharder, View};

/// Weighted highest-random-weight: no state, O(members) per key, exact minimal disruption.
#[derive(Debug, Default, Clone, Copy)]
pub struct Rendezvous;

impl Sharder for Rendezvous {
    fn rank(&self, key: Key, view: &View, count: usize, out: &mut Rank) {
        out.clear();
        let key = mix(key);
        let active = || {
            let hashes = view.name_hashes();
            let members = view.members().iter().enumerate();
            members.filter(|(_, member)| member.phase == Phase::Active).map(move |(index, member)| Draw {
                index,
                hash: number(key ^ hashes[index]),
                weight: member.weight.max(1),
            })
        };
        let zone = |draw: &Draw| &*view.members()[draw.index].zone;
        if count == 0 {
            return;
        }
        let Some(first) = active().reduce(Draw::better) else { return };
        out.push(first.index);
        if count == 1 {
            return;
        }
        let others = || active().filter(|draw| draw.index != first.index);
        let elsewhere = || others().filter(|draw| is_another_zone(zone(&first), zone(draw)));
        let Some(second) = elsewhere().reduce(Draw::better).or_else(|| others().reduce(Draw::better)) else {
            return;
        };
        out.push(second.index);
        if count > 2 {
            let mut rest: Vec<Draw> = others().filter(|draw| draw.index != second.index).collect();
            rest.sort_by(
                |a, b| if a.beats(b) { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater },
            );
            out.extend(rest.iter().take(count - 2).map(|draw| draw.index));
        }
    }

    fn assign(&self, keys: &[Key], view: &View, owners: &mut [u32], draws: &mut [u32]) {
        let hashes = view.name_hashes();
        // Only what the loops need, side by side: 100 members fit into the nearest cache.
        let active: Vec<usize> = active(view).collect();
        if active.is_empty() {
            owners.fill(u32::MAX);
        } else if has_equal_weights(view) {
            let hashes: Vec<u64> = active.iter().map(|index| hashes[*index]).collect();
            let lanes = keys.chunks(LANES).zip(owners.chunks_mut(LANES)).zip(draws.chunks_mut(LANES));
            for ((keys, owners), draws) in lanes {
                let mut some = [0; LANES];
                for (lane, key) in some.iter_mut().zip(keys) {
                    *lane = mix(*key);
                }
                let (best, place) = best_of(&some, &hashes);
                for ((owner, draw), (best, place)) in
                    owners.iter_mut().zip(draws).zip(best.into_iter().zip(place))
                {
                    (*owner, *draw) = (active[place] as u32, (best >> 32) as u32);
                }
            }
        } else {
            for ((key, owner), draw) in keys.iter().zip(owners).zip(draws) {
                let key = mix(*key);
                let drawn = active.iter().map(|index| Draw {
                    index: *index,
                    hash: number(key ^ hashes[*index]),
                    weight: view.members()[*index].weight.max(1),
                });
                let winner = drawn.reduce(Draw::better).expect("somebody is active");
                (*owner, *draw) = (winner.index as u32, (winner.hash >> 32) as u32);
            }
        }
    }

    fn outdraw(
        &self,
        keys: &[Key],
        draws: &[u32],
        newcomers: &View,
        all: &View,
        won: &mut Vec<(usize, u32, u32)>,
    ) -> bool {
        if !has_equal_weights(all) {
            return false;
        }
        for newcomer in active(newcomers) {
            let hash = newcomers.name_hashes()[newcomer];
            for (at, (key, held)) in keys.iter().zip(draws).enumerate() {
                let drawn = (number(mix(*key) ^ hash) >> 32) as u32;
                if drawn >= *held {
                    won.push((at, newcomer as u32, drawn));
                }
            }
        }
        if newcomers.members().len() > 1 {
            // Of several who win one key the highest draw comes last; equal halves are told apart by the caller.
            won.sort_unstable_by_key(|(at, _, drawn)| (*at, *drawn));
        }
        true
    }
}

/// Keys that are looked at together: their chains of multiplications do not wait for each other.
const LANES: usize = 4;

/// Members that are looked at together.
const CHUNK: usize = 16;

/// For each key the highest draw and the place of who drew it; of two equal draws the first in the order of names.
///
/// Only the highest draw of a chunk is kept while it is looked through, not who drew it: that is found by a second look at the
/// one chunk of it, which spares a third of all work.
fn best_of(keys: &[u64; LANES], hashes: &[u64]) -> ([u64; LANES], [usize; LANES]) {
    let (mut best, mut place) = ([0; LANES], [0; LANES]);
    for (at, chunk) in hashes.chunks(CHUNK).enumerate() {
        let mut highest = [0; LANES];
        for hash in chunk {
            for lane in 0..LANES {
                highest[lane] = number(keys[lane] ^ hash).max(highest[lane]);
            }
        }
        for lane in 0..LANES {
            // No branch: which of the chunks has a record cannot be predicted, and a wrong guess costs more than all else.
            let is_better = highest[lane] > best[lane];
            best[lane] = if is_better { highest[lane] } else { best[lane] };
            place[lane] = if is_better { at * CHUNK } else { place[lane] };
        }
    }
    for lane in 0..LANES {
        let chunk = &hashes[place[lane]..hashes.len().min(place[lane] + CHUNK)];
        let mut first = 0;
        for (at, hash) in chunk.iter().enumerate().rev() {
            first = if number(keys[lane] ^ hash) == best[lane] { at } else { first };
        }
        place[lane] += first;
    }
    (best, place)
}

fn active(view: &View) -> impl Iterator<Item = usize> {
    let members = view.members().iter().enumerate();
    members.filter(|(_, member)| member.phase == Phase::Active).map(|(index, _)| index)
}

fn has_equal_weights(view: &View) -> bool {
    let mut weights = active(view).map(|index| view.members()[index].weight);
    let first = weights.next();
    weights.all(|weight| Some(weight) == first)
}

/// Two members are known to be in two zones: an empty zone is unknown, and so not another one.
pub(crate) fn is_another_zone(first: &str, second: &str) -> bool {
    !first.is_empty() && !second.is_empty() && first != second
}

/// What a member drew for a key.
#[derive(Clone, Copy)]
struct Draw {
    index: usize,
    hash: u64,
    weight: u16,
}

impl Draw {
    fn better(self, other: Draw) -> Draw {
        if other.beats(&self) { other } else { self }
    }

    /// A total order: by cost, then by hash, then by name (members are sorted by name). For equal weights the
    /// hash alone gives the same answer, since the cost falls as the hash grows; that spares the logarithm.
    fn beats(&self, other: &Draw) -> bool {
        if self.weight != other.weight {
            let left = u128::from(cost(self.hash)) * u128::from(other.weight);
            let right = u128::from(cost(other.hash)) * u128::from(self.weight);
            if left != right {
                return left < right;
            }
        }
        (self.hash, std::cmp::Reverse(self.index)) > (other.hash, std::cmp::Reverse(other.index))
    }
}

/// What a member with that hash of its name draws for a key, if all weigh the same.
pub(crate) const fn draw(key: Key, name_hash: u64) -> u64 {
    number(mix(key) ^ name_hash)
}

/// The finalizer of MurmurHash3 (64 bits), in Stafford's variant 13: each input bit flips half of the output.
pub(crate) const fn mix(mut value: u64) -> u64 {
    value ^= value >> 30;
    value = value.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^= value >> 27;
    value = value.wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The draw for a mixed key and the hash of a name, combined by xor: one multiplication, since there are 100 of them for each
/// key. Both are random bits already; what is left to do is that the upper bits, by which draws are compared, depend on all
/// bits of both. Loads and pairs of first and second are as even as dice: measured by `benches/cluster_sharding`.
///
/// The multiplier is by Steele and Vigna, "Computationally easy, spectrally good multipliers" (2022).
const fn number(value: u64) -> u64 {
    value.wrapping_mul(0xd134_2543_de82_ef95)
}

/// `-log2(hash / 2^64)` with 32 fractional bits, never rising as the hash grows.
///
/// Linear between 1024 steps: at most 2^-22 off, a relative error of 0.1 % in the share of one of 4,000 members.
fn cost(hash: u64) -> u64 {
    let hash = hash.max(1);
    let zeros = hash.leading_zeros();
    let mantissa = hash << zeros;
    let step = ((mantissa >> 53) & 1023) as usize;
    let rest = u128::from(mantissa & ((1 << 53) - 1));
    let (low, high) = (LOG2[step], LOG2[step + 1]);
    let fraction = low + ((u128::from(high - low) * rest) >> 53) as u64;
    ((1 + u64::from(zeros)) << 32) - fraction
}

/// `log2(1 + step / 1024)` with 32 fractional bits.
static LOG2: [u64; 1025] = log2_table();

const fn log2_table() -> [u64; 1025] {
    let mut table = [0; 1025];
    let mut step = 0;
    while step < 1024 {
        // Squaring doubles the logarithm: whenever the square passes 2, the next bit of the logarithm is one.
        let mut value = ((1024 + step) as u128) << 53;
        let mut bits = 0;
        let mut bit = 0;
        while bit < 32 {
            value = (value * value) >> 63;
            bits <<= 1;
            if value >= 1 << 64 {
                value >>= 1;
                bits |= 1;
            }
            bit += 1;
        }
        table[step] = bits;
        step += 1;
    }
    table[1024] = 1 << 32;
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integer_logarithm_follows_the_real_one() {
        let mut hash = 1_u64;
        for _ in 0..10_000 {
            hash = mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15));
            let real = 64.0 - (hash as f64).log2();
            let ours = cost(hash) as f64 / (1_u64 << 32) as f64;
            assert!((real - ours).abs() < 1e-6, "hash {hash}: {real} and {ours}");
        }
    }

    #[test]
    fn the_cost_never_rises_with_the_hash() {
        let mut previous = u64::MAX;
        for step in 0..100_000_u64 {
            let now = cost(u64::MAX / 100_000 * step);
            assert!(now <= previous, "step {step}");
            previous = now;
        }
        assert!(cost(u64::MAX) > 0);
    }
}
