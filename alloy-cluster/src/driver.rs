//! [`Driver`]: sockets and clock around the membership core. One future; the links' tasks are its children and end
//! with it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use crate::cluster::{ClusterConfig, Command};
use crate::counters::Counters;
use crate::event::ClusterEvent;
use crate::frame::{Frame, Hello};
use crate::link::{Incoming, LinkEvent, Outgoing, Receiver, receive_all};
use crate::link_seal::LinkKeys;
use crate::packet::{PACKET_BYTES_MAX, cluster_hash};
use crate::place::{Lookup, Place};
use crate::{NodeName, Phase, Swim, Transport, View};

/// Connections that have not said hello yet; beyond that new ones are closed.
const STRANGERS_MAX: usize = 256;
/// States of peers that wait for the driver.
const LINK_EVENTS_MAX: usize = 256;
/// Packets taken in a row before timers and calls get their turn.
const PACKETS_IN_A_ROW: usize = 64;
/// How often those to join are asked while nobody is found.
const LONELY_REJOIN_INTERVAL: Duration = Duration::from_secs(1);
/// How long an address to join may take to answer before that is told.
const JOIN_PATIENCE: Duration = Duration::from_secs(3);
/// The goodbye is sent again after this, and links get as long to empty their queues.
const GOODBYE_PAUSE: Duration = Duration::from_millis(50);
const GOODBYE_FLUSH: Duration = Duration::from_millis(500);

/// What the driver is made of.
pub(crate) struct Parts {
    pub(crate) swim: Swim,
    pub(crate) places: Vec<Place>,
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) listener: Option<TcpListener>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) events: mpsc::Sender<ClusterEvent>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) counters: Arc<Counters>,
}

/// Runs a node. See [`bind`](crate::bind).
pub struct Driver {
    swim: Swim,
    transport: Box<dyn Transport>,
    listener: Option<TcpListener>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<ClusterEvent>,
    view: watch::Sender<Arc<View>>,
    counters: Arc<Counters>,
    hello: Hello,
    keys: LinkKeys,
    receiver: Receiver,
    link_events: mpsc::Receiver<LinkEvent>,
    tasks: JoinSet<()>,
    outgoing: HashMap<NodeName, (Outgoing, AbortHandle)>,
    strangers: HashMap<u64, AbortHandle>,
    peers: HashMap<NodeName, (u64, AbortHandle)>,
    next_link: u64,
    /// What the configuration calls them, and where they are.
    join: Vec<(String, Place)>,
    lookup: Lookup,
    rejoin_interval: Duration,
    lookups: JoinSet<(String, io::Result<Vec<SocketAddr>>)>,
    unresolved: HashSet<String>,
    is_lonely_told: bool,
    started: Instant,
    join_timeout: Duration,
    /// Whom the last life knew, and how long they are waited for.
    hint: Vec<SocketAddr>,
    isolation_patience: Duration,
    /// Whether `join` has led to anybody but this node, or may yet.
    has_candidates: bool,
    is_looked_up: bool,
    /// Who waits to be active until this node has joined.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Driver {
    pub(crate) fn new(config: ClusterConfig, parts: Parts) -> Self {
        let Parts { swim, places, transport, listener, commands, incoming, events, view, counters } = parts;
        let cluster = cluster_hash(&config.name);
        let name = config.node.name.clone();
        let hello = Hello { key_id: 0, cluster, incarnation: config.node.incarnation, name: name.clone() };
        let keys = LinkKeys::new(config.keys);
        let (link_sender, link_events) = mpsc::channel(LINK_EVENTS_MAX);
        let receiver = Receiver {
            me: name,
            cluster,
            keys: keys.clone(),
            driver: link_sender,
            caller: incoming,
            counters: counters.clone(),
        };
        Driver {
            swim,
            transport,
            listener,
            commands,
            events,
            view,
            counters,
            hello,
            keys,
            receiver,
            link_events,
            tasks: JoinSet::new(),
            outgoing: HashMap::new(),
            strangers: HashMap::new(),
            peers: HashMap::new(),
            next_link: 0,
            join: config.join.into_iter().zip(places).collect(),
            lookup: Lookup { port: config.node.address.port(), dns_server: config.dns_server },
            rejoin_interval: config.rejoin_interval,
            lookups: JoinSet::new(),
            unresolved: HashSet::new(),
            is_lonely_told: false,
            started: Instant::now(),
            join_timeout: config.join_timeout,
            hint: config.hint.members().iter().map(|(_, address)| *address).collect(),
            isolation_patience: config.timing.isolation_patience,
            has_candidates: false,
            is_looked_up: false,
            waiting: Vec::new(),
        }
    }

