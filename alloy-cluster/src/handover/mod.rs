//! State that moves with ownership: claim, release, replicate. No I/O.
//!
//! | file | purpose |
//! | --- | --- |
//! | `types.rs` | options, events, origins, versions, status |
//! | `machine.rs` | [`Handover`]: what the caller puts in and takes out |
//! | `affected.rs` | which keys a new view concerns |
//! | `claims.rs` | how a key changes hands: who is asked, who answers what, when to start without an answer |
//! | `loans.rs` | keys that their owner cannot work on though another member can |
//! | `replicas.rs` | copies of the state on the successor |
//! | `outbox.rs` | what waits for each peer, gathered into bulk messages |
//! | `wire.rs` | messages to bytes and back |
//!
//! A key's life on one node:
//! ```text
//!          owner here                all asked have answered, or their time is over
//!   idle ------------->  claiming  ------------------------------------------------>  acting
//!    ^                     | owner elsewhere                                            |  claimed by the new owner,
//!    +<--------------------+                                                            |  or not wanted any more
//!    ^                                     handle_stopped                               v
//!    +<-----------------------------------------------------------------------------  stopping
//! ```
//! A key may be idle here because another node acts on it: every node holds the same table and looks at it with
//! its own view.

mod affected;
mod claims;
mod loans;
mod machine;
mod outbox;
mod replicas;
mod types;
mod wire;

pub use machine::Handover;
pub use types::{
    Activity, Event, HandoverOptions, HandoverStats, KeyStatus, Origin, STATE_BYTES_MAX, Trust, Version,
};
