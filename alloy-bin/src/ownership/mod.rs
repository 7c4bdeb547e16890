//! Targets x view -> mine: who owns what in this cluster, and what a component has to start and stop.
//!
//! | file | what |
//! | --- | --- |
//! | `service.rs` | `Ownership`: the agent's share in its cluster; carries messages and time to the shards |
//! | `shard.rs` | `Shard`: one component's keys, what it has to start and to stop |
//! | `insight.rs` | what people ask: who is there, who owns what, and why |
//! | `facts.rs` | how keys fare where they are worked on, asked for by any member |
//! | `history.rs` | what happened in the cluster lately |
//! | `simulation.rs` | what would move if members came and went |
//! | `intents.rs` | which batches of shared files are on their way, and whose they are: the core without I/O |
//! | `tenures.rs` | the same for a component that reads such files, and for the logs that its lines go through |
//! | `flags.rs` | the cluster's flags |
//! | `cluster.rs` | starting the cluster from them |
//! | `keys.rs` | the keys that seal what members send each other, from a file that may change |
//! | `last_view.rs` | who was there when this node last looked, kept over a restart |
//! | `figures.rs` | what is said of it in `/metrics` |
//!
//! Invariant: alone in the agent in naming `alloy_cluster`.

mod cluster;
mod facts;
mod figures;
mod flags;
mod history;
mod insight;
mod intents;
mod keys;
mod last_view;
mod service;
mod shard;
mod simulation;
mod tenures;

pub use cluster::{Joined, Links, start};
pub use facts::{Fact, Known};
pub use flags::{ClusterFlags, Profile};
pub use history::Change;
pub use insight::{Candidate, Explanation, Filter, Owned, Peer};
pub use intents::Inherited;
pub use service::{Ownership, Sharing};
pub use shard::{Keeper, Origin, Shard, Turn};
pub use simulation::{Flow, Newcomer, Plan, PlanError, Share, Simulation};
pub use tenures::Tenures;

#[cfg(test)]
mod tests;
