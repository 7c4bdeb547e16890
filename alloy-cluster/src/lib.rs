//! Who is alive, who owns what, and the state that moves with ownership.
#![forbid(unsafe_code)]
mod assignment;
mod membership;
mod node;
mod rendezvous;
mod ring;
mod sharder;
mod view;

pub use assignment::{Assignment, Move};
pub use membership::{Membership, Solo};
pub use node::{Node, NodeName};
pub use rendezvous::Rendezvous;
pub use ring::Ring;
pub use sharder::{Key, Rank, Sharder};
pub use view::{Member, Phase, View};
