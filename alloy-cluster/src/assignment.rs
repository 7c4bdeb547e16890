//! [`Assignment`]: the owner of every key at once, kept up to date with few looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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

/// Who owns each key of a set, under the last view.
///
/// A join compares each key's owner with the newcomers only, and a leave looks only at the leaver's keys.
/// Both follow from minimal disruption (contract line 4 of [`Sharder`]): the owner among all is also the
/// owner among any part of the members that it belongs to. Memory: about 32 bytes per key.
pub struct Assignment {
    sharder: Arc<dyn Sharder>,
    view: Arc<View>,
    owners: BTreeMap<Key, Option<NodeName>>,
}

impl Assignment {
    /// No keys, nobody active.
    pub fn new(sharder: Arc<dyn Sharder>) -> Self {
        Assignment { sharder, view: Arc::new(View::new(0, Vec::new())), owners: BTreeMap::new() }
    }

    /// The owner of a key of the set.
    pub fn owner(&self, key: Key) -> Option<&NodeName> {
        self.owners.get(&key)?.as_ref()
    }

    /// Every key with its owner, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (Key, Option<&NodeName>)> {
        self.owners.iter().map(|(key, owner)| (*key, owner.as_ref()))
    }

    /// Replaces the set of keys; the moves are the keys that come and go.
    pub fn set_keys(&mut self, keys: impl IntoIterator<Item = Key>) -> Vec<Move> {
        let keys: BTreeSet<Key> = keys.into_iter().collect();
        let mut moves = Vec::new();
        self.owners.retain(|key, owner| {
            let stays = keys.contains(key);
            if !stays {
                moves.push(Move { key: *key, from: owner.take(), to: None });
            }
            stays
        });
        for key in keys {
            if let std::collections::btree_map::Entry::Vacant(entry) = self.owners.entry(key) {
                let owner = owner(&*self.sharder, key, &self.view);
                moves.push(Move { key, from: None, to: owner.clone() });
                entry.insert(owner);
            }
        }
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
        // One small view per owner: the owner and the newcomers.
        let mut contests: BTreeMap<NodeName, View> = BTreeMap::new();
        let mut moves = Vec::new();
        for (&key, current) in &mut self.owners {
            let next = match current {
                Some(name) if !gone.contains(name) => {
                    if came.is_empty() {
                        continue;
                    }
                    let contest = contests.entry(name.clone()).or_insert_with(|| {
                        let mut members = came.clone();
                        members.extend(self.view.member(name).cloned());
                        View::new(0, members)
                    });
                    owner(&*self.sharder, key, contest)
                }
                _ => owner(&*self.sharder, key, &self.view),
            };
            if *current != next {
                moves.push(Move { key, from: current.take(), to: next.clone() });
                *current = next;
            }
        }
        moves
    }
}

fn owner(sharder: &dyn Sharder, key: Key, view: &View) -> Option<NodeName> {
    sharder.owner(key, view).map(|index| view.members()[index].node.name.clone())
}

fn active(view: &View) -> impl Iterator<Item = &Member> {
    view.members().iter().filter(|member| member.phase == Phase::Active)
}

/// Whether the member takes part in the sharding of the view exactly as it does here.
fn is_same(view: &View, member: &Member) -> bool {
    view.member(&member.node.name)
        .is_some_and(|other| other.phase == Phase::Active && other.weight == member.weight)
}
