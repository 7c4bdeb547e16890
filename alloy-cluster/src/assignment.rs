//! [`Assignment`]: the owner of every key at once, kept up to date with few looks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::bounded;
use crate::{Key, Member, NodeName, Phase, Sharder, View};

/// A key that changes hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// What moves.
    pub key: Key,
    /// Who owned it; `None` if the key is new, or nobody was active.
    pub from: Option<NodeName>,
    /// Who owns it; `None` if the key is gone, or nobody is active.
    pub to: Option<NodeName>,
}

/// Nobody.
const NOBODY: u32 = u32::MAX;

/// Who owns each key of a set, under the last view.
///
/// A join compares what each key's owner drew with the newcomers' draws only, and a leave looks only at the leaver's keys.
/// Both follow from minimal disruption (contract line 4 of [`Sharder`]): the owner among all is also the owner among any
/// part of the members that it belongs to. Memory: 24 bytes per key.
///
/// With a bound on the load ([`bounded`](Assignment::bounded)) every change looks at all keys, since what one member refuses
/// is another's: the owners are a function of keys, costs and view alone, whatever came before.
pub struct Assignment {
    sharder: Arc<dyn Sharder>,
    view: Arc<View>,
    /// Sorted.
    keys: Vec<Key>,
    /// For each key, the place of its owner in `names`.
    owners: Vec<u32>,
    /// For each key, the upper half of what its owner drew, if the sharder draws.
    draws: Vec<u32>,
    names: Vec<NodeName>,
    load_max_percent: Option<u32>,
    /// Of the keys that do not cost 1.
    costs: HashMap<Key, u32>,
}

impl Assignment {
    /// No keys, nobody active.
    pub fn new(sharder: Arc<dyn Sharder>) -> Self {
        Assignment {
            sharder,
            view: Arc::new(View::new(0, Vec::new())),
            keys: Vec::new(),
            owners: Vec::new(),
            draws: Vec::new(),
            names: Vec::new(),
            load_max_percent: None,
            costs: HashMap::new(),
        }
    }

    /// The same, in which nobody owns more than so many percent of the mean load by its weight: 110 is sensible from 200 keys
    /// per member on, and less than 100 counts as 100. A single key that costs more is owned all the same. Whoever compares
    /// owners must know the same keys and costs.
    pub fn bounded(sharder: Arc<dyn Sharder>, load_max_percent: u32) -> Self {
        Assignment { load_max_percent: Some(load_max_percent), ..Assignment::new(sharder) }
    }

    /// Sets what keys of the set cost relative to each other, for a bound; those that are not named cost 1, and 0 counts as 1.
    /// The moves are the keys whose owner changes.
    pub fn set_costs(&mut self, costs: impl IntoIterator<Item = (Key, u32)>) -> Vec<Move> {
        self.costs = costs.into_iter().filter(|(_, cost)| *cost > 1).collect();
        self.spread(self.keys.clone())
    }

    /// The owner of a key of the set.
    pub fn owner(&self, key: Key) -> Option<&NodeName> {
        let index = self.keys.binary_search(&key).ok()?;
        self.name(self.owners[index])
    }

