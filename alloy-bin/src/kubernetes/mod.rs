//! Reading a Kubernetes API: one list and watch for all components that look at the same objects.
//!
//! | file | what |
//! | --- | --- |
//! | `access.rs` | where the API server is and who we are there: in the cluster, by a kubeconfig file, as configured |
//! | `kubeconfig.rs` | a kubeconfig file -> options of an HTTP client |
//! | `api.rs` | requests; the connections and stores that components share |
//! | `object.rs` | what all objects have; how one is named in URLs |
//! | `watcher.rs` | list and watch as one sequence of changes that never ends |
//! | `store.rs` | the objects of one selection, kept by a watcher |
//! | `targets/` | objects -> targets, as Prometheus' discovery makes them |
//!
//! Objects are read into structs with the few fields that somebody needs. What else changes in them is no change.

mod access;
mod api;
mod kubeconfig;
mod object;
mod store;
mod targets;
mod watcher;

pub use access::Access;
pub use api::{Api, Lines, Problem};
pub use object::{Meta, Object, Selection, null_is_empty};
pub use store::{Store, Tally};
pub use targets::{Attach, Namespaces, Role, Selector, Sources, Stores, Wanted, sanitized};
pub use watcher::{Backoff, Change, Watcher};

#[cfg(test)]
mod tests;
