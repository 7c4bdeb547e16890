//! [`Swim`]: time and packets in, packets, messages, events and deadlines out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foca::{Foca, State, Timer};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::attributes::AttributeStore;
use super::isolation::Isolation;
use super::known::Known;
use super::runtime::{Collected, foca_config, transmissions};
use super::suspicion::{Due, Suspicions};
use super::watch::{TICKS, Watch};
use crate::codec::{self, Attributes, Codec};
use crate::config::Timing;
use crate::event::ClusterEvent;
use crate::node::Identity;
use crate::packet;
use crate::seal::{KeyRing, Sealer};
use crate::timers::Timers;
use crate::{Error, Member, NodeName, Phase, View};

/// Packets that wait to be sent; a caller that polls after each call never gets near. The newest are dropped.
const PACKETS_MAX: usize = 4096;
/// Events that wait to be polled; the newest are dropped.
const EVENTS_MAX: usize = 1024;
/// Room for so many is kept.
const EVENTS_KEPT: usize = 16;
/// Messages for streams that wait to be sent: the full state of 1,000 members has 60 KiB. The newest are dropped, and
/// whoever asked asks another.
const MESSAGES_MAX: usize = 128;
/// How many of the addresses to join are asked at a time, by lot: one that answers is enough, and 1,000 nodes that boot
/// at once must not all ask all.
const JOIN_FAN_OUT: usize = 8;
/// How many hear of a goodbye at once; gossip tells the rest.
const GOODBYE_FAN_OUT: u8 = 32;
/// News waits this long for more news before it is gossiped out of turn.
const GOSSIP_DELAY: Duration = Duration::from_millis(10);

/// Who this node is, and how it behaves.
#[derive(Debug, Clone)]
pub struct SwimConfig {
    /// The cluster's name; packets of another are refused.
    pub cluster: String,
    /// This node as the others shall see it.
    pub me: Member,
    /// How fast failures are found.
    pub timing: Timing,
    /// Seeds the choice of whom to probe and to tell, and the nonces of sealed packets: from the system's randomness,
    /// except in simulations.
    pub seed: u64,
    /// Seals the packets; `None`: they travel in the clear.
    pub keys: Option<KeyRing>,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwimStats {
    /// Datagrams given to be sent.
    pub packets_sent: u64,
    /// Their bytes, without the headers of UDP and IP.
    pub bytes_sent: u64,
    /// Datagrams taken.
    pub packets_received: u64,
    /// Datagrams and state messages that were damaged, or not ours at all.
    pub malformed: u64,
    /// Datagrams of a cluster with another name.
    pub foreign: u64,
    /// Datagrams that no key of the ring opens, that were not sealed although they have to be, or that came twice.
    pub unsealed: u64,
    /// Datagrams, messages and events dropped because nobody polled them.
    pub dropped: u64,
    /// Exchanges of the full state that this node asked for.
    pub syncs: u64,
    /// Members that this node began to suspect.
    pub suspicions: u64,
    /// Members that this node declared down.
    pub declared_down: u64,
    /// Times this node was declared down and came back.
    pub rejoins: u64,
    /// Times a member saw another view than this node for longer than 10 s.
    pub disagreements: u64,
    /// Times this node heard nobody any more, and kept to its view.
    pub isolations: u64,
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
/// Memory: about 1 KiB per known name (at most 20,000 names) plus the bounded queues.
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
    /// What foca knows is not in the view yet.
    pub(super) view_is_stale: bool,
    alarms: Timers<Alarm>,
    gossip_is_due: bool,
    transmissions: u8,
    pub(super) known: Known,
    pub(super) suspicions: Suspicions,
    pub(super) watch: Watch,
    pub(super) isolation: Isolation,
    pub(super) sealer: Sealer,
    pub(super) syncs: super::sync::Syncs,
    pub(super) packets: VecDeque<(SocketAddr, Bytes)>,
    pub(super) messages: VecDeque<(NodeName, Bytes)>,
    pub(super) events: VecDeque<ClusterEvent>,
    pub(super) foreign_told: HashMap<SocketAddr, Instant>,
    pub(super) greeted_at: Option<Instant>,
    pub(super) is_joined: bool,
    pub(super) stats: SwimStats,
    random: StdRng,
}

impl Swim {
    /// A node that knows nobody yet.
    pub fn new(now: Instant, config: SwimConfig) -> Result<Self, Error> {
        let SwimConfig { cluster, me, timing, seed, keys } = config;
        check_length("cluster name", cluster.len(), 1, 255)?;
        check_length("node name", me.node.name.as_str().len(), 1, codec::NAME_BYTES_MAX)?;
        check_length("zone", me.zone.len(), 0, codec::ZONE_BYTES_MAX)?;
        check_length("version", me.version.len(), 0, codec::VERSION_BYTES_MAX)?;
        check_metadata(&me.metadata)?;
        if me.weight == 0 {
            return Err(Error::Weight);
        }
        let identity = Identity::from(me.node.clone());
        let attributes = AttributeStore::new(me.node.name.clone(), seed);
        let foca = Foca::with_custom_broadcast(
            identity,
            foca_config(&timing, transmissions(1)),
            StdRng::seed_from_u64(seed),
            Codec { me: me.node.name.clone() },
            attributes.clone(),
        );
        let mine = Attributes {
            name: me.node.name.clone(),
            incarnation: me.node.incarnation,
            revision: 0,
            phase: me.phase,
            weight: me.weight,
            zone: me.zone.clone(),
            version: me.version.clone(),
            metadata: me.metadata.clone(),
        };
        let sealer = Sealer::new(keys, seed, &me.node);
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
            view_is_stale: false,
            alarms: Timers::new(),
            gossip_is_due: false,
            transmissions: transmissions(1),
            known: Known::new(seed),
            suspicions: Suspicions::default(),
            watch: Watch::default(),
            isolation: Isolation::new(now),
            sealer,
            syncs: super::sync::Syncs::default(),
            packets: VecDeque::new(),
            messages: VecDeque::new(),
            events: VecDeque::new(),
            foreign_told: HashMap::new(),
            greeted_at: None,
            is_joined: false,
            stats: SwimStats::default(),
            // Another stream than foca's, from the same seed.
            random: StdRng::seed_from_u64(!seed),
        };
        if swim.sealer.is_open() {
            swim.push_event(ClusterEvent::InTheClear);
        }
        swim.alarms.push(now + swim.timing.reconnect_interval, Alarm::Reconnect);
        // Nodes that start together must not beat together.
        let first = swim.timing.watch_interval.mul_f64(swim.random.random_range(0.0..1.0));
        swim.alarms.push(now + first, Alarm::Watch);
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

