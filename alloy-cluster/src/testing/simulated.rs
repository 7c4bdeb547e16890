//! One simulated node, and what becomes of what it sends and receives.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt;

use super::clock::Clock;
use super::network::{Network, REJOIN_INTERVAL};
use super::worker::Worker;
use crate::{ClusterEvent, Handover, NodeName, Phase, Swim};

/// How late a packet or message may come that is late.
const LATE_MAX: Duration = Duration::from_secs(2);

pub(super) struct Simulated {
    pub(super) swim: Swim,
    pub(super) handover: Handover,
    pub(super) worker: Option<Worker>,
    pub(super) address: SocketAddr,
    pub(super) incarnation: u64,
    pub(super) clock: Clock,
    pub(super) paused: Option<Vec<Delivery>>,
    pub(super) epoch: u64,
    /// The epoch of the view that has been looked at for sharing.
    pub(super) shared_epoch: u64,
    pub(super) events: Vec<ClusterEvent>,
    /// Until when it waits for somebody before it becomes active.
    pub(super) alone_until: Option<Instant>,
    pub(super) rejoin_at: Instant,
    /// For when it is in the list of those to wake.
    pub(super) wake_at: Option<Instant>,
    pub(super) last_packet: Bytes,
}

pub(super) enum Delivery {
    Packet { from: SocketAddr, to: SocketAddr, bytes: Bytes },
    Message { from: NodeName, to: NodeName, incarnation: u64, is_state: bool, bytes: Bytes },
}

impl Simulated {
    /// The next true time at which there is something to do.
    fn deadline(&self) -> Instant {
        let local = [self.swim.poll_deadline(), self.handover.poll_deadline()];
        let local = local.into_iter().flatten().chain(self.worker.as_ref().map(Worker::deadline)).min();
        let deadlines = [local.map(|at| self.clock.global(at)), self.alone_until];
        deadlines.into_iter().flatten().fold(self.rejoin_at, Instant::min)
    }
}

impl Network {
    /// Does the next thing, if it is due before the end.
    pub(super) fn step(&mut self, end: Instant) -> bool {
        let (next_wake, next_delivery) = (self.wakes.next(), self.travelling.next());
        let next = [next_wake, next_delivery].into_iter().flatten().min();
        let Some(at) = next.filter(|at| *at <= end) else { return false };
        self.now = self.now.max(at);
        if next_delivery == Some(at) {
            if let Some(delivery) = self.travelling.pop_due(self.now) {
                self.deliver(delivery);
            }
        } else if let Some(name) = self.wakes.pop_due(self.now) {
            self.wake(&name, at);
        }
        true
    }

