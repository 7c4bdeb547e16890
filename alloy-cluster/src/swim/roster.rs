//! Foca's members and their attributes as a [`View`], and what changed from one to the next.

use std::sync::Arc;
use std::time::Instant;

use super::attributes::ATTRIBUTES_MAX;
use super::protocol::{Standing, Swim};
use crate::codec::Attributes;
use crate::event::ClusterEvent;
use crate::node::Identity;
use crate::{Member, Node, NodeName, Phase, View};

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
        let (events, gone) = changes(&self.view, &next, &self.mine.name);
        for event in events {
            self.push_event(event);
        }
        for node in gone {
            // A goodbye brings the phase in the same packet, so the last view does not have it yet.
            let last = self.attributes.of(&node.name, node.incarnation);
            let said_goodbye = last.is_some_and(|attributes| attributes.phase == Phase::Leaving);
            self.push_event(match said_goodbye {
                true => ClusterEvent::MemberLeft(node),
                false => ClusterEvent::MemberDown(node),
            });
        }
        self.attributes.prune(|name| next.member(name).is_some());
        self.known.prune(ATTRIBUTES_MAX);
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
        member_with(self.foca.identity().node(), &self.mine)
    }
}

/// A member whose attributes have not arrived yet owns nothing.
fn member_of(identity: &Identity, attributes: Option<&Arc<Attributes>>) -> Member {
    match attributes.filter(|attributes| attributes.incarnation == identity.incarnation) {
        Some(attributes) => member_with(identity.node(), attributes),
        None => Member::new(identity.node()),
    }
}

fn member_with(node: Node, attributes: &Attributes) -> Member {
    Member {
        node,
        phase: attributes.phase,
        zone: attributes.zone.clone(),
        weight: attributes.weight,
        version: attributes.version.clone(),
        metadata: attributes.metadata.clone(),
    }
}

/// Who came, restarted, or is ready for something else; and who is not there any more.
fn changes(old: &View, new: &View, me: &NodeName) -> (Vec<ClusterEvent>, Vec<Node>) {
    let (mut events, mut gone) = (Vec::new(), Vec::new());
    let mut before = old.members().iter().peekable();
    for member in new.members() {
        // Both are sorted by name.
        while let Some(old) = before.next_if(|old| old.node.name < member.node.name) {
            gone.push(old.node.clone());
        }
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
    gone.extend(before.map(|old| old.node.clone()));
    (events, gone)
}
