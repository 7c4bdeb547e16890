//! For those who implement the traits or build on the cores: a seeded network in virtual time, and conformance suites.
//!
//! | file | purpose |
//! | --- | --- |
//! | `network.rs` | [`Network`]: many nodes, latency, loss, partitions, pauses and crashes, in one thread and by seed |
//! | `simulated.rs` | one of its nodes, and what becomes of what it sends and receives |
//! | `shared_views.rs` | equal views share their members, so that 10,000 nodes fit into memory |
//! | `clock.rs` | a node's clock, which may run faster or slower than the true time |
//! | `worker.rs` | what each simulated node does with its keys: counts, so that every lost step shows |
//! | `bytes.rs` | ways for bytes from anywhere to reach the decoders, for fuzzers |
//! | `conformance.rs` | one function per trait that tests each line of its contract |

mod bytes;
mod clock;
mod conformance;
mod network;
mod shared_views;
mod simulated;
mod worker;

#[cfg(feature = "tokio")]
pub use bytes::decode_link;
pub use bytes::{envelope, fuzzed_node};
pub use conformance::{check_membership, check_sharder, check_transport};
pub use network::{Network, NetworkOptions};
pub use worker::Started;