    /// Every key with its owner, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (Key, Option<&NodeName>)> {
        self.keys.iter().zip(&self.owners).map(|(key, owner)| (*key, self.name(*owner)))
    }

    /// Replaces the set of keys; the moves are the keys that come and go.
    pub fn set_keys(&mut self, keys: impl IntoIterator<Item = Key>) -> Vec<Move> {
        let mut next: Vec<Key> = keys.into_iter().collect();
        next.sort_unstable();
        next.dedup();
        if self.load_max_percent.is_some() {
            self.costs.retain(|key, _| next.binary_search(key).is_ok());
            return self.spread(next);
        }
        let mut moves = Vec::new();
        for (key, owner) in self.iter() {
            if next.binary_search(&key).is_err() {
                moves.push(Move { key, from: owner.cloned(), to: None });
            }
        }
        let came: Vec<Key> =
            next.iter().copied().filter(|key| self.keys.binary_search(key).is_err()).collect();
        let (came_owners, came_draws) = self.all_anew(&came);
        let mut came_owners = came.into_iter().zip(came_owners.into_iter().zip(came_draws)).peekable();
        let (mut owners, mut draws) = (Vec::with_capacity(next.len()), Vec::with_capacity(next.len()));
        for &key in &next {
            let (owner, draw) = match came_owners.next_if(|(came, _)| *came == key) {
                Some((key, (owner, draw))) => {
                    moves.push(Move { key, from: None, to: self.name(owner).cloned() });
                    (owner, draw)
                }
                None => {
                    let index = self.keys.binary_search(&key).expect("it was there or it came");
                    (self.owners[index], self.draws[index])
                }
            };
            owners.push(owner);
            draws.push(draw);
        }
        (self.keys, self.owners, self.draws) = (next, owners, draws);
        moves
    }

    /// Replaces the view; the moves are the keys whose owner changes.
    pub fn set_view(&mut self, view: Arc<View>) -> Vec<Move> {
        let came: Vec<Member> =
            active(&view).filter(|member| !is_same(&self.view, member)).cloned().collect();
        let gone: BTreeSet<NodeName> = active(&self.view)
            .filter(|member| !is_same(&view, member))
            .map(|member| member.node.name.clone())
            .collect();
        self.view = view;
        if came.is_empty() && gone.is_empty() {
            return Vec::new();
        }
        if self.load_max_percent.is_some() {
            let moves = self.spread(self.keys.clone());
            self.forget_names();
            return moves;
        }
        let mut moved = self.give_away(&gone);
        if !came.is_empty() {
            let newcomers = View::new(0, came);
            let places: Vec<u32> = newcomers.members().iter().map(|m| self.place_of(&m.node.name)).collect();
            self.contest(&newcomers, &places, &mut moved);
        }
        // A key may have moved twice: away from one that is gone, and then to one that came.
        moved.sort_by_key(|(index, _)| *index);
        moved.dedup_by_key(|(index, _)| *index);
        let moves = moved.into_iter().filter(|(index, from)| self.owners[*index] != *from);
        let moves = moves.map(|(index, from)| Move {
            key: self.keys[index],
            from: self.name(from).cloned(),
            to: self.name(self.owners[index]).cloned(),
        });
        let moves = moves.collect();
        self.forget_names();
        moves
    }

    /// Gives every key of the next set its owner within the bound; nothing without a bound.
    fn spread(&mut self, next: Vec<Key>) -> Vec<Move> {
        let Some(load_max_percent) = self.load_max_percent else { return Vec::new() };
        let view = self.view.clone();
        let places: Vec<u32> = view.members().iter().map(|member| self.place_of(&member.node.name)).collect();
        let costs: Vec<u32> = next.iter().map(|key| self.costs.get(key).copied().unwrap_or(1)).collect();
        let owners = bounded::spread(&*self.sharder, &view, &next, &costs, load_max_percent);
        let owners = owners.into_iter().map(|owner| places.get(owner as usize).copied().unwrap_or(NOBODY));
        let owners: Vec<u32> = owners.collect();
        let mut moves = Vec::new();
        for (key, owner) in self.iter() {
            if next.binary_search(&key).is_err() {
                moves.push(Move { key, from: owner.cloned(), to: None });
            }
        }
        for (key, owner) in next.iter().zip(&owners) {
            let known = self.keys.binary_search(key).ok();
            let from = known.map_or(NOBODY, |index| self.owners[index]);
            if known.is_none() || from != *owner {
                let (from, to) = (self.name(from).cloned(), self.name(*owner).cloned());
                moves.push(Move { key: *key, from, to });
            }
        }
        (self.keys, self.draws, self.owners) = (next, vec![0; owners.len()], owners);
        moves
    }

    fn name(&self, place: u32) -> Option<&NodeName> {
        self.names.get(place as usize)
    }

    fn place_of(&mut self, name: &NodeName) -> u32 {
        let place = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.clone());
            self.names.len() - 1
        });
        place as u32
    }

    /// Owners and draws of these keys under the whole view.
    fn all_anew(&mut self, keys: &[Key]) -> (Vec<u32>, Vec<u32>) {
        let view = self.view.clone();
        let places: Vec<u32> = view.members().iter().map(|member| self.place_of(&member.node.name)).collect();
        let (mut owners, mut draws) = (vec![NOBODY; keys.len()], vec![0; keys.len()]);
        self.sharder.assign(keys, &view, &mut owners, &mut draws);
        for owner in &mut owners {
            *owner = places.get(*owner as usize).copied().unwrap_or(NOBODY);
        }
        (owners, draws)
    }

    /// Finds new owners for the keys of those who are gone and of nobody; says which, and who owned them.
    fn give_away(&mut self, gone: &BTreeSet<NodeName>) -> Vec<(usize, u32)> {
        let mut is_gone: Vec<bool> = self.names.iter().map(|name| gone.contains(name)).collect();
        // The owners' places end here: whatever is beyond is nobody.
        is_gone.push(true);
        let nobody = is_gone.len() - 1;
        let place = |owner: u32| (owner as usize).min(nobody);
        let lost = self.owners.iter().enumerate().filter(|(_, owner)| is_gone[place(**owner)]);
        let lost: Vec<(usize, u32)> = lost.map(|(index, owner)| (index, *owner)).collect();
        let keys: Vec<Key> = lost.iter().map(|(index, _)| self.keys[*index]).collect();
        let (owners, draws) = self.all_anew(&keys);
        for ((index, _), (owner, draw)) in lost.iter().zip(owners.into_iter().zip(draws)) {
            (self.owners[*index], self.draws[*index]) = (owner, draw);
        }
        lost
    }

    /// Gives the newcomers what they win from the owners of today.
    fn contest(&mut self, newcomers: &View, places: &[u32], moved: &mut Vec<(usize, u32)>) {
        let mut won = Vec::new();
        if self.sharder.outdraw(&self.keys, &self.draws, newcomers, &self.view, &mut won) {
            for (index, newcomer, draw) in won {
                let mut place = places[newcomer as usize];
                if self.owners[index] == place {
                    continue;
                }
                if draw == self.draws[index] {
                    // On equal halves the whole draws decide.
                    let Some(winner) = self.sharder.owner(self.keys[index], &self.view) else { continue };
                    place = self.place_of(&self.view.members()[winner].node.name.clone());
                }
                if self.owners[index] != place {
                    moved.push((index, self.owners[index]));
                    (self.owners[index], self.draws[index]) = (place, draw);
                }
            }
            return;
        }
        // One small view per owner: the owner and the newcomers.
        let mut contests: Vec<Option<(View, Vec<u32>)>> = vec![None; self.names.len()];
        for index in 0..self.keys.len() {
            let owner = self.owners[index];
            let Some(name) = self.name(owner).cloned() else { continue };
            if contests[owner as usize].is_none() {
                let mut members = newcomers.members().to_vec();
                members.extend(self.view.member(&name).cloned());
                let contest = View::new(0, members);
                let places = contest.members().iter().map(|m| self.place_of(&m.node.name)).collect();
                contests[owner as usize] = Some((contest, places));
            }
            let Some((contest, places)) = &contests[owner as usize] else { continue };
            let (mut next, mut draw) = ([NOBODY], [0]);
            self.sharder.assign(&self.keys[index..=index], contest, &mut next, &mut draw);
            let next = places.get(next[0] as usize).copied().unwrap_or(NOBODY);
            if next != owner {
                moved.push((index, owner));
                (self.owners[index], self.draws[index]) = (next, draw[0]);
            }
        }
    }

    /// Names whose nodes are gone for good are dropped once they are the most.
    fn forget_names(&mut self) {
        if self.names.len() <= 2 * self.view.members().len() + 64 {
            return;
        }
        let names: Vec<NodeName> =
            self.names.iter().filter(|name| self.view.member(name).is_some()).cloned().collect();
        let place = |old: &NodeName| names.iter().position(|name| name == old).map_or(NOBODY, |at| at as u32);
        let places: Vec<u32> = self.names.iter().map(place).collect();
        for owner in &mut self.owners {
            *owner = places.get(*owner as usize).copied().unwrap_or(NOBODY);
        }
        self.names = names;
    }
}

fn active(view: &View) -> impl Iterator<Item = &Member> {
    view.members().iter().filter(|member| member.phase == Phase::Active)
}

/// Whether the member takes part in the sharding of the view exactly as it does here.
fn is_same(view: &View, member: &Member) -> bool {
    view.member(&member.node.name)
        .is_some_and(|other| other.phase == Phase::Active && other.weight == member.weight)
}
