//! Components of the namespace `discovery`.
//!
//! | file | what |
//! | --- | --- |
//! | `refreshed.rs` | the frame of all that look again and again: keeps the last good, exports changes only |
//! | `groups.rs` | lists of target groups in JSON and YAML |

pub mod dns;
pub mod file;
pub mod http;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod relabel;

mod groups;
mod refreshed;

pub use refreshed::Refreshed;
