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
mod packet;
mod timers;

mod config;
mod error;
mod event;

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
pub use view::{Member, Phase, View};
