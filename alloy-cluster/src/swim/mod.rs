//! Membership by SWIM: the `foca` crate, driven with care and without I/O.
//!
//! | file | purpose |
//! | --- | --- |
//! | `protocol.rs` | [`Swim`]: time and packets in, packets, messages, events and deadlines out |
//! | `screen.rs` | looks through a packet before foca sees it: whole or refused, and news about our own name |
//! | `suspicion.rs` | who is suspected since when, asked again until the last moment |
//! | `attributes.rs` | phase, weight, zone and metadata of the members, spread as versioned broadcasts |
//! | `sync.rs` | the full state as a stream message |

mod attributes;
mod protocol;
mod screen;
mod suspicion;
mod sync;

pub use protocol::{Swim, SwimConfig, SwimStats};
