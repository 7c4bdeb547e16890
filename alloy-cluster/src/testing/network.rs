//! [`Network`]: many nodes, latency, loss, partitions, pauses and crashes, in one thread, in virtual time, by seed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::clock::Clock;
use super::shared_views::SharedViews;
use super::simulated::{Delivery, Simulated};
use super::worker::{Started, Worker};
use crate::swim::Everybody;
use crate::timers::Timers;
use crate::{
    ClusterEvent, Handover, HandoverOptions, Key, KeyRing, Member, Node, NodeName, Phase, Rendezvous, Swim,
    SwimConfig, Timing, View,
};

/// How long a node that starts waits for somebody to answer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a node asks those it finds in its list of addresses, which here are all.
pub(super) const REJOIN_INTERVAL: Duration = Duration::from_secs(5);
/// How many addresses a node finds in that list at a time.
const ADDRESSES_MAX: usize = 16;

/// How the network behaves.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How long a packet or message travels. Packets overtake each other, messages of one pair do not.
    pub latency: Range<Duration>,
    /// Of 1,000 packets so many are lost.
    pub lost_packets: u32,
    /// Of 1,000 packets so many come twice, the second time up to 2 s late.
    pub doubled_packets: u32,
    /// How much faster or slower the clock of a node may be, in thousandths: its seconds are so much shorter or longer.
    pub clock_skew: u32,
    /// Of 1,000 stream messages so many come twice or late, after ones sent later.
    pub disturbed_messages: u32,
    /// How long a key takes to stop, at most.
    pub stop_takes_max: Duration,
    /// Times of the failure detector.
    pub timing: Timing,
    /// Seals the packets.
    pub keys: Option<KeyRing>,
}

impl NetworkOptions {
    /// A healthy local network.
    pub fn healthy(seed: u64) -> Self {
        NetworkOptions {
            seed,
            latency: Duration::from_micros(200)..Duration::from_millis(5),
            lost_packets: 0,
            doubled_packets: 0,
            clock_skew: 0,
            disturbed_messages: 0,
            stop_takes_max: Duration::from_millis(300),
            timing: Timing::lan(),
            keys: None,
        }
    }

    /// A bad one: 5 % loss, 2 % that come twice, latencies up to 50 ms, streams that repeat and reorder, clocks that are
    /// up to 2 % off.
    pub fn bad(seed: u64) -> Self {
        NetworkOptions {
            latency: Duration::from_millis(1)..Duration::from_millis(50),
            lost_packets: 50,
            doubled_packets: 20,
            clock_skew: 20,
            disturbed_messages: 50,
            ..NetworkOptions::healthy(seed)
        }
    }
}

/// A simulated cluster. Each node has a [`Swim`], a [`Handover`], and a worker that counts on every key it acts on.
pub struct Network {
    pub(super) options: NetworkOptions,
    pub(super) now: Instant,
    pub(super) rng: StdRng,
    pub(super) nodes: BTreeMap<NodeName, Simulated>,
    pub(super) by_address: HashMap<SocketAddr, NodeName>,
    /// Of all that run, in any order.
    addresses: Vec<SocketAddr>,
    pub(super) views: SharedViews,
    pub(super) travelling: Timers<Delivery>,
    /// When to look after which node; entries that are out of date are looked at in vain.
    pub(super) wakes: Timers<NodeName>,
    pub(super) last_message: HashMap<(NodeName, NodeName), Instant>,
    pub(super) cut: HashSet<(NodeName, NodeName)>,
    pub(super) slow: BTreeMap<NodeName, Duration>,
    pub(super) started: Vec<Started>,
    pub(super) newest: BTreeMap<Key, u64>,
    pub(super) state_bytes: u64,
    keys: Vec<Key>,
    next_port: u32,
}

