//! Configuration -> running components.
//!
//! | file | what |
//! | --- | --- |
//! | `load.rs` | files -> texts -> statements |
//! | `check.rs` | checks a configuration without making anything |
//! | `plan.rs` | the blocks of one body, in order |
//! | `expand.rs`, `unfold.rs` | bodies -> nodes; modules and templates are unfolded where they are used |
//! | `definitions.rs`, `modules.rs`, `imports.rs`, `fetch.rs` | what modules are made of, and where they are read |
//! | `node.rs` | a node: a value that depends on others |
//! | `make.rs` | makes what a new configuration needs |
//! | `live.rs` | one component, from its making to its end |
//! | `running.rs` | the running graph, and the reload as a transaction |
//! | `stop.rs` | the order in which components stop |
//! | `watch.rs` | notices that files have changed |
//! | `status.rs` | metrics |
//! | `shown.rs` | components for people: health, arguments, who refers to whom |
//! | `component.rs` | the trait `Component`, its `Context` and `Registration` |
//! | `consumer.rs` | the trait `Consumer`: how a batch passes from one component to the next |
//! | `values.rs` | receivers as configurations pass them on |
//! | `targets.rs` | targets, the same |
//! | `changes.rs` | what has happened to components |

mod changes;
mod check;
mod component;
mod consumer;
mod definitions;
mod expand;
mod fetch;
mod imports;
mod live;
mod load;
mod make;
mod modules;
mod node;
mod plan;
mod running;
mod shown;
mod status;
mod stop;
mod targets;
mod unfold;
mod values;
mod watch;

pub use check::{Checkup, Settings, check};
pub use component::{Component, Context, Exports, Health, Registration, Removal};
pub use consumer::{ConsumeError, Consumer, Fanout, LogsReceiver, MetricsReceiver, OtelConsumer, Unfinished};
pub use make::Host;
pub use running::{Checked, Graph};
pub use targets::{MadeOf, SharedTarget, target_values};
pub use values::{ExportType, export};
pub use watch::{Hints, LOOK_EVERY, watch};

#[cfg(test)]
mod tests;