    /// Replaces the keys: the next packet is sealed with the new ring, and what the old one opened and the new one does
    /// not is refused from now on.
    pub fn set_keys(&mut self, keys: Option<KeyRing>) {
        let was_open = self.sealer.is_open();
        self.sealer.set_keys(keys);
        if self.sealer.is_open() && !was_open {
            self.push_event(ClusterEvent::InTheClear);
        }
    }

    /// Asks whoever listens at these addresses to be taken into the cluster; of more than eight that are not known, eight
    /// by lot. Called again now and then it finds everybody.
    pub fn handle_join(&mut self, now: Instant, addresses: &[SocketAddr]) {
        if self.standing != Standing::Member {
            return;
        }
        let known: HashSet<SocketAddr> =
            self.view.members().iter().map(|member| member.node.address).collect();
        let mut strange: Vec<_> = addresses.iter().filter(|address| !known.contains(address)).collect();
        strange.shuffle(&mut self.random);
        for address in strange.into_iter().take(JOIN_FAN_OUT) {
            let _sent_or_too_long = self.foca.announce(Identity::wildcard(*address), &mut self.runtime);
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

    /// Tells the others other metadata of this node; longer than 512 bytes is an error and changes nothing. Who
    /// owns what does not depend on it.
    pub fn set_metadata(&mut self, now: Instant, metadata: &[u8]) -> Result<(), Error> {
        check_metadata(metadata)?;
        if self.standing == Standing::Member && *self.mine.metadata != *metadata {
            self.mine.metadata = metadata.into();
            self.publish_mine(now);
        }
        Ok(())
    }

    /// Says goodbye: poll the packets once more, and then let go. The others know within a gossip interval or two.
    pub fn handle_leave(&mut self, now: Instant) {
        if self.standing != Standing::Member {
            return;
        }
        // Every packet of the two rounds carries the goodbye.
        let mut config = foca_config(&self.timing, 2 * GOODBYE_FAN_OUT);
        config.num_indirect_probes =
            std::num::NonZeroUsize::new(GOODBYE_FAN_OUT.into()).expect("32 is not zero");
        let _only_intervals_are_refused = self.foca.set_config(config);
        self.set_phase(now, Phase::Leaving);
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
        let stalled = self.poll_deadline().is_some_and(|due| now > due + self.timing.watch_interval / 2);
        if stalled {
            self.suspicions.grant_after_stall(now);
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
                    self.alarms.push(now + self.timing.watch_interval / TICKS, Alarm::Watch);
                }
                Alarm::Reconnect => {
                    let pause = self.reconnect();
                    self.alarms.push(now + pause, Alarm::Reconnect);
                }
            }
            self.settle(now);
        }
        self.judge(now);
        self.settle(now);
    }

