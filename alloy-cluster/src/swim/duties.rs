//! What a node does for the others unasked: beats, questions, accusations, and attempts to reach the lost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::State;

use super::protocol::Swim;
use super::suspicion::Suspicion;
use super::watch::Silence;
use crate::codec;
use crate::node::Identity;
use crate::packet::{self, PacketKind};
use crate::{NodeName, Phase};

/// Beyond so many pieces of news that wait to be passed on, two packets full, newcomers are not: when 1,000 boot at once, the
/// full state tells of them sooner, and foca looks through all that wait for each packet.
pub(super) const NEWCOMERS_MAX: usize = 64;
/// So many members try to reach the dead at full pace; of more each tries more rarely.
const RECONNECTING_MAX: u32 = 8;
/// How many are tried at a time.
const RECONNECT_FAN_OUT: usize = 3;

impl Swim {
    /// Puts a payload into its envelope and queues it.
    pub(super) fn send(&mut self, kind: PacketKind, to: SocketAddr, payload: &[u8]) {
        let packet = packet::seal(&mut self.sealer, self.cluster, kind, self.view.digest(), payload);
        self.push_packet(to, packet);
    }

    pub(super) fn watch_others(&mut self, now: Instant) {
        for identity in self.watch.beat().to_vec() {
            self.send_beat(&identity);
        }
        for silence in self.watch.silent(now, self.timing.watch_interval) {
            match silence {
                Silence::Doubt(identity) => self.send_watch(&identity),
                Silence::Suspect(identity) => {
                    let incarnation = self.known.of(&identity).map_or(0, foca::Member::incarnation);
                    self.suspect(now, identity, incarnation);
                }
            }
        }
    }

    /// "I live."
    pub(super) fn send_beat(&mut self, to: &Identity) {
        let tags = [to.tag().to_le_bytes(), self.foca.identity().tag().to_le_bytes()].concat();
        self.send(PacketKind::Beat, to.address, &tags);
    }

    /// "Do you live?"
    fn send_watch(&mut self, to: &Identity) {
        let mut payload = Vec::new();
        codec::put_identity(&mut payload, to);
        codec::put_identity(&mut payload, self.foca.identity());
        self.send(PacketKind::Watch, to.address, &payload);
    }

    /// Begins to suspect on this node's own evidence: only who has such may declare a death.
    pub(super) fn suspect(&mut self, now: Instant, identity: Identity, incarnation: u16) {
        if self.suspicions.raise(now, identity.clone(), incarnation, self.patience()) {
            self.stats.suspicions += 1;
            self.apply(foca::Member::new(identity, incarnation, State::Suspect));
        }
    }

    /// Tells a suspect that it is one, so that it can object.
    pub(super) fn accuse(&mut self, suspicion: &Suspicion) {
        let mut payload = Vec::new();
        codec::put_identity(&mut payload, &suspicion.identity);
        payload.extend_from_slice(&suspicion.incarnation.to_le_bytes());
        codec::put_identity(&mut payload, self.foca.identity());
        self.send(PacketKind::Accuse, suspicion.identity.address, &payload);
    }

    pub(super) fn is_leaving(&self, name: &NodeName) -> bool {
        self.view.member(name).is_some_and(|member| member.phase == Phase::Leaving)
    }

    /// Tells foca about a member, and has it passed on.
    pub(super) fn apply(&mut self, member: foca::Member<Identity>) {
        let is_newcomer = member.state() == State::Alive && self.known.of(member.id()).is_none();
        let is_passed_on = !is_newcomer || self.foca.updates_backlog() < NEWCOMERS_MAX;
        self.known.note(&member);
        let _sent_or_too_long =
            self.foca.apply_many(std::iter::once(member), is_passed_on, &mut self.runtime);
    }

    /// Tries nodes that are down again, unless they said goodbye: maybe only the network between us was. Says when to do
    /// that next.
    pub(super) fn reconnect(&mut self) -> Duration {
        let me = self.foca.identity().name.clone();
        let down = self.foca.iter_membership_state();
        let down = down.filter(|member| member.state() == State::Down && member.id().name != me);
        let lost: Vec<Identity> = down
            .map(foca::Member::id)
            .filter(|identity| {
                let attributes = self.attributes.of(&identity.name, identity.incarnation);
                attributes.is_none_or(|attributes| attributes.phase != Phase::Leaving)
            })
            // Foca keeps its members shuffled, so the first few are others each time round.
            .take(RECONNECT_FAN_OUT)
            .cloned()
            .collect();
        for identity in lost {
            let _sent_or_too_long = self.foca.announce(identity, &mut self.runtime);
        }
        let shared_by = self.foca.num_members() as u32 + 1;
        self.timing.reconnect_interval * shared_by.div_ceil(RECONNECTING_MAX)
    }

    /// A node that is told it is down because its name has a newer holder is told who that is.
    pub(super) fn with_winner(&self, to: &Identity, mut data: Vec<u8>) -> Vec<u8> {
        if codec::is_turn_undead(&data) {
            let mut known = self.foca.iter_membership_state();
            if let Some(winner) = known.find(|member| member.id().name == to.name && member.id() != to) {
                data.extend_from_slice(&1_u16.to_be_bytes());
                codec::put_member(&mut data, winner);
            }
        }
        data
    }
}
