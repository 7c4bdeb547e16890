//! What comes in: packets and states of peers, foreign and broken ones, news about our own name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foca::{Message, State};

use super::attributes::ATTRIBUTES_MAX;
use super::duties::NEWCOMERS_MAX;
use super::protocol::{Standing, Swim};
use super::screen::screen;
use super::sync::{FullState, SyncKind, Told};
use crate::codec;
use crate::event::ClusterEvent;
use crate::node::{Identity, Life};
use crate::packet::{self, PacketError, PacketKind};
use crate::{NodeName, Phase, View};

impl Swim {
    /// Takes a datagram in. Bytes from anywhere are safe: what does not decode whole changes nothing.
    pub fn handle_packet(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.stats.packets_received += 1;
        if self.standing != Standing::Member {
            return;
        }
        match packet::open(&mut self.sealer, self.cluster, bytes) {
            Ok(packet) => match packet.kind {
                PacketKind::Swim => self.handle_swim(now, packet.digest, &packet.payload),
                PacketKind::Accuse => self.handle_accusation(now, &packet.payload),
                PacketKind::Watch => self.handle_watch(now, packet.digest, &packet.payload),
                PacketKind::Beat => self.handle_beat(now, packet.digest, &packet.payload),
            },
            Err(PacketError::Malformed) => self.stats.malformed += 1,
            Err(PacketError::Foreign) => self.handle_foreign(now, from),
            Err(PacketError::Unsealed) => self.stats.unsealed += 1,
        }
    }

    /// Takes in a message that a peer's [`poll_message`](Swim::poll_message) gave out.
    pub fn handle_message(&mut self, now: Instant, from: &NodeName, bytes: &[u8]) {
        if self.standing != Standing::Member {
            return;
        }
        match FullState::decode(bytes) {
            Ok(state) => self.handle_state(now, from, state),
            Err(_) => self.stats.malformed += 1,
        }
    }

    pub(super) fn handle_state(&mut self, now: Instant, from: &NodeName, state: FullState) {
        self.hear(now);
        // A newcomer is told of everybody, whom the others know already: it does not pass that on.
        let news = state.members.iter().filter(|member| self.known.is_news(member)).count();
        let is_passed_on = news * 4 <= self.view.members().len() + 4;
        let told = (state.kind == SyncKind::Ask).then(|| Told::by(&state, &self.known, &self.attributes));
        for member in state.members.into_iter().take(ATTRIBUTES_MAX) {
            let me = self.foca.identity();
            if member.id().name == me.name {
                if member.id() != me {
                    self.handle_namesake(now, &member.id().clone(), member.state());
                }
            } else if self.known.is_news(&member) {
                self.apply_from_state(now, member, is_passed_on);
            }
        }
        for attributes in state.attributes {
            if attributes.name == self.mine.name || !self.attributes.is_news(&attributes) {
                continue;
            }
            if is_passed_on {
                let mut bytes = Vec::new();
                attributes.encode(&mut bytes);
                let _known_or_new = self.foca.add_broadcast(&bytes);
            } else {
                self.attributes.insert(attributes);
            }
        }
        if let Some(told) = told {
            let answer = self.full_state(SyncKind::Answer, &told);
            self.push_message(from.clone(), answer);
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
        if source.name == me.name {
            // Our own packet that came back: one of the addresses to join is ours.
            if source != me {
                self.handle_namesake(now, &source, State::Alive);
            }
            return;
        }
        let namesakes: Vec<_> =
            screened.namesakes(&me).map(|(identity, state)| (identity.clone(), state)).collect();
        for (identity, state) in namesakes {
            self.handle_namesake(now, &identity, state);
        }
        if self.standing != Standing::Member || !self.has_room_for(&screened.members, &source) {
            return;
        }
        self.hear(now);
        let is_renewed = *self.foca.identity() != me;
        if !is_renewed {
            self.watch.heard(now, &source);
            // What somebody says who is down, or to an earlier life of this node, is stale.
            let is_taken = screened.header.dst == me && !self.known.is_down(&source);
            let (own, others): (Vec<_>, Vec<_>) =
                screened.members.iter().partition(|member| *member.id() == source);
            if is_taken {
                self.apply_news(now, others.iter().copied().filter(|member| member.id().name != me.name));
                self.apply_about_me(others.iter().copied().filter(|member| *member.id() == me));
            }
            self.known.note(&foca::Member::new(
                source.clone(),
                screened.header.src_incarnation,
                State::Alive,
            ));
            // What fails here has been counted or is about another life of ours: nothing has been applied.
            let payload = screened.without_members(payload);
            self.attributes.pass_on(self.foca.custom_broadcast_backlog() < NEWCOMERS_MAX);
            let _refused = self.foca.handle_data(&payload, &mut self.runtime);
            // A goodbye comes last: foca does not read on in a packet of somebody who is down.
            if is_taken {
                self.apply_news(now, own.into_iter());
            }
        }
        let is_for_an_older_life = screened.header.dst.name == me.name && screened.header.dst != me;
        if is_for_an_older_life && screened.header.message != Message::Announce {
            self.greet(now, &source);
        }
        self.settle(now);
        self.compare(now, digest, &source);
    }

    fn apply_news<'a>(&mut self, now: Instant, members: impl Iterator<Item = &'a foca::Member<Identity>>) {
        for member in members {
            if self.known.is_news(member) {
                if member.state() == State::Alive {
                    // It has objected to a suspicion, and others have heard it: if this node alone cannot, it must not
                    // suspect it again at once, and again, and again.
                    self.watch.heard(now, member.id());
                }
                self.apply(member.clone());
            }
        }
    }

