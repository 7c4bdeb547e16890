//! The agent's own HTTP server, and what components that listen share with it.
//!
//! | file | what |
//! | --- | --- |
//! | `listener.rs` | accepts connections, and passes on those that are not HTTP |
//! | `routes.rs` | `/-/ready`, `/-/healthy`, `/-/reload`, `/metrics` |
//! | `cluster.rs` | `/api/v0/cluster/...`: who is there, who owns what and why |
//! | `components.rs` | `/api/v0/web/components`: what runs, how it is, what it was given |
//! | `process.rs` | `process_*`: what the agent takes of its machine |
//! | `events.rs` | `/api/v0/events`: says when there is something new to see |
//! | `support.rs`, `zip.rs` | `/-/support`: what a maintainer asks for first, in one archive |
//! | `tail.rs` | `/api/v0/web/debug/ID`: what comes into a component |
//! | `ui/` | the pages for people |
//! | `settings.rs` | the `http` block |
//! | `front.rs` | TLS and passwords between the port and the routes |
//! | `tls.rs` | from the block to rustls, and again when a file has changed |

mod cluster;
mod components;
mod events;
mod front;
mod listener;
mod process;
mod routes;
mod settings;
mod support;
mod tail;
mod tls;
#[cfg(feature = "ui")]
mod ui;
mod zip;

pub use components::{Component, Components, Details};
pub use front::{Front, Protection};
pub use listener::{Divert, Limits, Listener, UNREAD, gives_up};
pub use process::ProcessFigures;
pub use routes::{Reload, State, router};
pub use settings::{HttpBlock, TlsBlock};
pub use support::Support;
pub use tail::{Item, LiveDebugging, TEXT_MAX, Tail, Watcher};
pub use tls::Tls;
#[cfg(feature = "ui")]
pub use ui::LagHistory;

#[cfg(test)]
mod tests;
