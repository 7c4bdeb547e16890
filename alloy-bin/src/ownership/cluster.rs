//! Starting the cluster from the agent's flags.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_cluster::{
    Cluster, ClusterConfig, ClusterEvent, Driver, LINK_MAGIC, LinkListen, Member, Node, Rendezvous, Solo,
    bind,
};
use anyhow::Context;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::flags::ClusterFlags;
use super::keys::Keys;
use super::last_view::LastView;
use super::service::{Ownership, Peers};

/// A started node.
pub struct Joined {
    /// Who owns what.
    pub ownership: Ownership,
    /// The node's work, to be run until the agent ends.
    pub member: MemberTask,
    /// Takes the connections to the HTTP port that are the cluster's, if they come there.
    pub links: Option<Links>,
}

/// The streams between members, where they share a port with something else.
#[derive(Clone)]
pub struct Links {
    cluster: Cluster,
}

impl Links {
    /// The first bytes of such a stream.
    pub const MAGIC: [u8; 4] = LINK_MAGIC;

    /// Takes a stream that begins with them; nothing has been read from it.
    pub async fn accept(&self, stream: TcpStream) {
        self.cluster.accept(stream).await;
    }
}

/// The node's work.
pub struct MemberTask {
    ownership: Ownership,
    pub(super) network: Option<Network>,
}

/// What a node of more than one works with.
pub(super) struct Network {
    driver: Driver,
    cluster: Cluster,
    pub(super) keys: Keys,
    last_view: Option<LastView>,
}

/// Binds the node. It sees the others as soon as its task runs, and owns nothing before it is activated.
pub async fn start(flags: &ClusterFlags, hostname: &str, http: SocketAddr) -> anyhow::Result<Joined> {
    flags.check()?;
    let name = flags.node_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| hostname.to_owned());
    let listen = flags.gossip_listen.unwrap_or(http);
    let address = flags.advertised(listen)?;
    let node = Node { name: name.as_str().into(), address, incarnation: incarnation() };
    let version = env!("CARGO_PKG_VERSION");
    if !flags.enabled {
        let me = Member { version: version.into(), ..Member::new(node) };
        let ownership = Ownership::new(Arc::new(Solo::new(me)), Arc::new(Rendezvous), None);
        let member = MemberTask { ownership: ownership.clone(), network: None };
        return Ok(Joined { ownership, member, links: None });
    }
    let (keys, ring) = Keys::read(flags.keys_file.as_deref())?;
    let last_view = flags.members_file.clone().map(LastView::new);
    let cluster_name = if flags.name.is_empty() { "default" } else { &flags.name };
    let config = ClusterConfig {
        join: flags.join_addresses.iter().filter(|address| !address.is_empty()).cloned().collect(),
        rejoin_interval: flags.rejoin_interval,
        timing: flags.timing.timing(),
        zone: flags.zone.clone(),
        weight: flags.weight,
        version: version.into(),
        hint: last_view.as_ref().map(LastView::read).unwrap_or_default(),
        keys: ring,
        ..ClusterConfig::new(cluster_name, node)
    };
    let links = if flags.gossip_listen.is_some() { LinkListen::Own } else { LinkListen::Shared };
    let (cluster, driver) = bind(config, listen, links).await.context("cannot start the cluster")?;
    let peers = Peers {
        cluster: cluster.clone(),
        wanted: flags.wait_for_size,
        patience: if flags.wait_timeout.is_zero() { Duration::MAX } else { flags.wait_timeout },
    };
    let ownership = Ownership::new(Arc::new(cluster.clone()), Arc::new(Rendezvous), Some(peers));
    let network = Network { driver, cluster: cluster.clone(), keys, last_view };
    let member = MemberTask { ownership: ownership.clone(), network: Some(network) };
    let links = (links == LinkListen::Shared).then_some(Links { cluster });
    Ok(Joined { ownership, member, links })
}

/// Grows with each start: milliseconds since the Unix epoch.
fn incarnation() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

impl MemberTask {
    /// Works until `stop`, or until the node has left.
    pub async fn run(self, stop: CancellationToken) {
        let MemberTask { ownership, network } = self;
        let Some(Network { driver, cluster, keys, last_view }) = network else {
            return ownership.run(None, stop).await;
        };
        let incoming = cluster.incoming();
        let events = async {
            let Some(mut events) = cluster.events() else { return };
            while let Some(event) = events.recv().await {
                ownership.history().note(&event);
                if let ClusterEvent::NameTaken(node) = &event {
                    ownership.withdraw(node.address);
                }
            }
        };
        let last_view = async {
            if let Some(last_view) = last_view {
                last_view.follow(&cluster).await;
            }
        };
        let beside = async { tokio::join!(events, last_view, keys.follow(&cluster), ownership.admit()) };
        tokio::select! {
            () = driver.run() => {}
            () = ownership.run(incoming, stop) => {}
            _ = async { beside.await; std::future::pending().await } => {}
        }
    }
}
