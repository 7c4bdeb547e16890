//! [`Swim`]: time and packets in, packets, messages, events and deadlines out.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foca::{Foca, Message, Notification, PeriodicParams, State, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::attributes::{ATTRIBUTES_MAX, AttributeStore};
use super::screen::screen;
use super::suspicion::{Due, Suspicion, Suspicions};
use super::sync::{FullState, SyncKind};
use crate::codec::{self, Attributes, Codec};
use crate::config::Timing;
use crate::event::ClusterEvent;
use crate::node::Identity;
use crate::packet::{self, ENVELOPE_BYTES, PACKET_BYTES_MAX, PacketError, PacketKind};
use crate::timers::Timers;
use crate::{Error, Member, NodeName, Phase, View};

/// Packets that wait to be sent; a caller that polls after each call never gets near. The newest are dropped.
const PACKETS_MAX: usize = 4096;
/// Events that wait to be polled; the newest are dropped.
const EVENTS_MAX: usize = 1024;
/// How often one piece of news is sent: 4 * log10(n + 1) reaches everybody, which is 12 for 1,000 members.
const TRANSMISSIONS: u8 = 12;
/// How many hear of a goodbye at once; gossip tells the rest.
const GOODBYE_FAN_OUT: usize = 32;
/// News waits this long for more news before it is gossiped out of turn.
const GOSSIP_DELAY: Duration = Duration::from_millis(10);
/// Between two exchanges of the full state with one peer.
const SYNC_INTERVAL: Duration = Duration::from_millis(500);

/// Who this node is, and how it behaves.
#[derive(Debug, Clone)]
pub struct SwimConfig {
    /// The cluster's name; packets of another are refused.
    pub cluster: String,
    /// This node as the others shall see it.
    pub me: Member,
    /// How fast failures are found.
    pub timing: Timing,
    /// Seeds the choice of whom to probe and to tell.
    pub seed: u64,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwimStats {
    /// Datagrams given to be sent.
    pub packets_sent: u64,
    /// Datagrams taken.
    pub packets_received: u64,
    /// Datagrams and state messages that were damaged, or not ours at all.
    pub malformed: u64,
    /// Datagrams of a cluster with another name.
    pub foreign: u64,
    /// Datagrams and events dropped because nobody polled them.
    pub dropped: u64,
    /// Exchanges of the full state that this node asked for.
    pub syncs: u64,
    /// Members that this node began to suspect.
    pub suspicions: u64,
    /// Members that this node declared down.
    pub declared_down: u64,
    /// Times this node was declared down and came back.
    pub rejoins: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Member,
    Left,
    Withdrawn,
}

enum Alarm {
    Foca(Timer<Identity>),
    Gossip,
    Reconnect,
}

/// The membership protocol of one node: no clock, no socket. Every `handle_*` is followed by polling.
///
/// Memory: about 1.5 KiB per known name (at most 20,000 names) plus the bounded queues.
pub struct Swim {
    pub(super) foca: Foca<Identity, Codec, StdRng, AttributeStore>,
    pub(super) runtime: Collected,
    attributes: AttributeStore,
    mine: Attributes,
    cluster: u64,
    timing: Timing,
    standing: Standing,
    view: Arc<View>,
    view_changed_at: Instant,
    alarms: Timers<Alarm>,
    gossip_is_due: bool,
    suspicions: Suspicions,
    synced: HashMap<NodeName, Instant>,
    packets: VecDeque<(SocketAddr, Bytes)>,
    messages: VecDeque<(NodeName, Bytes)>,
    events: VecDeque<ClusterEvent>,
    foreign_told: HashMap<SocketAddr, Instant>,
    greeted_at: Option<Instant>,
    stats: SwimStats,
}

impl Swim {
    /// A node that knows nobody yet.
    pub fn new(now: Instant, config: SwimConfig) -> Result<Self, Error> {
        let SwimConfig { cluster, me, timing, seed } = config;
        check_length("cluster name", cluster.len(), 1, 255)?;
        check_length("node name", me.node.name.as_str().len(), 1, codec::NAME_BYTES_MAX)?;
        check_length("zone", me.zone.len(), 0, codec::ZONE_BYTES_MAX)?;
        check_length("metadata", me.metadata.len(), 0, codec::METADATA_BYTES_MAX)?;
        if me.weight == 0 {
            return Err(Error::Weight);
        }
        let identity = Identity::from(me.node.clone());
        let attributes = AttributeStore::new(me.node.name.clone());
        let foca = Foca::with_custom_broadcast(
            identity,
            foca_config(&timing),
            StdRng::seed_from_u64(seed),
            Codec { me: me.node.name.clone() },
            attributes.clone(),
        );
        let mine = Attributes {
            name: me.node.name.clone(),
            incarnation: me.node.incarnation,
            version: 0,
            phase: me.phase,
            weight: me.weight,
            zone: me.zone.clone(),
            metadata: me.metadata.clone(),
        };
        let mut swim = Swim {
            foca,
            runtime: Collected::default(),
            attributes,
            mine,
            cluster: packet::cluster_hash(&cluster),
            timing,
            standing: Standing::Member,
            view: Arc::new(View::new(1, vec![me])),
            view_changed_at: now,
            alarms: Timers::new(),
            gossip_is_due: false,
            suspicions: Suspicions::default(),
            synced: HashMap::new(),
            packets: VecDeque::new(),
            messages: VecDeque::new(),
            events: VecDeque::new(),
            foreign_told: HashMap::new(),
            greeted_at: None,
            stats: SwimStats::default(),
        };
        swim.alarms.push(now + swim.timing.reconnect_interval, Alarm::Reconnect);
        swim.publish_mine(now);
        Ok(swim)
    }

