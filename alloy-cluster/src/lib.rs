//! Who is alive, who owns what, and the state that moves with ownership. Knows nothing of what is owned.
//!
//! | layer | what it answers | with I/O | without |
//! | --- | --- | --- | --- |
//! | membership | who is alive, and ready for what? | [`Cluster`], [`Driver`], [`Solo`] | [`Swim`] |
//! | sharding | who owns a key, and who is next? | | [`Rendezvous`], [`Ring`], [`Assignment`] |
//! | handover | how do a key and its state get from owner to owner? | the caller's messages | [`Handover`] |
//!
//! The layers meet in the [`View`]: membership makes it, a [`Sharder`] ranks the owners in it, [`Handover`] follows it.
//!
//! There is no consensus here. While views agree and messages arrive, a key has one owner. During a partition both sides
//! may act on a key; after it, the owner goes on with the newer state. A crash costs at most the time of detection.
//!
//! A node that hears nobody any more takes over nothing for [`Timing::isolation_patience`]; a [`Hint`] of the last view
//! does the same for a restart. With a [`KeyRing`] packets and streams are sealed. Peers are found by addresses, DNS
//! names (A, AAAA, SRV) and files, all of which are looked up again now and then.
//!
//! Nothing runs behind the caller's back: [`bind`] gives a handle and a driver, which is one future.
//!
//! ```
//! use alloy_cluster::{ClusterConfig, LinkListen, Membership, Node, Phase, Rendezvous, Sharder, bind};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), alloy_cluster::Error> {
//! let node = Node { name: "alloy-0".into(), address: ([127, 0, 0, 1], 0).into(), incarnation: 1 };
//! let mut config = ClusterConfig::new("telemetry", node);
//! config.join = vec![]; // The names or addresses of others.
//! let listen: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
//! let (cluster, driver) = bind(config, listen, LinkListen::Own).await?;
//! let running = tokio::spawn(driver.run());
//!
//! cluster.set_phase(Phase::Active).await;
//! let view = cluster.view();
//! let owner = Rendezvous.owner(42, &view).map(|index| &view.members()[index].node.name);
//! assert_eq!(owner, Some(cluster.me()));
//!
//! cluster.leave().await;
//! # running.await.ok();
//! # Ok(())
//! # }
//! ```
//!
//! Features: `tokio` (default) brings UDP and TCP; without it the crate is protocol logic only. `dns` finds members by SRV
//! records. `testing` brings a seeded
//! network in virtual time and conformance suites for the traits.
#![forbid(unsafe_code)]

mod node;

mod view;

mod membership;

mod sharder;

mod rendezvous;
mod ring;

mod assignment;
mod bounded;

mod handover;

mod swim;

mod codec;
#[cfg(feature = "tokio")]
mod frame;
mod hint;
mod packet;
mod seal;
mod timers;

mod transport;

#[cfg(feature = "dns")]
mod dns;
#[cfg(feature = "tokio")]
mod place;

#[cfg(feature = "tokio")]
mod cluster;
#[cfg(feature = "tokio")]
mod counters;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod link;
#[cfg(feature = "tokio")]
mod link_seal;
#[cfg(feature = "tokio")]
mod udp;

mod config;
mod error;
mod event;

#[cfg(feature = "testing")]
pub mod testing;

pub use assignment::{Assignment, Move};
pub use config::Timing;
pub use error::Error;
pub use event::ClusterEvent;
pub use handover::{
    Activity, Event, Handover, HandoverOptions, HandoverStats, KeyStatus, Origin, STATE_BYTES_MAX, Trust,
    Version,
};
pub use hint::Hint;
pub use membership::{Membership, Solo};
pub use node::{Node, NodeName};
pub use rendezvous::Rendezvous;
pub use ring::Ring;
pub use seal::KeyRing;
pub use sharder::{Key, Rank, Sharder};
pub use swim::{Swim, SwimConfig, SwimStats};
pub use transport::Transport;
pub use view::{Member, Phase, View};

#[cfg(feature = "tokio")]
pub use {
    cluster::{Cluster, ClusterConfig, LinkListen, Listen, bind, bind_with},
    counters::Stats,
    driver::Driver,
    frame::LINK_MAGIC,
    link::Incoming,
    udp::Udp,
};

/// What the guide shows is run like the examples here.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guides/embed-alloy-cluster.md")]
struct Guide;
