//! [`Cluster`]: the handle to a running node, and [`bind`], which makes it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot, watch};

use crate::counters::{Counters, Stats};
use crate::driver::{Driver, Parts};
use crate::event::ClusterEvent;
use crate::link::Incoming;
use crate::place::{Lookup, Place};
use crate::swim::check_metadata;
use crate::udp::Udp;
use crate::{
    Error, Hint, KeyRing, Member, Membership, Node, NodeName, Phase, Swim, SwimConfig, Timing, Transport,
    View,
};

/// Calls that wait for the driver; a message beyond that is dropped and counted.
const COMMANDS_MAX: usize = 8192;
/// Messages of peers that wait for the caller; beyond that the peers wait.
const INCOMING_MAX: usize = 1024;
/// Events that wait for the caller; the newest are dropped.
const EVENTS_MAX: usize = 1024;
/// With port 0, how often another port is tried if the one that UDP got is taken for TCP.
const PORT_ATTEMPTS: usize = 16;

/// Who this node is, and where its cluster is found.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// The cluster's name, 1 to 255 bytes. Nodes of another name are refused.
    pub name: String,
    /// This node. Its address is the one that the others use; port 0 is replaced by the port that was bound, and an
    /// unspecified IP by the one that this machine uses towards the first address to join (127.0.0.1 if it has none).
    pub node: Node,
    /// Failure domain, at most 64 bytes; empty: unknown.
    pub zone: String,
    /// Share of the keys in hundredths; 100 is one share. Not 0.
    pub weight: u16,
    /// The version of the program, for people, at most 32 bytes. Default empty.
    pub version: String,
    /// Small data for the other callers, at most 512 bytes; [`Membership::set_metadata`] changes it later.
    pub metadata: Vec<u8>,
    /// The phase to begin with. Default joining.
    pub phase: Phase,
    /// Where members are found. Each text is one of
    ///
    /// - `10.0.0.7:7946` or `[fd00::7]:7946`: an address; without a port, with this node's own;
    /// - `alloy-cluster:7946`: all A and AAAA records of the name, as the system resolves it; if there are none, as `dnssrv+`;
    /// - `dns+alloy-cluster:7946`: its A and AAAA records only;
    /// - `dnssrv+_gossip._udp.alloy` (feature `dns`): the targets of the name's SRV records, each at its record's port;
    /// - `file+/etc/alloy/members`: one of the above in each line of the file; `#` begins a comment.
    ///
    /// Empty, or only this node's own: it waits alone until somebody joins it.
    pub join: Vec<String>,
    /// Who is asked for SRV records, such as Consul at 127.0.0.1:8600. Default `None`: the servers of `/etc/resolv.conf`.
    pub dns_server: Option<SocketAddr>,
    /// How often the names in `join` are looked up again, and whoever is new there is asked. Default 15 s; every
    /// second while nobody is found.
    pub rejoin_interval: Duration,
    /// How long this node waits for a member of `join` to tell what it knows before it becomes active all the same.
    /// Default 3 s. A node that went ahead at once would act on keys of members that it has not seen yet.
    pub join_timeout: Duration,
    /// How fast failures are found. Default [`Timing::lan`].
    pub timing: Timing,
    /// Who was there when this node last looked. They are asked, too, and a node that finds none of them waits for
    /// [`Timing::isolation_patience`] instead of `join_timeout` before it becomes active. Default: nobody.
    pub hint: Hint,
    /// Seals packets and streams. Default `None`: they travel in the clear, which an event says once.
    pub keys: Option<KeyRing>,
}

impl ClusterConfig {
    /// A node of a cluster, with the defaults and nobody to join.
    pub fn new(name: impl Into<String>, node: Node) -> Self {
        ClusterConfig {
            name: name.into(),
            node,
            zone: String::new(),
            weight: 100,
            version: String::new(),
            metadata: Vec::new(),
            phase: Phase::Joining,
            join: Vec::new(),
            dns_server: None,
            rejoin_interval: Duration::from_secs(15),
            join_timeout: Duration::from_secs(3),
            timing: Timing::default(),
            hint: Hint::default(),
            keys: None,
        }
    }
}

/// Where datagrams are received.
pub enum Listen {
    /// Bind this address; port 0 takes a free one.
    Address(SocketAddr),
    /// Use this socket.
    Socket(UdpSocket),
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Listen::Address(address)
    }
}

impl From<UdpSocket> for Listen {
    fn from(socket: UdpSocket) -> Self {
        Listen::Socket(socket)
    }
}

/// Where links of peers are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkListen {
    /// Listen for TCP on the address and port of the datagrams.
    Own,
    /// The caller listens on that port, with other services, and gives the streams that begin with
    /// [`LINK_MAGIC`](crate::LINK_MAGIC) to [`Cluster::accept`].
    Shared,
}