    /// The members now.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// What has been counted.
    pub fn stats(&self) -> SwimStats {
        self.stats
    }

    /// Asks whoever listens at these addresses to be taken into the cluster.
    pub fn handle_join(&mut self, now: Instant, addresses: &[SocketAddr]) {
        for address in addresses {
            let is_known = self.view.members().iter().any(|member| member.node.address == *address);
            if !is_known && self.standing == Standing::Member {
                let _sent_or_too_long = self.foca.announce(Identity::wildcard(*address), &mut self.runtime);
            }
        }
        self.settle(now);
    }

    /// Tells the others what this node is ready for.
    pub fn set_phase(&mut self, now: Instant, phase: Phase) {
        if self.standing == Standing::Member && self.mine.phase != phase {
            self.mine.phase = phase;
            self.publish_mine(now);
        }
    }

    /// Says goodbye: poll the packets once more, and then let go. The others know within a gossip interval or two.
    pub fn handle_leave(&mut self, now: Instant) {
        if self.standing != Standing::Member {
            return;
        }
        self.set_phase(now, Phase::Leaving);
        let mut config = foca_config(&self.timing);
        config.num_indirect_probes = NonZeroUsize::new(GOODBYE_FAN_OUT).expect("32 is not zero");
        let _only_intervals_are_refused = self.foca.set_config(config);
        // Twice, because one packet may be lost and nobody would miss it.
        let _sent_or_too_long = self.foca.leave_cluster(&mut self.runtime);
        let _sent_or_too_long = self.foca.gossip(&mut self.runtime);
        self.settle(now);
        self.standing = Standing::Left;
    }

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
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.standing != Standing::Member {
            return;
        }
        let stalled = self.poll_deadline().is_some_and(|due| now > due + self.timing.probe_interval / 2);
        if stalled {
            self.suspicions.grant(now);
        }
        while let Some(alarm) = self.alarms.pop_due(now) {
            match alarm {
                Alarm::Foca(timer) => {
                    // The errors are about timers of before a change of identity, and harmless.
                    let _stale = self.foca.handle_timer(timer, &mut self.runtime);
                }
                Alarm::Gossip => {
                    self.gossip_is_due = false;
                    let _sent_or_too_long = self.foca.gossip(&mut self.runtime);
                }
                Alarm::Reconnect => {
                    self.reconnect();
                    self.alarms.push(now + self.timing.reconnect_interval, Alarm::Reconnect);
                }
            }
            self.settle(now);
        }
        let foca = &self.foca;
        for due in self.suspicions.take_due(now, |suspicion| is_suspect(foca, suspicion)) {
            match due {
                Due::Accuse(suspicion) => self.accuse(&suspicion),
                Due::Declare(suspicion) => {
                    self.stats.declared_down += 1;
                    let down = foca::Member::new(suspicion.identity, suspicion.incarnation, State::Down);
                    self.apply(down);
                }
            }
        }
        self.settle(now);
    }

    /// When [`handle_timeout`](Swim::handle_timeout) is due.
    pub fn poll_deadline(&self) -> Option<Instant> {
        if self.standing != Standing::Member {
            return None;
        }
        [self.alarms.next(), self.suspicions.next()].into_iter().flatten().min()
    }