    fn wake(&mut self, name: &NodeName, at: Instant) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(name) else { return };
        if node.wake_at != Some(at) {
            return;
        }
        node.wake_at = None;
        if node.paused.is_some() {
            return;
        }
        if node.deadline() > now {
            return self.schedule(name);
        }
        if node.rejoin_at <= now {
            node.rejoin_at = now + REJOIN_INTERVAL;
            return self.rejoin(&name.clone());
        }
        let local = node.clock.local(now);
        node.swim.handle_timeout(local);
        node.handover.handle_timeout(local);
        let newest = &mut self.newest;
        if let Some(worker) = &mut node.worker {
            worker.work(local, &mut node.handover, |key, count| {
                let known = newest.entry(key).or_default();
                *known = count.max(*known);
            });
        }
        self.drain(name);
    }

    /// Puts the node into the list of those to wake, unless it is there for an earlier time.
    fn schedule(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name).filter(|node| node.paused.is_none()) else { return };
        let at = node.deadline().max(self.now);
        if node.wake_at.is_none_or(|known| at < known) {
            node.wake_at = Some(at);
            self.wakes.push(at, name.clone());
        }
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let name = match &delivery {
            Delivery::Packet { to, .. } => self.by_address.get(to).cloned(),
            Delivery::Message { to, .. } => Some(to.clone()),
        };
        let Some(name) = name else { return };
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&name) else { return };
        if let Some(waiting) = &mut node.paused {
            waiting.push(delivery);
            return;
        }
        let local = node.clock.local(now);
        match delivery {
            Delivery::Packet { from, bytes, .. } => {
                node.swim.handle_packet(local, from, &bytes);
                node.last_packet = bytes;
            }
            // The stream was to a process that is no more.
            Delivery::Message { incarnation, .. } if incarnation != node.incarnation => {}
            Delivery::Message { from, is_state: true, bytes, .. } => {
                node.swim.handle_message(local, &from, &bytes);
            }
            Delivery::Message { from, bytes, .. } => node.handover.handle_message(local, &from, &bytes),
        }
        self.drain(&name);
    }

    /// Takes everything out of a node and puts it on its way.
    pub(super) fn drain(&mut self, name: &NodeName) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(name) else { return };
        let local = node.clock.local(now);
        let stop_takes_max = self.options.stop_takes_max;
        let is_joined = node.swim.is_joined();
        if node.alone_until.take_if(|until| is_joined || *until <= now).is_some() {
            node.swim.set_phase(local, Phase::Active);
        }
        if node.shared_epoch != node.swim.view().epoch() {
            node.shared_epoch = node.swim.view().epoch();
            node.swim.replace_view(|view| self.views.share(view));
        }
        if let Some(worker) = &mut node.worker {
            loop {
                if node.epoch != node.swim.view().epoch() {
                    node.epoch = node.swim.view().epoch();
                    node.handover.set_view(local, node.swim.view().clone());
                }
                let Some(event) = node.handover.poll_event() else { break };
                let stop_takes = self.rng.random_range(Duration::ZERO..=stop_takes_max);
                let started = worker.handle_event(local, event, stop_takes);
                self.started.extend(started.map(|started| super::Started { at: now, ..started }));
            }
        }
        while let Some(event) = node.swim.poll_event() {
            node.events.push(event);
        }
        let address = node.address;
        while let Some((to, bytes)) = self.nodes.get_mut(name).and_then(|node| node.swim.poll_packet()) {
            self.send_packet(name, address, to, bytes);
        }
        while let Some((to, bytes)) = self.nodes.get_mut(name).and_then(|node| node.swim.poll_message()) {
            self.state_bytes += bytes.len() as u64;
            self.send_message(name, to, true, bytes);
        }
        while let Some((to, bytes)) = self.nodes.get_mut(name).and_then(|node| node.handover.poll_message()) {
            self.send_message(name, to, false, bytes);
        }
        self.schedule(name);
    }

    fn send_packet(&mut self, from: &NodeName, from_address: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let Some(receiver) = self.by_address.get(&to) else { return };
        let is_cut = !self.cut.is_empty() && self.cut.contains(&(from.clone(), receiver.clone()));
        let slow = self.slow.get(receiver).copied().unwrap_or_default();
        if is_cut || self.rng.random_range(0..1000) < self.options.lost_packets {
            return;
        }
        let at = self.now + self.latency(slow);
        if self.rng.random_range(0..1000) < self.options.doubled_packets {
            let late = at + self.rng.random_range(Duration::ZERO..LATE_MAX);
            self.travelling.push(late, Delivery::Packet { from: from_address, to, bytes: bytes.clone() });
        }
        self.travelling.push(at, Delivery::Packet { from: from_address, to, bytes });
    }

    fn latency(&mut self, slow: Duration) -> Duration {
        let latency = self.rng.random_range(self.options.latency.clone());
        if slow.is_zero() { latency } else { latency + self.rng.random_range(Duration::ZERO..slow) }
    }

    fn send_message(&mut self, from: &NodeName, to: NodeName, is_state: bool, bytes: Bytes) {
        let pair = (from.clone(), to.clone());
        let Some(incarnation) = self.nodes.get(&to).map(|node| node.incarnation) else { return };
        // A stream needs both ways.
        if self.cut.contains(&pair) || self.cut.contains(&(to.clone(), from.clone())) {
            return;
        }
        let slow = self.slow.get(&to).copied().unwrap_or_default();
        let latency = self.latency(slow);
        let message =
            |bytes| Delivery::Message { from: from.clone(), to: to.clone(), incarnation, is_state, bytes };
        if self.rng.random_range(0..1000) < self.options.disturbed_messages {
            let late = self.now + latency + self.rng.random_range(Duration::ZERO..LATE_MAX);
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
