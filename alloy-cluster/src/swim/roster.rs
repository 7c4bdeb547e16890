//! Foca's members and their attributes as a [`View`], and what changed from one to the next.

use std::sync::Arc;
use std::time::Instant;

use super::attributes::ATTRIBUTES_MAX;
use super::protocol::{Standing, Swim};
use crate::codec::Attributes;
use crate::event::ClusterEvent;
use crate::node::Identity;
use crate::{Member, NodeName, Phase, View};

impl Swim {
    pub(super) fn renew_view(&mut self, now: Instant) {
        if self.standing != Standing::Member {
            return;
        }
        self.view_is_stale = false;
        let mut identities: Vec<Identity> =
            self.foca.iter_members().map(|member| member.id().clone()).collect();
        identities.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let members = self.attributes.with(|known| {
            let others = identities.iter().map(|identity| member_of(identity, known.get(&identity.name)));
            others.chain([self.my_member()]).collect()
        });
        let next = View::new(self.view.epoch() + 1, members);
        self.follow(now, &next, &identities);
        if next.members() == self.view.members() {
            return;
        }
        for event in changes(&self.view, &next, &self.mine.name) {
            self.push_event(event);
        }
        for member in self.view.clone().members().iter().filter(|old| next.member(&old.node.name).is_none()) {
            // A goodbye brings the phase in the same packet, so the last view does not have it yet.
            let last = self.attributes.of(&member.node.name, member.node.incarnation);
            let said_goodbye = last.is_some_and(|attributes| attributes.phase == Phase::Leaving);
            let node = member.node.clone();
            self.push_event(match said_goodbye {
                true => ClusterEvent::MemberLeft(node),
                false => ClusterEvent::MemberDown(node),
            });
        }
        self.attributes.prune(|name| next.member(name).is_some());
        self.known.prune(ATTRIBUTES_MAX);
        if next.digest() != self.view.digest() {
            self.syncs.reset();
        }
        self.view = Arc::new(next);
        self.view_changed_at = now;
        self.follow_size();
        self.gossip_soon(now);
    }

    /// Watches those who are next on the circle in this view.
    fn follow(&mut self, now: Instant, view: &View, identities: &[Identity]) {
        let Some(me) = view.index_of(&self.mine.name) else { return };
        self.watch.follow(now, me, view, |index| {
            let name = &view.members()[index].node.name;
            let found = identities.binary_search_by(|identity| identity.name.cmp(name)).ok()?;
            Some(identities[found].clone())
        });
    }

    pub(super) fn my_member(&self) -> Member {
        member_with(self.foca.identity().node(), self.mine.clone())
    }
}

/// A member whose attributes have not arrived yet owns nothing.
fn member_of(identity: &Identity, attributes: Option<&Attributes>) -> Member {
    match attributes.filter(|attributes| attributes.incarnation == identity.incarnation) {
        Some(attributes) => member_with(identity.node(), attributes.clone()),
        None => Member::new(identity.node()),
    }
}

fn member_with(node: crate::Node, attributes: Attributes) -> Member {
    let Attributes { phase, weight, zone, version, metadata, .. } = attributes;
    Member { node, phase, zone, weight, version, metadata }
}

/// Who came, restarted, or is ready for something else.
fn changes(old: &View, new: &View, me: &NodeName) -> Vec<ClusterEvent> {
    let mut events = Vec::new();
    let mut before = old.members().iter().peekable();
    for member in new.members() {
        // Both are sorted by name.
        while before.next_if(|old| old.node.name < member.node.name).is_some() {}
        let before = before.next_if(|old| old.node.name == member.node.name);
        if member.node.name == *me {
            continue;
        }
        match before {
            None => events.push(ClusterEvent::MemberUp(member.node.clone())),
            Some(before) if before.node != member.node => {
                events.push(ClusterEvent::MemberReplaced(member.node.clone()));
            }
            Some(before) if before.phase != member.phase => {
                let name = member.node.name.clone();
                events.push(ClusterEvent::MemberPhase { name, phase: member.phase });
            }
            Some(_) => {}
        }
    }
    events
}