    /// The next datagram to send, and where to.
    pub fn poll_packet(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.packets.pop_front()
    }

    /// The next message that has to reach a member over a stream: too long for a datagram.
    pub fn poll_message(&mut self) -> Option<(NodeName, Bytes)> {
        self.messages.pop_front()
    }

    /// What happened since this was last asked.
    pub fn poll_event(&mut self) -> Option<ClusterEvent> {
        self.events.pop_front()
    }

    fn handle_swim(&mut self, now: Instant, digest: u64, payload: &[u8]) {
        let me = self.foca.identity().clone();
        let Ok(screened) = screen(&me.name, payload) else {
            self.stats.malformed += 1;
            return;
        };
        let source = screened.header.src.clone();
        let mut payload = std::borrow::Cow::Borrowed(payload);
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
            // What fails here has been counted or is about another life of ours: nothing has been applied.
            let _refused = self.foca.handle_data(&payload, &mut self.runtime);
        }
        let is_for_an_older_life = screened.header.dst.name == me.name && screened.header.dst != me;
        if is_for_an_older_life && screened.header.message != Message::Announce {
            self.greet(now, &source);
        }
        self.settle(now);
        if digest != self.view.digest() && self.view.member(&source.name).is_some() {
            self.sync_with(now, &source);
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

    fn accuse(&mut self, suspicion: &Suspicion) {
        let mut payload = Vec::new();
        codec::put_identity(&mut payload, &suspicion.identity);
        payload.extend_from_slice(&suspicion.incarnation.to_le_bytes());
        codec::put_identity(&mut payload, self.foca.identity());
        let packet = packet::seal(self.cluster, PacketKind::Accuse, self.view.digest(), &payload);
        self.push_packet(suspicion.identity.address, packet);
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
                self.suspicions.raise(now, identity, incarnation, self.patience());
            }
            State::Down => self.apply(member),
        }
    }

    fn is_leaving(&self, name: &NodeName) -> bool {
        self.view.member(name).is_some_and(|member| member.phase == Phase::Leaving)
    }

    fn apply(&mut self, member: foca::Member<Identity>) {
        let _sent_or_too_long = self.foca.apply_many(std::iter::once(member), true, &mut self.runtime);
    }

    /// Tries nodes that are down again, unless they said goodbye: maybe only the network between us was.
    fn reconnect(&mut self) {
        let me = self.foca.identity().name.clone();
        let state = self.foca.iter_membership_state();
        let mut down: Vec<Identity> = state
            .filter(|member| member.state() == State::Down && member.id().name != me)
            .map(|member| member.id().clone())
            .filter(|identity| {
                let attributes = self.attributes.of(&identity.name, identity.incarnation);
                attributes.is_none_or(|attributes| attributes.phase != Phase::Leaving)
            })
            .collect();
        // Foca keeps its members shuffled, so the first few are others each time round.
        down.truncate(3);
        for identity in down {
            let _sent_or_too_long = self.foca.announce(identity, &mut self.runtime);
        }
    }

    fn sync_with(&mut self, now: Instant, peer: &Identity) {
        let is_stranger = self.attributes.of(&peer.name, peer.incarnation).is_none();
        let is_settled = now >= self.view_changed_at + 2 * self.timing.gossip_interval;
        let is_early = self.synced.get(&peer.name).is_some_and(|at| now < *at + SYNC_INTERVAL);
        if is_early || !(is_stranger || is_settled) {
            return;
        }
        self.synced.insert(peer.name.clone(), now);
        self.stats.syncs += 1;
        let state = self.full_state(SyncKind::Ask);
        self.messages.push_back((peer.name.clone(), state));
    }

    fn full_state(&self, kind: SyncKind) -> Bytes {
        let me = self.foca.identity().clone();
        let mut members: Vec<_> =
            self.foca.iter_membership_state().filter(|member| member.id().name != me.name).cloned().collect();
        members.push(foca::Member::alive(me));
        FullState { kind, members, attributes: self.attributes.all() }.encode()
    }

    fn publish_mine(&mut self, now: Instant) {
        self.mine.version += 1;
        let mut bytes = Vec::new();
        self.mine.encode(&mut bytes);
        let _fits = self.foca.add_broadcast(&bytes);
        self.settle(now);
    }

    /// Takes over what foca has put out, and renews the view if that changes it.
    fn settle(&mut self, now: Instant) {
        let mut runtime = std::mem::take(&mut self.runtime);
        for (to, data) in runtime.packets.drain(..) {
            let data = self.with_winner(&to, data);
            let packet = packet::seal(self.cluster, PacketKind::Swim, self.view.digest(), &data);
            self.push_packet(to.address, packet);
        }
        for (timer, after) in runtime.timers.drain(..) {
            if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer {
                if self.suspicions.raise(now, member_id, incarnation, self.patience()) {
                    self.stats.suspicions += 1;
                }
            } else {
                self.alarms.push(now + after, Alarm::Foca(timer));
            }
        }
        if runtime.rejoined {
            self.stats.rejoins += 1;
            self.push_event(ClusterEvent::Rejoined);
        }
        let attributes_changed = self.attributes.take_changed();
        if runtime.changed || attributes_changed {
            self.renew_view(now);
        }
        runtime.changed = false;
        runtime.rejoined = false;
        self.runtime = runtime;
    }

    /// A node that is told it is down because its name has a newer holder is told who that is.
    fn with_winner(&self, to: &Identity, mut data: Vec<u8>) -> Vec<u8> {
        let is_down_notice = screen(&self.mine.name, &data)
            .is_ok_and(|screened| screened.header.message == Message::TurnUndead);
        if is_down_notice {
            let mut known = self.foca.iter_membership_state();
            if let Some(winner) = known.find(|member| member.id().name == to.name && member.id() != to) {
                data.extend_from_slice(&1_u16.to_be_bytes());
                codec::put_member(&mut data, winner);
            }
        }
        data
    }

    fn renew_view(&mut self, now: Instant) {
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
        if !self.gossip_is_due {
            self.gossip_is_due = true;
            self.alarms.push(now + GOSSIP_DELAY, Alarm::Gossip);
        }
    }

    fn my_member(&self) -> Member {
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

    /// One more probe interval for each factor of ten beyond ten members: gossip needs longer to get round.
    fn patience(&self) -> Duration {
        let members = self.view.members().len().max(10) as f64;
        self.timing.suspicion.mul_f64(members.log10())
    }

    fn push_packet(&mut self, to: SocketAddr, packet: Bytes) {
        if self.packets.len() < PACKETS_MAX {
            self.stats.packets_sent += 1;
            self.packets.push_back((to, packet));
        } else {
            self.stats.dropped += 1;
        }
    }

    fn push_event(&mut self, event: ClusterEvent) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        } else {
            self.stats.dropped += 1;
        }
    }
}