    /// Accuses suspects again, and declares those down whose time is over.
    fn judge(&mut self, now: Instant) {
        if self.suspicions.next().is_none_or(|at| at > now) {
            return;
        }
        let foca = &self.foca;
        let due = self.suspicions.take_due(now, |suspicion| {
            foca.iter_membership_state().any(|member| {
                *member.id() == suspicion.identity
                    && member.incarnation() == suspicion.incarnation
                    && member.state() == State::Suspect
            })
        });
        for due in due {
            match due {
                Due::Accuse(suspicion) => self.accuse(&suspicion),
                Due::Declare(suspicion) => {
                    if let Some(until) = self.isolated_until(now) {
                        self.suspicions.postpone(suspicion, until);
                        continue;
                    }
                    self.stats.declared_down += 1;
                    let down = foca::Member::new(suspicion.identity, suspicion.incarnation, State::Down);
                    self.apply(down);
                }
            }
        }
    }

    /// When [`handle_timeout`](Swim::handle_timeout) is due.
    pub fn poll_deadline(&self) -> Option<Instant> {
        if self.standing != Standing::Member {
            return None;
        }
        let view = self.view_is_stale.then(|| self.view_changed_at + self.view_pause());
        [self.alarms.next(), self.suspicions.next(), view].into_iter().flatten().min()
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
        if self.events.is_empty() {
            // There are 1,000 of them while 1,000 boot, and hardly any from then on.
            self.events.shrink_to(EVENTS_KEPT);
        }
        self.events.pop_front()
    }

    pub(super) fn publish_mine(&mut self, now: Instant) {
        self.mine.revision += 1;
        let mut bytes = Vec::new();
        self.mine.encode(&mut bytes);
        let _fits = self.foca.add_broadcast(&bytes);
        self.settle(now);
        // What this node says of itself is in its own view at once.
        self.renew_view(now);
    }

    /// Takes over what foca has put out, and renews the view if that changes it.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut runtime = std::mem::take(&mut self.runtime);
        for (to, data) in runtime.packets.drain(..) {
            let data = self.with_winner(&to, data);
            self.send(packet::PacketKind::Swim, to.address, &data);
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
        self.view_is_stale |= self.attributes.take_changed() | runtime.changed;
        if self.view_is_stale && now >= self.view_changed_at + self.view_pause() {
            self.renew_view(now);
        }
        runtime.changed = false;
        runtime.rejoined = false;
        self.runtime = runtime;
    }

    /// How long changes are gathered before the view is renewed: making a view of 1,000 takes half a millisecond, and
    /// while they all boot there are 1,000 changes a second. None after a quiet time, and none below 64 members.
    pub(super) fn view_pause(&self) -> Duration {
        match self.foca.num_members() {
            ..64 => Duration::ZERO,
            members => Duration::from_millis((members * 3 / 4).min(750) as u64),
        }
    }

    /// More members pass on a piece of news more often.
    pub(super) fn follow_size(&mut self) {
        let wanted = transmissions(self.foca.num_members() + 1);
        if wanted != self.transmissions && self.standing == Standing::Member {
            self.transmissions = wanted;
            let _only_intervals_are_refused = self.foca.set_config(foca_config(&self.timing, wanted));
        }
    }

    /// News goes out of turn, so that it gets round in a few round trips.
    pub(super) fn gossip_soon(&mut self, now: Instant) {
        if !self.gossip_is_due {
            self.gossip_is_due = true;
            self.alarms.push(now + GOSSIP_DELAY, Alarm::Gossip);
        }
    }

    /// Longer in a cluster of more than ten, by the logarithm: a quarter for each ten times as many. The suspect is asked
    /// directly, so what has to get round in time is only its answer, if the direct way is cut.
    pub(super) fn patience(&self) -> Duration {
        let members = self.view.members().len().max(10) as f64;
        self.timing.suspicion.mul_f64(0.75 + members.log10() / 4.0)
    }

    pub(super) fn push_packet(&mut self, to: SocketAddr, packet: Bytes) {
        if self.packets.len() < PACKETS_MAX {
            self.stats.packets_sent += 1;
            self.stats.bytes_sent += packet.len() as u64;
            self.packets.push_back((to, packet));
        } else {
            self.stats.dropped += 1;
        }
    }

    pub(super) fn push_message(&mut self, to: NodeName, message: Bytes) {
        if self.messages.len() < MESSAGES_MAX {
            self.messages.push_back((to, message));
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

pub(crate) fn check_metadata(metadata: &[u8]) -> Result<(), Error> {
    check_length("metadata", metadata.len(), 0, codec::METADATA_BYTES_MAX)
}

fn check_length(field: &'static str, bytes: usize, min: usize, max: usize) -> Result<(), Error> {
    if (min..=max).contains(&bytes) { Ok(()) } else { Err(Error::Length { field, bytes, min, max }) }
}