    /// Runs the node until it has left or all handles are gone. Dropping the future stops the node without a goodbye.
    pub async fn run(mut self) {
        let mut buffer = vec![0; PACKET_BYTES_MAX + 1];
        let mut rejoin_at = Instant::now();
        self.started = rejoin_at;
        self.drain().await;
        loop {
            let ready_at = (!self.waiting.is_empty()).then(|| self.started + self.patience());
            let due =
                [self.swim.poll_deadline(), ready_at].into_iter().flatten().fold(rejoin_at, Instant::min);
            tokio::select! {
                // Packets first: after a stall, answers that have arrived must be seen before their timers.
                biased;
                received = self.transport.receive(&mut buffer) => {
                    self.take_packets(received, &mut buffer).await;
                }
                Some(event) = self.link_events.recv() => self.handle_link_event(event),
                command = self.commands.recv() => match command {
                    Some(Command::Leave(done)) => {
                        self.leave().await;
                        // Nobody may wait for it any more.
                        let _gone = done.send(());
                        return;
                    }
                    Some(command) => self.handle_command(command).await,
                    None => return,
                },
                accepted = accept(self.listener.as_ref()) => match accepted {
                    Ok(stream) => self.receive_link(stream),
                    // Out of descriptors, most likely: trying again at once would spin.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
                Some(Ok((address, found))) = self.lookups.join_next() => self.handle_lookup(address, found),
                Some(_ended) = self.tasks.join_next() => self.forget_ended_links(),
                () = sleep_until(due.into()) => {
                    let now = Instant::now();
                    if now >= rejoin_at {
                        self.look_up();
                        rejoin_at = now + self.rejoin_pause();
                    }
                    self.swim.handle_timeout(now);
                }
            }
            self.drain().await;
        }
    }

    /// One packet has come; more may wait, and are taken before anything else has its turn.
    async fn take_packets(&mut self, received: io::Result<(usize, SocketAddr)>, buffer: &mut [u8]) {
        let mut received = Some(received);
        for _ in 0..PACKETS_IN_A_ROW {
            match received.take() {
                Some(Ok((len, from))) => self.swim.handle_packet(Instant::now(), from, &buffer[..len]),
                // Some systems report an unreachable peer here; it concerns no other packet.
                Some(Err(_)) => self.count_failed_packet(),
                None => break,
            }
            self.send_packets().await;
            tokio::select! {
                biased;
                more = self.transport.receive(buffer) => received = Some(more),
                () = std::future::ready(()) => {}
            }
        }
        if let Some(Ok((len, from))) = received {
            self.swim.handle_packet(Instant::now(), from, &buffer[..len]);
        }
    }

    async fn handle_command(&mut self, command: Command) {
        match command {
            Command::SetPhase(Phase::Active, done) => self.waiting.push(done),
            Command::SetPhase(phase, done) => {
                // Whoever waits to be active has been overtaken.
                self.waiting.clear();
                self.swim.set_phase(Instant::now(), phase);
                self.publish_view();
                let _gone = done.send(());
            }
            Command::SetMetadata(metadata, done) => {
                let _was_checked = self.swim.set_metadata(Instant::now(), &metadata);
                self.publish_view();
                let _gone = done.send(());
            }
            Command::Send { to, channel, payload } => {
                self.push_frame(&to, Frame::Message { channel, payload });
            }
            Command::Accept(stream) => self.receive_link(stream),
            Command::SetKeys(keys, done) => {
                self.keys.replace(keys.clone());
                self.swim.set_keys(keys);
                let _gone = done.send(());
            }
            Command::Tell(event) => self.tell(event),
            Command::Leave(_) => unreachable!("the loop takes it"),
        }
    }

    fn handle_link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Opened { link, hello } => {
                let Some(task) = self.strangers.remove(&link) else { return };
                if let Some((_, older)) = self.peers.insert(hello.name, (link, task)) {
                    older.abort();
                }
            }
            LinkEvent::State { from, payload } => self.swim.handle_message(Instant::now(), &from, &payload),
        }
    }

    fn receive_link(&mut self, stream: TcpStream) {
        if self.strangers.len() >= STRANGERS_MAX {
            self.counters.links_refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.next_link += 1;
        let task = self.tasks.spawn(receive_all(stream, self.next_link, self.receiver.clone()));
        self.strangers.insert(self.next_link, task);
    }

    fn forget_ended_links(&mut self) {
        self.strangers.retain(|_, task| !task.is_finished());
        self.peers.retain(|_, (_, task)| !task.is_finished());
    }

    /// Queues a frame for a member, and opens its queue if need be.
    fn push_frame(&mut self, to: &NodeName, frame: Frame) {
        let is_queued = match self.swim.view().address(to) {
            Some(address) if *to != self.receiver.me => {
                let is_open = self.outgoing.get(to).is_some_and(|(queue, _)| queue.address == address);
                if !is_open {
                    let (queue, task) =
                        Outgoing::new(address, self.hello.clone(), self.keys.clone(), self.counters.clone());
                    let task = self.tasks.spawn(task);
                    if let Some((_, older)) = self.outgoing.insert(to.clone(), (queue, task)) {
                        older.abort();
                    }
                }
                self.outgoing.get(to).is_some_and(|(queue, _)| queue.push(frame))
            }
            _ => false,
        };
        if !is_queued {
            self.counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn rejoin_pause(&self) -> Duration {
        match self.swim.view().members().len() {
            1 => self.rejoin_interval.min(LONELY_REJOIN_INTERVAL),
            _ => self.rejoin_interval,
        }
    }

    fn look_up(&mut self) {
        let is_alone = self.swim.view().members().len() == 1;
        let is_late = self.started.elapsed() > JOIN_PATIENCE;
        if !is_alone {
            self.is_lonely_told = false;
        } else if is_late && !self.is_lonely_told && !self.join.is_empty() {
            self.is_lonely_told = true;
            let reason = "nobody has answered yet".to_owned();
            let tried: Vec<&str> = self.join.iter().map(|(text, _)| text.as_str()).collect();
            self.tell(ClusterEvent::JoinFailed { address: tried.join(", "), reason });
        }
        if !self.lookups.is_empty() {
            return;
        }
        self.is_looked_up = true;
        if !self.swim.is_joined() && !self.hint.is_empty() {
            self.swim.handle_join(Instant::now(), &self.hint);
        }
        for (text, place) in self.join.clone() {
            let lookup = self.lookup;
            self.lookups.spawn(async move {
                let found = place.resolve(lookup).await;
                (text, found)
            });
        }
    }

    fn handle_lookup(&mut self, address: String, found: io::Result<Vec<SocketAddr>>) {
        match found {
            Ok(addresses) => {
                self.unresolved.remove(&address);
                let mine = self.swim.view().address(&self.receiver.me);
                self.has_candidates |= found_another(&addresses, mine);
                self.swim.handle_join(Instant::now(), &addresses);
            }
            Err(error) => {
                self.has_candidates = true;
                if self.unresolved.insert(address.clone()) {
                    self.tell(ClusterEvent::JoinFailed { address, reason: error.to_string() });
                }
            }
        }
    }

    /// How long this node waits for others before it goes ahead without them.
    fn patience(&self) -> Duration {
        if self.hint.is_empty() { self.join_timeout } else { self.join_timeout.max(self.isolation_patience) }
    }

    /// Lets this node become active, if somebody waits for that and nobody else has to be waited for.
    fn activate(&mut self) {
        let is_late = self.started.elapsed() >= self.patience();
        let has_nobody_to_wait_for = self.hint.is_empty()
            && (self.join.is_empty()
                || (self.is_looked_up && self.lookups.is_empty() && !self.has_candidates));
        let is_ready = self.swim.is_joined() || is_late || has_nobody_to_wait_for;
        if self.waiting.is_empty() || !is_ready {
            return;
        }
        if !self.swim.is_joined() && !self.hint.is_empty() {
            self.tell(ClusterEvent::StartedAlone { known: self.hint.len() });
            self.hint.clear();
        }
        self.swim.set_phase(Instant::now(), Phase::Active);
        self.publish_view();
        for done in self.waiting.drain(..) {
            let _gone = done.send(());
        }
    }

    /// Takes everything out of the core.
    async fn drain(&mut self) {
        self.activate();
        self.send_packets().await;
        while let Some((to, payload)) = self.swim.poll_message() {
            self.push_frame(&to, Frame::State(payload));
        }
        while let Some(event) = self.swim.poll_event() {
            self.tell(event);
        }
        self.publish_view();
        *self.counters.swim.lock().expect("no code panics while holding it") = self.swim.stats();
    }

    async fn send_packets(&mut self) {
        while let Some((to, packet)) = self.swim.poll_packet() {
            if self.transport.send(to, &packet).await.is_err() {
                self.count_failed_packet();
            }
        }
    }

    fn count_failed_packet(&self) {
        self.counters.packets_failed.fetch_add(1, Ordering::Relaxed);
    }

    fn tell(&self, event: ClusterEvent) {
        // Events are for people: if nobody reads them they are not worth waiting for.
        let _full_or_closed = self.events.try_send(event);
    }

    /// Publishes the view if it is new, and closes the links of those who are gone.
    fn publish_view(&mut self) {
        let view = self.swim.view().clone();
        if self.view.borrow().epoch() == view.epoch() {
            return;
        }
        self.outgoing.retain(|name, (queue, task)| {
            let stays = view.address(name) == Some(queue.address);
            if !stays {
                task.abort();
            }
            stays
        });
        let before = self.view.borrow().clone();
        self.peers.retain(|name, (_, task)| {
            // A peer that links before it is a member stays; one that was a member and is none any more goes.
            let is_gone = before.member(name).is_some() && view.member(name).is_none();
            if is_gone {
                task.abort();
            }
            !is_gone
        });
        self.view.send_replace(view);
    }

    /// Says goodbye twice, and lets the links finish what they have.
    async fn leave(&mut self) {
        self.swim.handle_leave(Instant::now());
        let goodbye: Vec<_> = std::iter::from_fn(|| self.swim.poll_packet()).collect();
        for pause in [GOODBYE_PAUSE, Duration::ZERO] {
            for (to, packet) in &goodbye {
                let _best_effort = self.transport.send(*to, packet).await;
            }
            sleep(pause).await;
        }
        let flushed = async {
            while !self.outgoing.values().all(|(queue, _)| queue.is_empty()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _flushed_or_too_slow = timeout(GOODBYE_FLUSH, flushed).await;
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn found_another(addresses: &[SocketAddr], mine: Option<SocketAddr>) -> bool {
    addresses.iter().any(|address| Some(*address) != mine)
}
