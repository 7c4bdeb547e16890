//! Which keys a new view concerns: those whose owner or successor goes, and those that a newcomer wins.
//!
//! Of all keys most stay where they are, and a full look costs a rank over all members and two clones of names for each.
//! The two first in rank among all are also the two first among any part of the members that they belong to (contract lines
//! 4 and 5 of [`Sharder`](crate::Sharder)), so each key's two are compared with the newcomers only.

use std::collections::{BTreeSet, HashMap};

use super::machine::{Entry, Handover, Role};
use crate::{Key, Member, NodeName, Phase, Rank, View};

/// Below this all keys are looked at: making the small views would cost as much.
const KEYS_MIN: usize = 64;

/// What is different in a new view, as far as ranks go.
struct Changes {
    came: Vec<Member>,
    gone: BTreeSet<NodeName>,
}

impl Handover {
    /// The keys to look at after the view has changed from `before`.
    pub(super) fn affected(&self, before: &View) -> Vec<Key> {
        let phase_before = before.member(&self.me).map(|me| me.phase);
        let is_mine_changed = phase_before != self.view.member(&self.me).map(|me| me.phase);
        if self.entries.len() < KEYS_MIN || is_mine_changed || !zones_are_uniform(before, &self.view) {
            return self.entries.keys().copied().collect();
        }
        let changes = Changes {
            came: active(&self.view).filter(|member| !is_same(before, member)).cloned().collect(),
            gone: active(before)
                .filter(|member| !is_same(&self.view, member))
                .map(|member| member.node.name.clone())
                .collect(),
        };
        let mut contests = HashMap::new();
        let mut rank = Rank::new();
        let entries = self.entries.iter();
        let affected = entries.filter(|(key, entry)| {
            matches!(entry.role, Role::Claiming(_))
                || self.is_moved(**key, entry, &changes, &mut contests, &mut rank)
        });
        affected.map(|(key, _)| *key).collect()
    }

    fn is_moved(
        &self,
        key: Key,
        entry: &Entry,
        changes: &Changes,
        contests: &mut HashMap<(NodeName, NodeName), View>,
        rank: &mut Rank,
    ) -> bool {
        let (Some(owner), Some(successor)) = (&entry.owner, &entry.successor) else { return true };
        if changes.gone.contains(owner) || changes.gone.contains(successor) {
            return true;
        }
        if changes.came.is_empty() {
            return false;
        }
        let contest = contests.entry((owner.clone(), successor.clone())).or_insert_with(|| {
            let two = [owner, successor].into_iter().filter_map(|name| self.view.member(name)).cloned();
            View::new(0, changes.came.iter().cloned().chain(two).collect())
        });
        self.sharder.rank(key, contest, 2, rank);
        let name = |place: usize| rank.get(place).map(|index| &contest.members()[*index].node.name);
        name(0) != Some(owner) || name(1) != Some(successor)
    }
}

fn active(view: &View) -> impl Iterator<Item = &Member> {
    view.members().iter().filter(|member| member.phase == Phase::Active)
}

/// Whether the member is ranked in the view exactly as it is here.
fn is_same(view: &View, member: &Member) -> bool {
    view.member(&member.node.name).is_some_and(|other| {
        other.phase == Phase::Active && other.weight == member.weight && other.zone == member.zone
    })
}

/// Whether all zones are known, or none is: with some unknown the third in rank may become the second.
fn zones_are_uniform(before: &View, after: &View) -> bool {
    let mut zones = active(before).chain(active(after)).map(|member| member.zone.is_empty());
    let first = zones.next();
    zones.all(|is_empty| Some(is_empty) == first)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::{HandoverOptions, Node, Rendezvous, Sharder};

    fn view(epoch: u64, names: &[usize], zones: usize) -> Arc<View> {
        let node = |index: &usize| Node {
            name: format!("node-{index}").as_str().into(),
            address: ([10, 0, 0, 1], 1).into(),
            incarnation: 1,
        };
        let member = |index: &usize| Member {
            phase: Phase::Active,
            zone: if zones == 0 { "".into() } else { format!("zone-{}", index % zones).as_str().into() },
            ..Member::new(node(index))
        };
        Arc::new(View::new(epoch, names.iter().map(member).collect()))
    }

    #[test]
    fn after_any_change_every_key_has_the_ranks_of_a_full_look() {
        for zones in [0, 1, 2, 3] {
            let mut handover =
                Handover::new("node-0".into(), HandoverOptions::default(), Arc::new(Rendezvous));
            let now = Instant::now();
            handover.set_keys(now, 0..2000);
            for step in 0..40_usize {
                let here: Vec<usize> =
                    (0..12).filter(|index| *index == 0 || (index * 5 + step * 7) % 11 > 3).collect();
                let view = view(step as u64, &here, zones);
                handover.set_view(now, view.clone());
                let mut rank = Rank::new();
                for status in handover.statuses() {
                    Rendezvous.rank(status.key, &view, 2, &mut rank);
                    let name =
                        |place: usize| rank.get(place).map(|index| view.members()[*index].node.name.clone());
                    assert_eq!(
                        (status.owner, status.successor),
                        (name(0), name(1)),
                        "step {step}, {zones} zones"
                    );
                }
            }
        }
    }
}
