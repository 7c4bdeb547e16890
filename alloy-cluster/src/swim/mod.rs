//! Membership by SWIM: the `foca` crate, driven with care and without I/O.
//!
//! | file | purpose |
//! | --- | --- |
//! | `protocol.rs` | [`Swim`]: time and packets in, packets, messages, events and deadlines out |
//! | `duties.rs` | what a node does unasked: beats, questions, accusations, attempts to reach the lost |
//! | `receive.rs` | what comes in: packets and states of peers, news about our own name |
//! | `roster.rs` | members and attributes as a view, and what changed |
//! | `runtime.rs` | how foca is configured, and what it puts out |
//! | `screen.rs` | looks through a packet before foca sees it: whole or refused, and news about our own name |
//! | `suspicion.rs` | who is suspected since when, asked again until the last moment |
//! | `watch.rs` | each node tells two others that it lives, so that detection has a bound |
//! | `isolation.rs` | a node that hears nobody takes over nothing for a while |
//! | `known.rs` | what foca was last told of each name: most of what comes is no news |
//! | `by_name.rs` | one thing for each name, in few bytes |
//! | `attributes.rs` | what the members say of themselves, spread as numbered broadcasts |
//! | `sync.rs` | the full state as a stream message |
//! | `warm.rs` | a start in the middle, for simulations |

mod attributes;
mod by_name;
mod duties;
mod isolation;
mod known;
mod protocol;
mod receive;
mod roster;
mod runtime;
mod screen;
mod suspicion;
mod sync;
#[cfg(feature = "testing")]
mod warm;
mod watch;

pub(crate) use protocol::check_metadata;
pub use protocol::{Swim, SwimConfig, SwimStats};
#[cfg(feature = "testing")]
pub(crate) use warm::Everybody;