impl Network {
    /// A network without nodes. All nodes will know the keys 0 to `keys`.
    pub fn new(options: NetworkOptions, keys: Key) -> Self {
        let rng = StdRng::seed_from_u64(options.seed);
        Network {
            options,
            now: Instant::now(),
            rng,
            nodes: BTreeMap::new(),
            by_address: HashMap::new(),
            addresses: Vec::new(),
            views: SharedViews::default(),
            travelling: Timers::new(),
            wakes: Timers::new(),
            last_message: HashMap::new(),
            cut: HashSet::new(),
            slow: BTreeMap::new(),
            started: Vec::new(),
            newest: BTreeMap::new(),
            state_bytes: 0,
            keys: (0..keys).collect(),
            next_port: 1,
        }
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Starts a node at a new address and joins it to all that run; it is active as soon as it has joined, or if
    /// nobody answers for 3 s. Starting a name that runs is a crash and a restart.
    pub fn start(&mut self, name: &str) {
        self.start_in(name, "");
    }

    /// The same, in a zone.
    pub fn start_in(&mut self, name: &str, zone: &str) {
        let name = NodeName::from(name);
        self.insert(&name, zone, Phase::Joining);
        self.rejoin(&name);
    }

    /// Starts nodes as a cluster that has been there for long: all are active, and each has just ended an exchange of the
    /// full state. Nothing of this is told as an event.
    pub fn start_together(&mut self, names: &[String]) {
        for name in names {
            self.insert(&name.as_str().into(), "", Phase::Active);
        }
        let everybody = Everybody::of(self.nodes.values().map(|node| &node.swim));
        for name in self.names() {
            if let Some(node) = self.nodes.get_mut(&name) {
                node.alone_until = None;
                node.swim.handle_everybody(node.clock.local(self.now), &everybody);
            }
            self.drain(&name);
            if let Some(node) = self.nodes.get_mut(&name) {
                node.events = Vec::new();
            }
        }
    }

    fn insert(&mut self, name: &NodeName, zone: &str, phase: Phase) {
        self.crash(name.as_str());
        let [_, high, middle, low] = self.next_port.to_be_bytes();
        let address = SocketAddr::from(([10, high, middle, low], 7946));
        let incarnation = u64::from(self.next_port);
        self.next_port += 1;
        let skew = i64::from(self.options.clock_skew);
        let clock = Clock::new(self.now, self.rng.random_range(-skew..=skew));
        let node = Node { name: name.clone(), address, incarnation };
        let me = Member { zone: zone.into(), phase, ..Member::new(node) };
        let config = SwimConfig {
            cluster: "simulated".into(),
            me,
            timing: self.options.timing.clone(),
            seed: self.rng.random(),
            keys: self.options.keys.clone(),
        };
        let swim = Swim::new(self.now, config).expect("the names of tests are short");
        let sharder = Arc::new(Rendezvous);
        let mut handover = Handover::new(name.clone(), HandoverOptions::default(), sharder);
        handover.set_keys(self.now, self.keys.iter().copied());
        let alone_until = Some(if self.nodes.is_empty() { self.now } else { self.now + JOIN_TIMEOUT });
        let node = Simulated {
            swim,
            handover,
            worker: (!self.keys.is_empty()).then(|| Worker::new(name.clone(), self.now)),
            address,
            incarnation,
            clock,
            paused: None,
            epoch: 0,
            shared_epoch: 0,
            events: Vec::new(),
            alone_until,
            rejoin_at: self.now + REJOIN_INTERVAL,
            wake_at: None,
            last_packet: Bytes::new(),
        };
        self.by_address.insert(address, name.clone());
        self.addresses.push(address);
        self.nodes.insert(name.clone(), node);
    }

    /// A node asks all that run to take it in, as it would find them in a list of addresses: 16 of them, if there are
    /// more.
    pub fn rejoin(&mut self, name: &NodeName) {
        let count = self.nodes.len();
        let addresses: Vec<_> = if count <= ADDRESSES_MAX {
            self.nodes.values().map(|node| node.address).collect()
        } else {
            (0..ADDRESSES_MAX).map(|_| self.addresses[self.rng.random_range(0..count)]).collect()
        };
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(name) {
            node.swim.handle_join(node.clock.local(now), &addresses);
        }
        self.drain(name);
    }

    /// A node tells what it is ready for.
    pub fn set_phase(&mut self, name: &str, phase: Phase) {
        let name = NodeName::from(name);
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&name) {
            node.alone_until = None;
            node.swim.set_phase(node.clock.local(now), phase);
        }
        self.drain(&name);
    }