    /// News about this node itself: foca objects to a suspicion, and comes back from a death.
    fn apply_about_me<'a>(&mut self, members: impl Iterator<Item = &'a foca::Member<Identity>>) {
        for member in members.filter(|member| member.state() != State::Alive) {
            let _sent = self.foca.apply_many(std::iter::once(member.clone()), true, &mut self.runtime);
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
            let next = Identity::new(Life { incarnation, renewal: 0, ..Life::clone(me) });
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
            self.hear(now);
            let suspicion = foca::Member::new(accused, incarnation, State::Suspect);
            self.apply_about_me(std::iter::once(&suspicion));
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
            self.hear(now);
            self.watch.heard(now, &source);
            self.send_beat(&source);
            self.compare(now, digest, &source);
        } else if asked.name == me.name && source.name != me.name {
            self.greet(now, &source);
            self.settle(now);
        }
    }

    /// Somebody says that it lives.
    fn handle_beat(&mut self, now: Instant, digest: u64, mut payload: &[u8]) {
        let to = codec::take_u64(&mut payload);
        let (Ok(to), Ok(source)) = (to, codec::take_u64(&mut payload)) else {
            self.stats.malformed += 1;
            return;
        };
        // Whoever does not know this life of ours yet is asked once it is in doubt.
        if to == self.foca.identity().tag()
            && let Some(source) = self.watch.heard_tag(now, source)
        {
            self.hear(now);
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
    fn apply_from_state(&mut self, now: Instant, member: foca::Member<Identity>, is_passed_on: bool) {
        let known = self.known.of(member.id());
        match member.state() {
            State::Alive => self.apply_quietly(member, is_passed_on),
            State::Suspect if known.is_none() => {
                let member = foca::Member::new(member.id().clone(), member.incarnation(), State::Alive);
                self.apply_quietly(member, is_passed_on);
            }
            State::Suspect => {}
            State::Down => match known.map(|known| (known.state(), known.incarnation())) {
                Some((State::Alive | State::Suspect, incarnation)) if !self.is_leaving(&member.id().name) => {
                    self.suspect(now, member.id().clone(), incarnation);
                }
                _ => self.apply(member),
            },
        }
    }

    fn apply_quietly(&mut self, member: foca::Member<Identity>, is_passed_on: bool) {
        self.known.note(&member);
        let _sent = self.foca.apply_many(std::iter::once(member), is_passed_on, &mut self.runtime);
    }
}
