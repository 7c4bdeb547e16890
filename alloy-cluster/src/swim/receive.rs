//! What comes in: packets and states of peers, foreign and broken ones, news about our own name.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foca::{Message, State};

use super::attributes::ATTRIBUTES_MAX;
use super::protocol::{Standing, Swim};
use super::screen::screen;
use super::sync::{FullState, SyncKind};
use crate::codec;
use crate::event::ClusterEvent;
use crate::node::Identity;
use crate::packet::{self, PacketError, PacketKind};
use crate::{NodeName, Phase, View};

impl Swim {
    /// Takes a datagram in. Bytes from anywhere are safe: what does not decode whole changes nothing.
    pub fn handle_packet(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.stats.packets_received += 1;
        if self.standing != Standing::Member {
            return;
        }
        match packet::open(self.cluster, bytes) {
            Ok(packet) => match packet.kind {
                PacketKind::Swim => self.handle_swim(now, packet.digest, packet.payload),
                PacketKind::Accuse => self.handle_accusation(now, packet.payload),
                PacketKind::Watch => self.handle_watch(now, packet.digest, packet.payload),
                PacketKind::Watched => self.handle_watched(now, packet.digest, packet.payload),
            },
            Err(PacketError::Malformed) => self.stats.malformed += 1,
            Err(PacketError::Foreign) => self.handle_foreign(now, from),
        }
    }

    /// Takes in a message that a peer's [`poll_message`](Swim::poll_message) gave out.
    pub fn handle_message(&mut self, now: Instant, from: &NodeName, bytes: &[u8]) {
        if self.standing != Standing::Member {
            return;
        }
        let Ok(state) = FullState::decode(bytes) else {
            self.stats.malformed += 1;
            return;
        };
        for member in state.members.into_iter().take(ATTRIBUTES_MAX) {
            let me = self.foca.identity().clone();
            if member.id().name == me.name {
                if *member.id() != me {
                    self.handle_namesake(now, &member.id().clone(), member.state());
                }
                continue;
            }
            self.apply_from_state(now, member);
        }
        for attributes in state.attributes.iter().filter(|attributes| attributes.name != self.mine.name) {
            let mut bytes = Vec::new();
            attributes.encode(&mut bytes);
            let _known_or_new = self.foca.add_broadcast(&bytes);
        }
        if state.kind == SyncKind::Ask {
            let answer = self.full_state(SyncKind::Answer);
            self.messages.push_back((from.clone(), answer));
        }
        self.is_joined = true;
        self.settle(now);
    }

    fn handle_swim(&mut self, now: Instant, digest: u64, payload: &[u8]) {
        let me = self.foca.identity().clone();
        let Ok(screened) = screen(&me.name, payload) else {
            self.stats.malformed += 1;
            return;
        };
        let source = screened.header.src.clone();
        let mut payload = Cow::Borrowed(payload);
        if source.name == me.name {
            // Our own packet that came back: one of the addresses to join is ours.
            if source != me {
                self.handle_namesake(now, &source, State::Alive);
            }
            return;
        }
        let namesakes: Vec<_> =
            screened.namesakes(&me).map(|(identity, state)| (identity.clone(), state)).collect();
        if !namesakes.is_empty() {
            payload = screened.without_namesakes(&me, &payload).into();
        }
        for (identity, state) in namesakes {
            self.handle_namesake(now, &identity, state);
        }
        if self.standing != Standing::Member || !self.has_room_for(&screened.members, &source) {
            return;
        }
        let is_renewed = *self.foca.identity() != me;
        if !is_renewed {
            self.watch.heard(now, &source);
            // What fails here has been counted or is about another life of ours: nothing has been applied.
            let _refused = self.foca.handle_data(&payload, &mut self.runtime);
        }
        let is_for_an_older_life = screened.header.dst.name == me.name && screened.header.dst != me;
        if is_for_an_older_life && screened.header.message != Message::Announce {
            self.greet(now, &source);
        }
        self.settle(now);
        self.compare(now, digest, &source);
    }

    /// A member that sees another view than this node is asked for all it knows.
    fn compare(&mut self, now: Instant, digest: u64, source: &Identity) {
        if digest != self.view.digest() && self.view.member(&source.name).is_some() {
            self.sync_with(now, source);
        }
    }

    /// The sender thinks of an earlier life of this node: it is a living member, so tell it about this one.
    fn greet(&mut self, now: Instant, source: &Identity) {
        if self.greeted_at.is_none_or(|at| now >= at + self.timing.gossip_interval) {
            self.greeted_at = Some(now);
            let _sent_or_too_long = self.foca.announce(source.clone(), &mut self.runtime);
        }
    }