    /// A node says something else of itself.
    pub fn set_metadata(&mut self, name: &str, metadata: &[u8]) {
        let name = NodeName::from(name);
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&name) {
            node.swim.set_metadata(node.clock.local(now), metadata).expect("it is short");
        }
        self.drain(&name);
    }

    /// A node stops without a word.
    pub fn crash(&mut self, name: &str) {
        if let Some(node) = self.nodes.remove(&NodeName::from(name)) {
            self.by_address.remove(&node.address);
            self.addresses.retain(|address| *address != node.address);
        }
    }

    /// A node says goodbye and stops.
    pub fn leave(&mut self, name: &str) {
        let name = NodeName::from(name);
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&name) {
            node.swim.handle_leave(node.clock.local(now));
        }
        self.drain(&name);
        self.crash(name.as_str());
    }

    /// A node stalls: what arrives waits.
    pub fn pause(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(&NodeName::from(name)) {
            node.paused.get_or_insert_default();
        }
    }

    /// A stalled node goes on.
    pub fn resume(&mut self, name: &str) {
        let waiting = self.nodes.get_mut(&NodeName::from(name)).and_then(|node| node.paused.take());
        for delivery in waiting.into_iter().flatten() {
            self.deliver(delivery);
        }
        self.drain(&NodeName::from(name));
    }

    /// A node is slow: what arrives at it takes up to so much longer.
    pub fn slow(&mut self, name: &str, at_most: Duration) {
        self.slow.insert(name.into(), at_most);
    }

    /// Nothing gets from the one to the other; the way back stays open.
    pub fn cut(&mut self, from: &str, to: &str) {
        self.cut.insert((from.into(), to.into()));
    }

    /// Changes how many packets are lost, of 1,000.
    pub fn set_lost_packets(&mut self, lost: u32) {
        self.options.lost_packets = lost;
    }

    /// Changes the keys of one node.
    pub fn set_keys(&mut self, name: &str, keys: Option<KeyRing>) {
        if let Some(node) = self.nodes.get_mut(&NodeName::from(name)) {
            node.swim.set_keys(keys);
        }
    }

    /// Nothing gets from one side to the other, nor back.
    pub fn partition(&mut self, side: &[&str]) {
        let side: BTreeSet<NodeName> = side.iter().map(|name| NodeName::from(*name)).collect();
        let (near, far): (Vec<_>, Vec<_>) = self.nodes.keys().cloned().partition(|name| side.contains(name));
        for one in &near {
            for other in &far {
                self.cut.insert((one.clone(), other.clone()));
                self.cut.insert((other.clone(), one.clone()));
            }
        }
    }

    /// Everything gets through again, without loss or disturbance, and who stalled goes on.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
        self.options.lost_packets = 0;
        self.options.doubled_packets = 0;
        self.options.disturbed_messages = 0;
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for name in names {
            self.resume(name.as_str());
        }
    }

    /// Gives a node bytes from an address that is nobody's.
    pub fn inject(&mut self, name: &str, bytes: &[u8]) {
        let name = NodeName::from(name);
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&name) {
            node.swim.handle_packet(node.clock.local(now), SocketAddr::from(([10, 9, 9, 9], 9)), bytes);
        }
        self.drain(&name);
    }

    /// A packet that a node was sent lately.
    pub fn last_packet_to(&self, name: &str) -> Option<&Bytes> {
        self.nodes.get(&NodeName::from(name)).map(|node| &node.last_packet)
    }

    /// Goes on for so long, calling `check` after every step.
    pub fn run_for(&mut self, duration: Duration, mut check: impl FnMut(&Network)) {
        let end = self.now + duration;
        while self.step(end) {
            check(self);
        }
        self.now = end;
    }

    /// Goes on until it is so, and says how long that took; panics with the state of all if it takes too long.
    pub fn run_until(&mut self, what: &str, within: Duration, is_so: impl Fn(&Network) -> bool) -> Duration {
        let (begin, end) = (self.now, self.now + within);
        while !is_so(self) {
            if !self.step(end) {
                panic!("seed {}: not within {within:?}: {what}\n{}", self.options.seed, self.describe());
            }
        }
        self.now - begin
    }

    /// The names of the nodes that run.
    pub fn names(&self) -> Vec<NodeName> {
        self.nodes.keys().cloned().collect()
    }

    /// A node's view.
    pub fn view(&self, name: &str) -> &Arc<View> {
        self.nodes[&NodeName::from(name)].swim.view()
    }

    /// A node's membership core.
    pub fn swim(&self, name: &str) -> &Swim {
        &self.nodes[&NodeName::from(name)].swim
    }

    /// A node's handover.
    pub fn handover(&self, name: &str) -> &Handover {
        &self.nodes[&NodeName::from(name)].handover
    }

    /// What a node was told happened.
    pub fn events(&self, name: &str) -> &[ClusterEvent] {
        &self.nodes[&NodeName::from(name)].events
    }

    /// What all nodes that run have sent since they started: datagrams, their bytes, and the bytes of full states.
    pub fn traffic(&self) -> (u64, u64, u64) {
        let stats = self.nodes.values().map(|node| node.swim.stats());
        let (packets, bytes) = stats
            .fold((0, 0), |(packets, bytes), stats| (packets + stats.packets_sent, bytes + stats.bytes_sent));
        (packets, bytes, self.state_bytes)
    }

    /// Every start so far, in order.
    pub fn started(&self) -> &[Started] {
        &self.started
    }

    /// The last count that anybody wrote for the key.
    pub fn newest(&self, key: Key) -> u64 {
        self.newest.get(&key).copied().unwrap_or(0)
    }

    /// Whether all that run see exactly each other.
    pub fn agrees(&self) -> bool {
        let mut digests = self.nodes.values().map(|node| node.swim.view().digest());
        let first = digests.next();
        let counts = self.nodes.values().all(|node| node.swim.view().members().len() == self.nodes.len());
        counts && digests.all(|digest| Some(digest) == first)
    }

    /// Who acts on each key: between its start and the end of its stop.
    pub fn actors(&self) -> BTreeMap<Key, Vec<NodeName>> {
        let mut actors: BTreeMap<Key, Vec<NodeName>> = self.keys.iter().map(|key| (*key, vec![])).collect();
        for (name, node) in &self.nodes {
            for key in node.worker.iter().flat_map(Worker::keys) {
                actors.entry(key).or_default().push(name.clone());
            }
        }
        actors
    }

    /// Whether every key has exactly one actor, its owner.
    pub fn is_settled(&self) -> bool {
        self.actors().iter().all(|(key, actors)| match actors.as_slice() {
            [one] => {
                self.nodes[one].handover.status(*key).is_some_and(|status| status.owner.as_ref() == Some(one))
            }
            _ => false,
        })
    }

    /// Everything, for a failed test.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (name, node) in &self.nodes {
            let members: Vec<_> = node
                .swim
                .view()
                .members()
                .iter()
                .map(|m| format!("{}:{}", m.node.name, m.phase.as_str()))
                .collect();
            text += &format!(
                "{name}: {members:?} {:?}\n  {:?}\n",
                node.swim.stats(),
                node.handover.stats(self.now)
            );
        }
        for (key, actors) in self.actors().iter().filter(|(_, actors)| actors.len() != 1).take(3) {
            text += &format!("key {key}: {actors:?}\n");
            for (name, node) in &self.nodes {
                text += &format!("  {name}: {:?}\n", node.handover.status(*key));
            }
        }
        text
    }
}
