//! [`Network`]: many nodes, latency, loss, partitions, pauses and crashes, in one thread, in virtual time, by seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::worker::{Started, Worker};
use crate::timers::Timers;
use crate::{
    ClusterEvent, Handover, HandoverOptions, Key, Member, Node, NodeName, Phase, Rendezvous, Swim,
    SwimConfig, Timing, View,
};

/// How long a node that starts waits for somebody to answer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a node asks those it finds in its list of addresses, which here are all.
const REJOIN_INTERVAL: Duration = Duration::from_secs(5);

/// How the network behaves.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How long a packet or message travels. Packets overtake each other, messages of one pair do not.
    pub latency: Range<Duration>,
    /// Of 1,000 packets so many are lost.
    pub lost_packets: u32,
    /// Of 1,000 stream messages so many come twice or late, after ones sent later.
    pub disturbed_messages: u32,
    /// How long a key takes to stop, at most.
    pub stop_takes_max: Duration,
    /// Times of the failure detector.
    pub timing: Timing,
}

impl NetworkOptions {
    /// A healthy local network.
    pub fn healthy(seed: u64) -> Self {
        NetworkOptions {
            seed,
            latency: Duration::from_micros(200)..Duration::from_millis(5),
            lost_packets: 0,
            disturbed_messages: 0,
            stop_takes_max: Duration::from_millis(300),
            timing: Timing::lan(),
        }
    }

    /// A bad one: 5 % loss, latencies up to 50 ms, streams that repeat and reorder.
    pub fn bad(seed: u64) -> Self {
        NetworkOptions {
            latency: Duration::from_millis(1)..Duration::from_millis(50),
            lost_packets: 50,
            disturbed_messages: 50,
            ..NetworkOptions::healthy(seed)
        }
    }
}

/// A simulated cluster. Each node has a [`Swim`], a [`Handover`], and a worker that counts on every key it acts on.
pub struct Network {
    options: NetworkOptions,
    now: Instant,
    rng: StdRng,
    nodes: BTreeMap<NodeName, Simulated>,
    travelling: Timers<Delivery>,
    last_message: BTreeMap<(NodeName, NodeName), Instant>,
    cut: BTreeSet<(NodeName, NodeName)>,
    keys: Vec<Key>,
    started: Vec<Started>,
    newest: BTreeMap<Key, u64>,
    next_port: u16,
}

struct Simulated {
    swim: Swim,
    handover: Handover,
    worker: Worker,
    address: SocketAddr,
    incarnation: u64,
    paused: Option<Vec<Delivery>>,
    epoch: u64,
    events: Vec<ClusterEvent>,
    /// Until when it waits for somebody before it becomes active.
    alone_until: Option<Instant>,
    rejoin_at: Instant,
}

