//! Objects -> targets, as Prometheus' discovery makes them.
//!
//! | file | what |
//! | --- | --- |
//! | `wanted.rs` | which targets |
//! | `sources.rs` | the objects that they are made of: which are watched, and how they are found |
//! | `roles.rs` | pods, nodes, services and ingresses -> targets |
//! | `endpoints.rs` | endpoints and slices of them -> targets |
//! | `objects.rs` | the objects, with the fields that labels are made of |
//! | `labels.rs` | making the labels of a target |

mod endpoints;
mod labels;
mod objects;
mod roles;
mod sources;
mod wanted;

pub use labels::sanitized;
pub use sources::{Sources, Stores};
pub use wanted::{Attach, Namespaces, Role, Selector, Wanted};
