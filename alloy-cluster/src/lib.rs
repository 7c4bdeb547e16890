//! Who is alive, who owns what, and the state that moves with ownership.
#![forbid(unsafe_code)]
mod node;

mod view;

mod membership;

mod sharder;

mod rendezvous;
mod ring;

mod assignment;

mod handover;

mod swim;

mod codec;
#[cfg(feature = "tokio")]
mod frame;
mod packet;
mod timers;

mod transport;

#[cfg(feature = "tokio")]
mod cluster;
#[cfg(feature = "tokio")]
mod counters;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod link;
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
    Activity, Event, Handover, HandoverOptions, HandoverStats, KeyStatus, Origin, STATE_BYTES_MAX, Version,
};
pub use membership::{Membership, Solo};
pub use node::{Node, NodeName};
pub use rendezvous::Rendezvous;
pub use ring::Ring;
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