enum Delivery {
    Packet { from: SocketAddr, to: SocketAddr, bytes: Bytes },
    Message { from: NodeName, to: NodeName, incarnation: u64, is_state: bool, bytes: Bytes },
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
            travelling: Timers::new(),
            last_message: BTreeMap::new(),
            cut: BTreeSet::new(),
            keys: (0..keys).collect(),
            started: Vec::new(),
            newest: BTreeMap::new(),
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
        let address = SocketAddr::from(([10, 0, 0, 1], self.next_port));
        let incarnation = u64::from(self.next_port);
        self.next_port += 1;
        let node = Node { name: name.clone(), address, incarnation };
        let me = Member { node, phase: Phase::Joining, zone: zone.into(), weight: 100, metadata: [].into() };
        let config = SwimConfig {
            cluster: "simulated".into(),
            me,
            timing: self.options.timing.clone(),
            seed: self.rng.random(),
        };
        let swim = Swim::new(self.now, config).expect("the names of tests are short");
        let sharder = Arc::new(Rendezvous);
        let mut handover = Handover::new(name.clone(), HandoverOptions::default(), sharder);
        handover.set_keys(self.now, self.keys.iter().copied());
        let worker = Worker::new(name.clone(), self.now);
        let events = Vec::new();
        let alone_until = Some(if self.nodes.is_empty() { self.now } else { self.now + JOIN_TIMEOUT });
        let node = Simulated {
            swim,
            handover,
            worker,
            address,
            incarnation,
            paused: None,
            epoch: 0,
            events,
            alone_until,
            rejoin_at: self.now + REJOIN_INTERVAL,
        };
        self.nodes.insert(name.clone(), node);
        self.rejoin(&name);
    }

    /// A node asks all that run to take it in, as it would find them in a list of addresses.
    pub fn rejoin(&mut self, name: &NodeName) {
        let addresses: Vec<_> = self.nodes.values().map(|node| node.address).collect();
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(name) {
            node.swim.handle_join(now, &addresses);
        }
        self.drain(name);
    }

    /// A node tells what it is ready for.
    pub fn set_phase(&mut self, name: &str, phase: Phase) {
        let name = NodeName::from(name);
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&name) {
            node.alone_until = None;
            node.swim.set_phase(now, phase);
        }
        self.drain(&name);
    }

    /// A node stops without a word.
    pub fn crash(&mut self, name: &str) {
        self.nodes.remove(&NodeName::from(name));
    }

    /// A node says goodbye and stops.
    pub fn leave(&mut self, name: &str) {
        let name = NodeName::from(name);
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&name) {
            node.swim.handle_leave(now);
        }
        self.drain(&name);
        self.nodes.remove(&name);
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
        self.options.lost_packets = 0;
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
            node.swim.handle_packet(now, SocketAddr::from(([10, 9, 9, 9], 9)), bytes);
        }
        self.drain(&name);
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
            for key in node.worker.keys() {
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

    /// Does the next thing, if it is due before the end.
    fn step(&mut self, end: Instant) -> bool {
        let awake = self.nodes.iter().filter(|(_, node)| node.paused.is_none());
        let due = awake.map(|(name, node)| (node.deadline(), name)).min();
        let next_node = due.map(|(at, name)| (at, name.clone()));
        let next_delivery = self.travelling.next();
        let at = next_node.iter().map(|(at, _)| *at).chain(next_delivery).min();
        let Some(at) = at.filter(|at| *at <= end) else { return false };
        self.now = self.now.max(at);
        if next_delivery == Some(at) {
            if let Some(delivery) = self.travelling.pop_due(self.now) {
                self.deliver(delivery);
            }
        } else if let Some((_, name)) = next_node {
            self.wake(&name);
        }
        true
    }

    fn wake(&mut self, name: &NodeName) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(name) else { return };
        if node.rejoin_at <= now {
            node.rejoin_at = now + REJOIN_INTERVAL;
            return self.rejoin(&name.clone());
        }
        node.swim.handle_timeout(now);
        node.handover.handle_timeout(now);
        let newest = &mut self.newest;
        node.worker.work(now, &mut node.handover, |key, count| {
            let known = newest.entry(key).or_default();
            *known = count.max(*known);
        });
        self.drain(name);
    }

    fn deliver(&mut self, delivery: Delivery) {
        let name = match &delivery {
            Delivery::Packet { to, .. } => {
                let found = self.nodes.iter().find(|(_, node)| node.address == *to);
                found.map(|(name, _)| name.clone())
            }
            Delivery::Message { to, .. } => Some(to.clone()),
        };
        let Some(name) = name else { return };
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&name) else { return };
        if let Some(waiting) = &mut node.paused {
            waiting.push(delivery);
            return;
        }
        match delivery {
            Delivery::Packet { from, bytes, .. } => node.swim.handle_packet(now, from, &bytes),
            // The stream was to a process that is no more.
            Delivery::Message { incarnation, .. } if incarnation != node.incarnation => {}
            Delivery::Message { from, is_state: true, bytes, .. } => {
                node.swim.handle_message(now, &from, &bytes);
            }
            Delivery::Message { from, bytes, .. } => node.handover.handle_message(now, &from, &bytes),
        }
        self.drain(&name);
    }

    /// Takes everything out of a node and puts it on its way.
    fn drain(&mut self, name: &NodeName) {
        let Some(mut node) = self.nodes.remove(name) else { return };
        let stop_takes_max = self.options.stop_takes_max;
        let is_ready = |until: &mut Instant| node.swim.is_joined() || *until <= self.now;
        if node.alone_until.take_if(|until| is_ready(until)).is_some() {
            node.swim.set_phase(self.now, Phase::Active);
        }
        loop {
            if node.epoch != node.swim.view().epoch() {
                node.epoch = node.swim.view().epoch();
                node.handover.set_view(self.now, node.swim.view().clone());
            }
            let Some(event) = node.handover.poll_event() else { break };
            let stop_takes = self.rng.random_range(Duration::ZERO..=stop_takes_max);
            self.started.extend(node.worker.handle_event(self.now, event, stop_takes));
        }
        while let Some(event) = node.swim.poll_event() {
            node.events.push(event);
        }
        while let Some((to, bytes)) = node.swim.poll_packet() {
            self.send_packet(name, node.address, to, bytes);
        }
        while let Some((to, bytes)) = node.swim.poll_message() {
            self.send_message(name, to, true, bytes);
        }
        while let Some((to, bytes)) = node.handover.poll_message() {
            self.send_message(name, to, false, bytes);
        }
        self.nodes.insert(name.clone(), node);
    }

    fn send_packet(&mut self, from: &NodeName, from_address: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let receiver = self.nodes.iter().find(|(_, node)| node.address == to).map(|(name, _)| name.clone());
        let Some(receiver) = receiver else { return };
        let is_lost = self.rng.random_range(0..1000) < self.options.lost_packets;
        if !is_lost && !self.cut.contains(&(from.clone(), receiver)) {
            let at = self.now + self.rng.random_range(self.options.latency.clone());
            self.travelling.push(at, Delivery::Packet { from: from_address, to, bytes });
        }
    }

    fn send_message(&mut self, from: &NodeName, to: NodeName, is_state: bool, bytes: Bytes) {
        let pair = (from.clone(), to.clone());
        let Some(incarnation) = self.nodes.get(&to).map(|node| node.incarnation) else { return };
        if self.cut.contains(&pair) {
            return;
        }
        let latency = self.rng.random_range(self.options.latency.clone());
        let message =
            |bytes| Delivery::Message { from: from.clone(), to: to.clone(), incarnation, is_state, bytes };
        if self.rng.random_range(0..1000) < self.options.disturbed_messages {
            let late = self.now + latency + self.rng.random_range(Duration::ZERO..Duration::from_secs(3));
            self.travelling.push(late, message(bytes.clone()));
            if self.rng.random_bool(0.5) {
                return;
            }
        }
        let last = self.last_message.entry(pair).or_insert(self.now);
        *last = (*last).max(self.now + latency);
        self.travelling.push(*last, message(bytes));
    }
}

impl Simulated {
    fn deadline(&self) -> Instant {
        let deadlines = [self.swim.poll_deadline(), self.handover.poll_deadline(), self.alone_until];
        let always = self.worker.deadline().min(self.rejoin_at);
        deadlines.into_iter().flatten().fold(always, Instant::min)
    }
}