fn member_with(node: crate::Node, attributes: Attributes) -> Member {
    let Attributes { phase, weight, zone, metadata, .. } = attributes;
    Member { node, phase, zone, weight, metadata }
}

fn is_suspect(foca: &Foca<Identity, Codec, StdRng, AttributeStore>, suspicion: &Suspicion) -> bool {
    foca.iter_membership_state().any(|member| {
        *member.id() == suspicion.identity
            && member.incarnation() == suspicion.incarnation
            && member.state() == State::Suspect
    })
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

fn check_length(field: &'static str, bytes: usize, min: usize, max: usize) -> Result<(), Error> {
    if (min..=max).contains(&bytes) { Ok(()) } else { Err(Error::Length { field, bytes, min, max }) }
}

fn foca_config(timing: &Timing) -> foca::Config {
    let count = |count| NonZeroUsize::new(count).expect("the counts below are not zero");
    foca::Config {
        probe_period: timing.probe_interval,
        probe_rtt: timing.probe_timeout,
        num_indirect_probes: count(3),
        max_transmissions: NonZeroU8::new(TRANSMISSIONS).expect("12 is not zero"),
        suspect_to_down_after: timing.suspicion,
        remove_down_after: Some(timing.forget_after),
        max_packet_size: count(PACKET_BYTES_MAX - ENVELOPE_BYTES),
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams {
            frequency: timing.probe_interval * 20,
            num_members: count(1),
        }),
        // Ours goes on while we know nobody alive, and spares those who said goodbye.
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams { frequency: timing.gossip_interval, num_members: count(3) }),
    }
}

/// What foca puts out during one call.
#[derive(Default)]
pub(super) struct Collected {
    packets: Vec<(Identity, Vec<u8>)>,
    timers: Vec<(Timer<Identity>, Duration)>,
    changed: bool,
    rejoined: bool,
}

impl foca::Runtime<Identity> for Collected {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        self.changed = true;
        self.rejoined |= matches!(notification, Notification::Rejoin(_));
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.packets.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((event, after));
    }
}
