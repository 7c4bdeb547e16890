//! Who is alive, who owns what, and the state that moves with ownership.
#![forbid(unsafe_code)]
mod membership;
mod node;
mod sharder;
mod view;

pub use membership::{Membership, Solo};
pub use node::{Node, NodeName};
pub use sharder::{Key, Rank, Sharder};
pub use view::{Member, Phase, View};
