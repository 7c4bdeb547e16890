//! The cluster's flags, with Alloy's names, and what they mean.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_cluster::Timing;
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::config::parse_duration;

/// Flags of the cluster. Each has its environment variable, which the flag goes before.
#[derive(Debug, Clone, Args)]
pub struct ClusterFlags {
    /// Work in a cluster.
    #[arg(long = "cluster.enabled", env = "ALLOY_CLUSTER_ENABLED", num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub enabled: bool,
    /// This node's name, unique in the cluster and the same after a restart [default: the host's name].
    #[arg(long = "cluster.node-name", env = "ALLOY_CLUSTER_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// The cluster's name; nodes of another name are refused.
    #[arg(
        long = "cluster.name",
        env = "ALLOY_CLUSTER_NAME",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub name: String,
    /// Where other members are found, separated by commas: addresses or DNS names, with or without a port; dns+NAME for A and
    /// AAAA records only, dnssrv+NAME for SRV records with their ports, file+PATH for a file with one of these in each line.
    #[arg(
        long = "cluster.join-addresses",
        env = "ALLOY_CLUSTER_JOIN_ADDRESSES",
        value_name = "ADDRESSES",
        value_delimiter = ','
    )]
    pub join_addresses: Vec<String>,
    /// Known to Alloy, and not supported: see --cluster.join-addresses.
    #[arg(
        long = "cluster.discover-peers",
        env = "ALLOY_CLUSTER_DISCOVER_PEERS",
        value_name = "TUPLES",
        hide = true
    )]
    pub discover_peers: Option<String>,
    /// How often the addresses are looked up again.
    #[arg(long = "cluster.rejoin-interval", env = "ALLOY_CLUSTER_REJOIN_INTERVAL", value_name = "DURATION", default_value = "15s", value_parser = pause)]
    pub rejoin_interval: Duration,
    /// The address that the others use, with or without a port [default: the one that is listened on].
    #[arg(
        long = "cluster.advertise-address",
        env = "ALLOY_CLUSTER_ADVERTISE_ADDRESS",
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true
    )]
    pub advertise_address: String,
    /// Where gossip listens, UDP and TCP [default: UDP and TCP at the HTTP server's address and port].
    #[arg(long = "cluster.listen-addr", env = "ALLOY_CLUSTER_LISTEN_ADDR", value_name = "HOST:PORT")]
    pub gossip_listen: Option<SocketAddr>,
    /// How many members there must be, this node included, before it takes its share; 0: it waits for nobody. A node that
    /// works goes on if the cluster shrinks below this later.
    #[arg(
        long = "cluster.wait-for-size",
        env = "ALLOY_CLUSTER_WAIT_FOR_SIZE",
        value_name = "MEMBERS",
        default_value_t = 0
    )]
    pub wait_for_size: usize,
    /// How long it waits for them; 0: for ever.
    #[arg(long = "cluster.wait-timeout", env = "ALLOY_CLUSTER_WAIT_TIMEOUT", value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub wait_timeout: Duration,
    /// How fast a dead member is replaced, and how long a stall is forgiven; the same on all members.
    #[arg(long = "cluster.timing", env = "ALLOY_CLUSTER_TIMING", value_enum, default_value_t = Profile::Lan)]
    pub timing: Profile,
    /// This node's failure domain: the copy of a key's state is kept in another one, if there is one.
    #[arg(
        long = "cluster.zone",
        env = "ALLOY_CLUSTER_ZONE",
        value_name = "ZONE",
        default_value = "",
        hide_default_value = true
    )]
    pub zone: String,
    /// This node's share of the keys relative to the others', 0.01 to 655.
    #[arg(long = "cluster.weight", env = "ALLOY_CLUSTER_WEIGHT", value_name = "SHARES", default_value = "1", value_parser = hundredths)]
    pub weight: u16,
    /// A file with the keys that seal what members send each other: in each line an id from 1 to 255 and 64 hexadecimal digits.
    /// The first seals, all open; it is read again when it changes. ALLOY_CLUSTER_KEYS can have its content instead.
    #[arg(long = "cluster.keys-file", env = "ALLOY_CLUSTER_KEYS_FILE", value_name = "FILE")]
    pub keys_file: Option<PathBuf>,
    /// Where it is written down who is in the cluster, for the next start [default: cluster-members in --storage.path].
    #[arg(long = "cluster.members-file", env = "ALLOY_CLUSTER_MEMBERS_FILE", value_name = "FILE")]
    pub members_file: Option<PathBuf>,
}