/// Binds a node: the handle, and the driver that the caller has to run.
///
/// Nothing happens until [`Driver::run`] is polled. A node that finds nobody within `join_timeout` is a cluster of one:
/// it owns everything once it is active, and shares when somebody comes. `set_phase(Active)` returns after that wait.
pub async fn bind(
    mut config: ClusterConfig,
    listen: impl Into<Listen>,
    links: LinkListen,
) -> Result<(Cluster, Driver), Error> {
    let places = places(&config)?;
    let (udp, listener) = bind_sockets(listen.into(), links).await?;
    let bound = udp.local_address();
    if config.node.address.port() == 0 {
        config.node.address.set_port(bound.port());
    }
    if config.node.address.ip().is_unspecified() {
        let ip = match bound.ip() {
            ip if ip.is_unspecified() => {
                let lookup = Lookup { port: bound.port(), dns_server: config.dns_server };
                outward_ip(places.first(), lookup).await
            }
            ip => ip,
        };
        config.node.address.set_ip(ip);
    }
    assemble(config, places, Box::new(udp), listener)
}

/// The same over a transport of the caller's: links arrive through [`Cluster::accept`].
pub fn bind_with(config: ClusterConfig, transport: Box<dyn Transport>) -> Result<(Cluster, Driver), Error> {
    let places = places(&config)?;
    assemble(config, places, transport, None)
}

fn places(config: &ClusterConfig) -> Result<Vec<Place>, Error> {
    let place =
        |text: &String| Place::parse(text).map_err(|reason| Error::Join { text: text.clone(), reason });
    config.join.iter().map(place).collect()
}

async fn bind_sockets(listen: Listen, links: LinkListen) -> Result<(Udp, Option<TcpListener>), Error> {
    let (mut udp, address) = match listen {
        Listen::Address(address) => (bind_udp(address).await?, address),
        Listen::Socket(socket) => {
            let udp = Udp::from_socket(socket)
                .map_err(|source| Error::Bind { address: (Ipv4Addr::UNSPECIFIED, 0).into(), source })?;
            let address = udp.local_address();
            (udp, address)
        }
    };
    if links == LinkListen::Shared {
        return Ok((udp, None));
    }
    for _ in 0..PORT_ATTEMPTS {
        match TcpListener::bind(udp.local_address()).await {
            Ok(listener) => return Ok((udp, Some(listener))),
            Err(source) if address.port() != 0 => return Err(Error::Bind { address, source }),
            Err(_taken) => udp = bind_udp(address).await?,
        }
    }
    let source = std::io::ErrorKind::AddrInUse.into();
    Err(Error::Bind { address: udp.local_address(), source })
}

async fn bind_udp(address: SocketAddr) -> Result<Udp, Error> {
    Udp::bind(address).await.map_err(|source| Error::Bind { address, source })
}

/// The address this machine would send from. Connecting a UDP socket sends nothing; it only asks for the route.
async fn outward_ip(join: Option<&Place>, lookup: Lookup) -> IpAddr {
    let ask = async {
        let towards = join?.resolve(lookup).await.ok()?.into_iter().next()?;
        let from = if towards.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(from).await.ok()?;
        socket.connect(towards).await.ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    ask.await.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

fn assemble(
    config: ClusterConfig,
    places: Vec<Place>,
    transport: Box<dyn Transport>,
    listener: Option<TcpListener>,
) -> Result<(Cluster, Driver), Error> {
    let me = Member {
        node: config.node.clone(),
        phase: config.phase,
        zone: config.zone.as_str().into(),
        weight: config.weight,
        version: config.version.as_str().into(),
        metadata: config.metadata.as_slice().into(),
    };
    // Whom this node probes first should differ from node to node and from start to start.
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), config.node.incarnation);
    let swim = SwimConfig {
        cluster: config.name.clone(),
        me,
        timing: config.timing.clone(),
        seed,
        keys: config.keys.clone(),
    };
    let swim = Swim::new(Instant::now(), swim)?;
    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    let (incoming, incoming_queue) = mpsc::channel(INCOMING_MAX);
    let (events, event_queue) = mpsc::channel(EVENTS_MAX);
    let (view, views) = watch::channel(swim.view().clone());
    let counters = Arc::new(Counters::default());
    let cluster = Cluster {
        me: config.node.clone(),
        views,
        commands,
        incoming: Arc::new(Mutex::new(Some(incoming_queue))),
        events: Arc::new(Mutex::new(Some(event_queue))),
        counters: counters.clone(),
    };
    let parts = Parts {
        swim,
        places,
        transport,
        listener,
        commands: command_queue,
        incoming,
        events,
        view,
        counters,
    };
    Ok((cluster, Driver::new(config, parts)))
}