    fn has_room_for(&self, members: &[foca::Member<Identity>], source: &Identity) -> bool {
        let known = self.foca.iter_membership_state();
        if known.len() + members.len() < ATTRIBUTES_MAX {
            return true;
        }
        known.map(|member| &member.id().name).any(|name| *name == source.name) && members.is_empty()
    }

    /// Another life of our name. An older one is no news. A newer one that is down was ours, with a clock ahead
    /// of today's; so was a living one at our own address. A living one elsewhere has taken the name.
    fn handle_namesake(&mut self, now: Instant, other: &Identity, state: State) {
        let me = self.foca.identity();
        if !other.beats(me) || self.standing != Standing::Member {
            return;
        }
        if state == State::Down || other.address == me.address {
            let incarnation = other.incarnation.max(me.incarnation).saturating_add(1);
            let next = Identity { incarnation, renewal: 0, ..me.clone() };
            let _sent_or_too_long = self.foca.change_identity(next, &mut self.runtime);
            self.mine.incarnation = incarnation;
            self.publish_mine(now);
            return;
        }
        self.standing = Standing::Withdrawn;
        self.push_event(ClusterEvent::NameTaken(other.node()));
        self.packets.clear();
        self.mine.phase = Phase::Joining;
        let me = self.my_member();
        self.view = Arc::new(View::new(self.view.epoch() + 1, vec![me]));
    }

    fn handle_accusation(&mut self, now: Instant, mut payload: &[u8]) {
        let accused = codec::take_identity(&mut payload);
        let incarnation = codec::take_u16(&mut payload);
        let accuser = codec::take_identity(&mut payload);
        let (Ok(accused), Ok(incarnation), Ok(accuser)) = (accused, incarnation, accuser) else {
            self.stats.malformed += 1;
            return;
        };
        if accused == *self.foca.identity() && accuser.name != accused.name {
            self.apply(foca::Member::new(accused, incarnation, State::Suspect));
            // The announcement carries our incarnation, which is now newer than the suspicion.
            let _sent_or_too_long = self.foca.announce(accuser, &mut self.runtime);
            self.settle(now);
        } else if accused.name == self.foca.identity().name {
            self.greet(now, &accuser);
            self.settle(now);
        }
    }

    /// Somebody asks whether this node lives.
    fn handle_watch(&mut self, now: Instant, digest: u64, mut payload: &[u8]) {
        let asked = codec::take_identity(&mut payload);
        let (Ok(asked), Ok(source)) = (asked, codec::take_identity(&mut payload)) else {
            self.stats.malformed += 1;
            return;
        };
        let me = self.foca.identity().clone();
        if asked == me && source.name != me.name {
            self.watch.heard(now, &source);
            self.send_watch(PacketKind::Watched, &source);
            self.compare(now, digest, &source);
        } else if asked.name == me.name && source.name != me.name {
            self.greet(now, &source);
            self.settle(now);
        }
    }

    fn handle_watched(&mut self, now: Instant, digest: u64, mut payload: &[u8]) {
        let asker = codec::take_identity(&mut payload);
        let (Ok(asker), Ok(source)) = (asker, codec::take_identity(&mut payload)) else {
            self.stats.malformed += 1;
            return;
        };
        if asker == *self.foca.identity() {
            self.watch.heard(now, &source);
            self.compare(now, digest, &source);
        }
    }

    fn handle_foreign(&mut self, now: Instant, from: SocketAddr) {
        self.stats.foreign += 1;
        if self.foreign_told.len() >= 1024 {
            self.foreign_told.clear();
        }
        let told = self.foreign_told.get(&from);
        if told.is_none_or(|at| now > *at + Duration::from_secs(60)) {
            self.foreign_told.insert(from, now);
            self.push_event(ClusterEvent::ForeignCluster(from));
        }
    }

    /// A peer's word about a member. That somebody we hear is down is only taken as a suspicion: the peer may have
    /// been cut off from it, and down cannot be taken back.
    fn apply_from_state(&mut self, now: Instant, member: foca::Member<Identity>) {
        let known = self.foca.iter_membership_state().find(|known| known.id() == member.id());
        let lives = known.is_some_and(|known| known.state() != State::Down);
        match member.state() {
            State::Alive => self.apply(member),
            State::Suspect if known.is_none() => {
                self.apply(foca::Member::new(member.id().clone(), member.incarnation(), State::Alive));
            }
            State::Suspect => {}
            State::Down if lives && !self.is_leaving(&member.id().name) => {
                let incarnation = known.map_or(0, |known| known.incarnation());
                let identity = member.id().clone();
                self.apply(foca::Member::new(identity.clone(), incarnation, State::Suspect));
                self.suspect(now, identity, incarnation);
            }
            State::Down => self.apply(member),
        }
    }
}
