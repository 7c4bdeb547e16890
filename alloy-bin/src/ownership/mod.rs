//! Targets x view -> mine: who owns what in this cluster, and what a component has to start and stop.
//!
//! | file | what |
//! | --- | --- |
//! | `service.rs` | `Ownership`: the agent's share in its cluster; carries messages and time to the shards |
//! | `shard.rs` | `Shard`: one component's keys, what it has to start and to stop |
//! | `cluster.rs` | starting the cluster from the agent's flags |
//! | `figures.rs` | what is said of it in `/metrics` |
//!
//! Invariant: alone in the agent in naming `alloy_cluster`.

mod cluster;
mod figures;
mod service;
mod shard;

pub use cluster::{ClusterFlags, Joined, Links, start};
pub use service::{Owned, Ownership, Peer, Sharing};
pub use shard::{Origin, Shard, Turn};

#[cfg(test)]
mod tests;
