//! [`Swim`]: time and packets in, packets, messages, events and deadlines out.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foca::{Foca, Message, State, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::attributes::AttributeStore;
use super::runtime::{Collected, foca_config};
use super::screen::screen;
use super::suspicion::{Due, Suspicion, Suspicions};
use super::sync::{FullState, SyncKind};
use super::watch::Watch;
use crate::codec::{self, Attributes, Codec};
use crate::config::Timing;
use crate::event::ClusterEvent;
use crate::node::Identity;
use crate::packet::{self, PacketKind};
use crate::timers::Timers;
use crate::{Error, Member, NodeName, Phase, View};

/// Packets that wait to be sent; a caller that polls after each call never gets near. The newest are dropped.
const PACKETS_MAX: usize = 4096;
/// Events that wait to be polled; the newest are dropped.
const EVENTS_MAX: usize = 1024;
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
pub(super) enum Standing {
    Member,
    Left,
    Withdrawn,
}

enum Alarm {
    Foca(Timer<Identity>),
    Gossip,
    Reconnect,
    Watch,
}

/// The membership protocol of one node: no clock, no socket. Every `handle_*` is followed by polling.
///
/// Memory: about 1.5 KiB per known name (at most 20,000 names) plus the bounded queues.
pub struct Swim {
    pub(super) foca: Foca<Identity, Codec, StdRng, AttributeStore>,
    pub(super) runtime: Collected,
    pub(super) attributes: AttributeStore,
    pub(super) mine: Attributes,
    pub(super) cluster: u64,
    pub(super) timing: Timing,
    pub(super) standing: Standing,
    pub(super) view: Arc<View>,
    pub(super) view_changed_at: Instant,
    alarms: Timers<Alarm>,
    gossip_is_due: bool,
    pub(super) suspicions: Suspicions,
    pub(super) watch: Watch,
    pub(super) synced: HashMap<NodeName, Instant>,
    pub(super) packets: VecDeque<(SocketAddr, Bytes)>,
    pub(super) messages: VecDeque<(NodeName, Bytes)>,
    pub(super) events: VecDeque<ClusterEvent>,
    pub(super) foreign_told: HashMap<SocketAddr, Instant>,
    pub(super) greeted_at: Option<Instant>,
    pub(super) is_joined: bool,
    pub(super) stats: SwimStats,
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
            watch: Watch::default(),
            synced: HashMap::new(),
            packets: VecDeque::new(),
            messages: VecDeque::new(),
            events: VecDeque::new(),
            foreign_told: HashMap::new(),
            greeted_at: None,
            is_joined: false,
            stats: SwimStats::default(),
        };
        swim.alarms.push(now + swim.timing.reconnect_interval, Alarm::Reconnect);
        swim.alarms.push(now + swim.timing.watch_interval, Alarm::Watch);
        swim.publish_mine(now);
        Ok(swim)
    }

    /// The members now.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Whether a member has told this node all it knows. Before that the view may lack members that are there, so it is
    /// too early to own anything; the first node of a cluster waits in vain, and has to go ahead at some time.
    pub fn is_joined(&self) -> bool {
        self.is_joined
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

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.standing != Standing::Member {
            return;
        }
        let stalled = self.poll_deadline().is_some_and(|due| now > due + self.timing.probe_interval / 2);
        if stalled {
            self.suspicions.grant(now);
            self.watch.forgive(now);
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
                Alarm::Watch => {
                    self.watch_others(now);
                    self.alarms.push(now + self.timing.watch_interval, Alarm::Watch);
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

    fn watch_others(&mut self, now: Instant) {
        for identity in self.watch.silent(now, self.timing.watch_interval * 3) {
            let known = self.foca.iter_membership_state().find(|member| *member.id() == identity);
            let Some(incarnation) = known.map(|member| member.incarnation()) else { continue };
            self.apply(foca::Member::new(identity.clone(), incarnation, State::Suspect));
            self.suspect(now, identity, incarnation);
        }
        let targets: Vec<Identity> = self.watch.targets().cloned().collect();
        for target in targets {
            self.send_watch(PacketKind::Watch, &target);
        }
    }

    pub(super) fn suspect(&mut self, now: Instant, identity: Identity, incarnation: u16) {
        if self.suspicions.raise(now, identity, incarnation, self.patience()) {
            self.stats.suspicions += 1;
        }
    }

    pub(super) fn send_watch(&mut self, kind: PacketKind, to: &Identity) {
        let mut payload = Vec::new();
        codec::put_identity(&mut payload, to);
        codec::put_identity(&mut payload, self.foca.identity());
        let packet = packet::seal(self.cluster, kind, self.view.digest(), &payload);
        self.push_packet(to.address, packet);
    }

    pub(super) fn accuse(&mut self, suspicion: &Suspicion) {
        let mut payload = Vec::new();
        codec::put_identity(&mut payload, &suspicion.identity);
        payload.extend_from_slice(&suspicion.incarnation.to_le_bytes());
        codec::put_identity(&mut payload, self.foca.identity());
        let packet = packet::seal(self.cluster, PacketKind::Accuse, self.view.digest(), &payload);
        self.push_packet(suspicion.identity.address, packet);
    }

    pub(super) fn is_leaving(&self, name: &NodeName) -> bool {
        self.view.member(name).is_some_and(|member| member.phase == Phase::Leaving)
    }

    pub(super) fn apply(&mut self, member: foca::Member<Identity>) {
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

    pub(super) fn sync_with(&mut self, now: Instant, peer: &Identity) {
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

    pub(super) fn full_state(&self, kind: SyncKind) -> Bytes {
        let me = self.foca.identity().clone();
        let mut members: Vec<_> =
            self.foca.iter_membership_state().filter(|member| member.id().name != me.name).cloned().collect();
        members.push(foca::Member::alive(me));
        FullState { kind, members, attributes: self.attributes.all() }.encode()
    }

    pub(super) fn publish_mine(&mut self, now: Instant) {
        self.mine.version += 1;
        let mut bytes = Vec::new();
        self.mine.encode(&mut bytes);
        let _fits = self.foca.add_broadcast(&bytes);
        self.settle(now);
    }

    /// Takes over what foca has put out, and renews the view if that changes it.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut runtime = std::mem::take(&mut self.runtime);
        for (to, data) in runtime.packets.drain(..) {
            let data = self.with_winner(&to, data);
            let packet = packet::seal(self.cluster, PacketKind::Swim, self.view.digest(), &data);
            self.push_packet(to.address, packet);
        }
        for (timer, after) in runtime.timers.drain(..) {
            if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer {
                self.suspect(now, member_id, incarnation);
            } else {
                self.alarms.push(now + after, Alarm::Foca(timer));
            }
        }
        if runtime.rejoined {
            self.stats.rejoins += 1;
            self.push_event(ClusterEvent::Rejoined);
        }
        let attributes_changed = self.attributes.take_changed();
        if runtime.changed {
            let mut members: Vec<Identity> =
                self.foca.iter_members().map(|member| member.id().clone()).collect();
            members.sort_by(|a, b| a.name.cmp(&b.name));
            self.watch.follow(now, self.foca.identity(), &members);
        }
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

    /// News goes out of turn, so that it gets round in a few round trips.
    pub(super) fn gossip_soon(&mut self, now: Instant) {
        if !self.gossip_is_due {
            self.gossip_is_due = true;
            self.alarms.push(now + GOSSIP_DELAY, Alarm::Gossip);
        }
    }

    /// Longer in a cluster of more than ten, by the logarithm: gossip needs longer to get round.
    pub(super) fn patience(&self) -> Duration {
        let members = self.view.members().len().max(10) as f64;
        self.timing.suspicion.mul_f64(members.log10())
    }

    pub(super) fn push_packet(&mut self, to: SocketAddr, packet: Bytes) {
        if self.packets.len() < PACKETS_MAX {
            self.stats.packets_sent += 1;
            self.packets.push_back((to, packet));
        } else {
            self.stats.dropped += 1;
        }
    }

    pub(super) fn push_event(&mut self, event: ClusterEvent) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        } else {
            self.stats.dropped += 1;
        }
    }
}

fn is_suspect(foca: &Foca<Identity, Codec, StdRng, AttributeStore>, suspicion: &Suspicion) -> bool {
    foca.iter_membership_state().any(|member| {
        *member.id() == suspicion.identity
            && member.incarnation() == suspicion.incarnation
            && member.state() == State::Suspect
    })
}

fn check_length(field: &'static str, bytes: usize, min: usize, max: usize) -> Result<(), Error> {
    if (min..=max).contains(&bytes) { Ok(()) } else { Err(Error::Length { field, bytes, min, max }) }
}