/// What the flags are if none is given.
impl Default for ClusterFlags {
    fn default() -> Self {
        ClusterFlags {
            enabled: false,
            node_name: None,
            name: String::new(),
            join_addresses: Vec::new(),
            discover_peers: None,
            rejoin_interval: Duration::from_secs(15),
            advertise_address: String::new(),
            gossip_listen: None,
            wait_for_size: 0,
            wait_timeout: Duration::ZERO,
            timing: Profile::Lan,
            zone: String::new(),
            weight: 100,
            keys_file: None,
            members_file: None,
        }
    }
}

/// How fast failures are found: the library's profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// A dead member is known after 2.2 s, a stall of 1.8 s is forgiven.
    Lan,
    /// 1 s and 0.7 s: for machines that are never short of CPU.
    Fast,
    /// 8 s and 6.5 s: for round trips of up to 500 ms.
    Wan,
    /// 22 s and 21 s: for throttled containers.
    Patient,
}

impl Profile {
    pub(super) fn timing(self) -> Timing {
        match self {
            Profile::Lan => Timing::lan(),
            Profile::Fast => Timing::fast(),
            Profile::Wan => Timing::wan(),
            Profile::Patient => Timing::patient(),
        }
    }
}

impl ClusterFlags {
    /// The same; what has to be written goes to this folder unless a flag says where.
    pub fn with_storage(mut self, storage: &Path) -> Self {
        self.members_file.get_or_insert_with(|| storage.join("cluster-members"));
        self
    }

    /// What the flags say that cannot be.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.discover_peers.as_ref().is_some_and(|tuples| !tuples.is_empty()) {
            bail!(
                "--cluster.discover-peers is not supported: no cloud's API is asked here. Give --cluster.join-addresses the name of a headless service (NAME, or dnssrv+NAME for the ports of its SRV records) or file+PATH"
            );
        }
        Ok(())
    }

    /// The address that the others use.
    pub(super) fn advertised(&self, listen: SocketAddr) -> anyhow::Result<SocketAddr> {
        let text = self.advertise_address.as_str();
        if text.is_empty() {
            return Ok(listen);
        }
        let with_port = text.parse::<SocketAddr>().ok();
        let alone =
            || text.trim_matches(['[', ']']).parse().ok().map(|ip| SocketAddr::new(ip, listen.port()));
        with_port.or_else(alone).with_context(|| {
            format!(
                "--cluster.advertise-address={text} is not an IP address such as 10.0.0.7 or 10.0.0.7:12345"
            )
        })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let found = if text == "0" { Some(Duration::ZERO) } else { parse_duration(text) };
    found.ok_or_else(|| "expected a duration such as 15s or 1m".to_owned())
}

fn pause(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|pause| match pause.is_zero() {
        true => Err("expected a duration longer than 0, such as 15s".to_owned()),
        false => Ok(pause),
    })
}

/// Shares as the library counts them.
fn hundredths(text: &str) -> Result<u16, String> {
    let shares = text.parse::<f64>().ok().map(|shares| (shares * 100.0).round());
    let shares = shares.filter(|shares| (1.0..=65_500.0).contains(shares));
    shares.map(|shares| shares as u16).ok_or_else(|| "expected a number from 0.01 to 655".to_owned())
}
