//! Starting the cluster from the agent's flags, and telling the log what happens in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_cluster::{
    Cluster, ClusterConfig, ClusterEvent, Driver, Incoming, LINK_MAGIC, LinkListen, Member, Node, Rendezvous,
    Solo, bind,
};
use anyhow::Context;
use clap::Args;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::service::Ownership;
use crate::config::parse_duration;

/// Flags of the cluster, with Alloy's names.
#[derive(Debug, Clone, Args)]
pub struct ClusterFlags {
    /// Work in a cluster.
    #[arg(long = "cluster.enabled", num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub enabled: bool,
    /// This node's name, unique in the cluster and the same after a restart [default: the host's name].
    #[arg(long = "cluster.node-name", value_name = "NAME")]
    pub node_name: Option<String>,
    /// The cluster's name; nodes of another name are refused.
    #[arg(long = "cluster.name", value_name = "NAME", default_value = "")]
    pub name: String,
    /// Where other members are found: addresses or DNS names, with or without a port, separated by commas.
    #[arg(long = "cluster.join-addresses", value_name = "ADDRESSES", value_delimiter = ',')]
    pub join_addresses: Vec<String>,
    /// How often the addresses are looked up again.
    #[arg(long = "cluster.rejoin-interval", value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub rejoin_interval: Duration,
    /// The address that the others use, with or without a port [default: the one that is listened on].
    #[arg(
        long = "cluster.advertise-address",
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true
    )]
    pub advertise_address: String,
    /// Where gossip listens, UDP and TCP [default: UDP and TCP at the HTTP server's address and port].
    #[arg(long = "cluster.listen-addr", value_name = "HOST:PORT")]
    pub gossip_listen: Option<SocketAddr>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a duration such as 15s or 1m".to_owned())
}

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
    driver: Option<Driver>,
    incoming: Option<mpsc::Receiver<Incoming>>,
    events: Option<mpsc::Receiver<ClusterEvent>>,
}

/// Binds the node. It sees the others as soon as its task runs, and owns nothing before it is activated.
pub async fn start(flags: &ClusterFlags, hostname: &str, http: SocketAddr) -> anyhow::Result<Joined> {
    let name = flags.node_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| hostname.to_owned());
    let listen = flags.gossip_listen.unwrap_or(http);
    let node =
        Node { name: name.as_str().into(), address: advertised(flags, listen)?, incarnation: incarnation() };
    let version = env!("CARGO_PKG_VERSION");
    if !flags.enabled {
        let me = Member { version: version.into(), ..Member::new(node) };
        let ownership = Ownership::new(Arc::new(Solo::new(me)), Arc::new(Rendezvous), None);
        let member = MemberTask { ownership: ownership.clone(), driver: None, incoming: None, events: None };
        return Ok(Joined { ownership, member, links: None });
    }
    let cluster_name = if flags.name.is_empty() { "default" } else { &flags.name };
    let mut config = ClusterConfig::new(cluster_name, node);
    config.join = flags.join_addresses.iter().filter(|address| !address.is_empty()).cloned().collect();
    config.rejoin_interval = flags.rejoin_interval;
    config.version = version.into();
    let links = if flags.gossip_listen.is_some() { LinkListen::Own } else { LinkListen::Shared };
    let (cluster, driver) = bind(config, listen, links).await.context("cannot start the cluster")?;
    let ownership = Ownership::new(Arc::new(cluster.clone()), Arc::new(Rendezvous), Some(cluster.clone()));
    let (incoming, events) = (cluster.incoming(), cluster.events());
    let links = (links == LinkListen::Shared).then_some(Links { cluster });
    let member = MemberTask { ownership: ownership.clone(), driver: Some(driver), incoming, events };
    Ok(Joined { ownership, member, links })
}

fn advertised(flags: &ClusterFlags, listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    let text = flags.advertise_address.as_str();
    if text.is_empty() {
        return Ok(listen);
    }
    let with_port = text.parse::<SocketAddr>().ok();
    let alone = || text.trim_matches(['[', ']']).parse().ok().map(|ip| SocketAddr::new(ip, listen.port()));
    with_port.or_else(alone).with_context(|| {
        format!("--cluster.advertise-address={text} is not an IP address such as 10.0.0.7 or 10.0.0.7:12345")
    })
}

/// Grows with each start: milliseconds since the Unix epoch.
fn incarnation() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

impl MemberTask {
    /// Works until `stop`, or until the node has left.
    pub async fn run(self, stop: CancellationToken) {
        let MemberTask { ownership, driver, incoming, events } = self;
        let driver = async {
            match driver {
                Some(driver) => driver.run().await,
                None => std::future::pending().await,
            }
        };
        let events = async {
            let Some(mut events) = events else { return };
            while let Some(event) = events.recv().await {
                log(&event);
                if let ClusterEvent::NameTaken(node) = &event {
                    ownership.withdraw(node.address);
                }
            }
        };
        tokio::select! {
            () = driver => {}
            () = ownership.run(incoming, stop) => {}
            () = async { events.await; std::future::pending().await } => {}
        }
    }
}

/// One line for each change of the cluster.
fn log(event: &ClusterEvent) {
    match event {
        ClusterEvent::MemberUp(node) => {
            tracing::info!(member = %node.name, address = %node.address, "a member is up")
        }
        ClusterEvent::MemberReplaced(node) => {
            tracing::info!(member = %node.name, address = %node.address, "a member has restarted")
        }
        ClusterEvent::MemberPhase { name, phase } => {
            tracing::info!(member = %name, phase = phase.as_str(), "a member's phase has changed")
        }
        ClusterEvent::MemberLeft(node) => tracing::info!(member = %node.name, "a member has left"),
        ClusterEvent::MemberDown(node) => {
            tracing::warn!(member = %node.name, address = %node.address, "a member is down")
        }
        ClusterEvent::Rejoined => tracing::warn!("the others took this node for dead; it is back"),
        ClusterEvent::NameTaken(node) => {
            tracing::error!(member = %node.name, address = %node.address, "another node runs under this node's name; this one has withdrawn");
        }
        ClusterEvent::ForeignCluster(address) => {
            tracing::warn!(%address, "packets of another cluster are refused (--cluster.name)")
        }
        ClusterEvent::JoinFailed { address, reason } => {
            tracing::warn!(address, reason, "cannot join; trying again")
        }
        ClusterEvent::Isolated { others, patience } => {
            tracing::warn!(others, ?patience, "nobody is heard any more; this node keeps to what it owns");
        }
        ClusterEvent::Reconnected => tracing::info!("the others are heard again"),
        ClusterEvent::ViewsDiffer { with } => {
            tracing::warn!(member = %with, "a member has seen other members than this node for more than 10 s");
        }
        ClusterEvent::InTheClear => tracing::info!("the cluster has no key; its packets travel in the clear"),
        other => tracing::info!(event = ?other, "the cluster has changed"),
    }
}
