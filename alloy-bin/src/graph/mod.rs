//! Configuration -> running components.
//!
//! | file | what |
//! | --- | --- |
//! | `load.rs` | files -> statements |
//! | `plan.rs` | statements -> nodes and edges, in order |
//! | `running.rs` | makes, updates and stops the components |
//! | `component.rs` | the trait `Component`, its `Context` and `Registration` |
//! | `consumer.rs` | the trait `Consumer`: how a batch passes from one component to the next |
//! | `values.rs` | targets and receivers as configurations pass them on |
//! | `changes.rs` | whose exports have changed |

mod changes;
mod component;
mod consumer;
mod load;
mod plan;
mod running;
mod values;

pub use component::{Component, Context, Exports, Health, Registration};
pub use consumer::{ConsumeError, Consumer, Fanout, LogsReceiver, MetricsReceiver};
pub use load::{Loaded, load};
pub use running::{Checked, Graph, Host};

#[cfg(test)]
mod tests;