pub(crate) enum Command {
    SetPhase(Phase, oneshot::Sender<()>),
    SetMetadata(Vec<u8>, oneshot::Sender<()>),
    Leave(oneshot::Sender<()>),
    Send { to: NodeName, channel: String, payload: Bytes },
    Accept(TcpStream),
    SetKeys(Option<KeyRing>, oneshot::Sender<()>),
    Tell(ClusterEvent),
}

/// The handle to a running node. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct Cluster {
    me: Node,
    views: watch::Receiver<Arc<View>>,
    commands: mpsc::Sender<Command>,
    incoming: Arc<Mutex<Option<mpsc::Receiver<Incoming>>>>,
    events: Arc<Mutex<Option<mpsc::Receiver<ClusterEvent>>>>,
    counters: Arc<Counters>,
}

impl Cluster {
    /// This node, with the address that the others use.
    pub fn node(&self) -> &Node {
        &self.me
    }

    /// Sends a message to the [`incoming`](Cluster::incoming) of a member, in order with those before. Never waits: a
    /// message to somebody who is not a member, or whose queue (1,024 messages, 64 MiB) is full, or longer than 32 MiB
    /// is dropped and counted. A message may also be lost with its connection, so the caller repeats what matters.
    /// The channel's name has at most 255 bytes.
    pub fn send(&self, to: &NodeName, channel: &str, payload: Bytes) {
        let command = Command::Send { to: to.clone(), channel: channel.to_owned(), payload };
        if channel.len() > 255 || self.commands.try_send(command).is_err() {
            self.counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The messages of the peers; `None` if it was taken before. A caller that takes it and does not read makes its
    /// peers wait.
    pub fn incoming(&self) -> Option<mpsc::Receiver<Incoming>> {
        self.incoming.lock().expect("no code panics while holding it").take()
    }

    /// What happens in the cluster, for logs; `None` if it was taken before.
    pub fn events(&self) -> Option<mpsc::Receiver<ClusterEvent>> {
        self.events.lock().expect("no code panics while holding it").take()
    }

    /// Takes over a stream that begins with [`LINK_MAGIC`](crate::LINK_MAGIC), which the caller has peeked and not read.
    pub async fn accept(&self, stream: TcpStream) {
        // Fails only after the driver has ended: then the stream is closed, as it should be.
        let _ended = self.commands.send(Command::Accept(stream)).await;
    }

    /// Replaces the keys while the node runs; see [`KeyRing`] for how a cluster changes them without a break. Returns once
    /// they are in use.
    pub async fn set_keys(&self, keys: Option<KeyRing>) {
        self.ask(|done| Command::SetKeys(keys, done)).await;
    }

    /// Waits until there are so many members, this node included, for at most so long. What happens below that is the
    /// caller's choice: the view then is the error, and [`ClusterEvent::TooSmall`] tells it.
    pub async fn wait_for_size(&self, wanted: usize, patience: Duration) -> Result<Arc<View>, Arc<View>> {
        let mut views = self.views.clone();
        let is_enough = |view: &Arc<View>| view.members().len() >= wanted;
        if let Ok(Ok(view)) = tokio::time::timeout(patience, views.wait_for(is_enough)).await {
            return Ok(view.clone());
        }
        let view = self.view();
        let event = ClusterEvent::TooSmall { members: view.members().len(), wanted };
        // Fails only after the driver has ended: then nobody listens.
        let _ended = self.commands.send(Command::Tell(event)).await;
        Err(view)
    }

    /// What has been counted.
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// Sends a command that is acknowledged; returns at once if the driver has ended.
    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(command(done)).await.is_ok() {
            let _done_or_ended = wait.await;
        }
    }
}

#[async_trait]
impl Membership for Cluster {
    fn me(&self) -> &NodeName {
        &self.me.name
    }

    fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    async fn changed(&self, seen: u64) -> Arc<View> {
        let mut views = self.views.clone();
        if let Ok(view) = views.wait_for(|view| view.epoch() != seen).await {
            return view.clone();
        }
        // The driver has ended: nothing will ever change.
        std::future::pending().await
    }

    async fn set_phase(&self, phase: Phase) {
        self.ask(|done| Command::SetPhase(phase, done)).await;
    }

    async fn set_metadata(&self, metadata: &[u8]) -> Result<(), Error> {
        check_metadata(metadata)?;
        self.ask(|done| Command::SetMetadata(metadata.to_vec(), done)).await;
        Ok(())
    }

    async fn leave(&self) {
        self.ask(Command::Leave).await;
    }
}
