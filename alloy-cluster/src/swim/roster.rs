//! Foca's members and their attributes as a [`View`], and what changed from one to the next.

use std::sync::Arc;
use std::time::Instant;

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
        let mut members = vec![self.my_member()];
        members.extend(self.foca.iter_members().map(|member| self.member_of(member.id())));
        let next = View::new(self.view.epoch() + 1, members);
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
        self.synced.retain(|name, _| next.member(name).is_some());
        self.view = Arc::new(next);
        self.view_changed_at = now;
        self.gossip_soon(now);
    }

    pub(super) fn my_member(&self) -> Member {
        member_with(self.foca.identity().node(), self.mine.clone())
    }

    /// A member whose attributes have not arrived yet owns nothing.
    fn member_of(&self, identity: &Identity) -> Member {
        match self.attributes.of(&identity.name, identity.incarnation) {
            Some(attributes) => member_with(identity.node(), attributes),
            None => Member {
                node: identity.node(),
                phase: Phase::Joining,
                zone: "".into(),
                weight: 100,
                metadata: Arc::new([]),
            },
        }
    }
}

fn member_with(node: crate::Node, attributes: Attributes) -> Member {
    let Attributes { phase, weight, zone, metadata, .. } = attributes;
    Member { node, phase, zone, weight, metadata }
}

/// Who came, restarted, or is ready for something else.
fn changes(old: &View, new: &View, me: &NodeName) -> Vec<ClusterEvent> {
    let mut events = Vec::new();
    for member in new.members().iter().filter(|member| member.node.name != *me) {
        match old.member(&member.node.name) {
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
