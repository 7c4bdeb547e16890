//! The agent's own HTTP server.
//!
//! | file | what |
//! | --- | --- |
//! | `listener.rs` | accepts connections, and passes on those that are not HTTP |
//! | `routes.rs` | `/-/ready`, `/-/healthy`, `/-/reload`, `/metrics`, `/api/v0/...` |

mod listener;
mod routes;

pub use listener::{Divert, Listener};
pub use routes::{Health, Reload, State, router};
