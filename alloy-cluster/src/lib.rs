//! Who is alive, who owns what, and the state that moves with ownership. Knows nothing of what is owned.
//!
#![doc = include_str!("../README.md")]
//!
//! # Where to begin
//!
//! [`bind`] joins a cluster, [`Swim`] is the protocol without sockets, [`Sharder`] ranks the owners in a [`View`], [`Handover`] follows it.
//!
//! A node that hears nobody any more takes over nothing for [`Timing::isolation_patience`]; a [`Hint`] of the last view
//! does the same for a restart. With a [`KeyRing`] packets and streams are sealed. Peers are found by addresses, DNS
//! names (A, AAAA, SRV) and files, all of which are looked up again now and then.
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
