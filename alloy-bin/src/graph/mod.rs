//! Configuration -> running components.
//!
//! | file | what |
//! | --- | --- |
//! | `component.rs` | the trait `Component` and its `Context` |
//! | `consumer.rs` | the trait `Consumer`: how a batch passes from one component to the next |
//! | `values.rs` | targets and receivers as configurations pass them on |

mod component;
mod consumer;
mod values;

pub use component::{Component, Context, Exports, Health};
pub use consumer::{ConsumeError, Consumer, Fanout, LogsReceiver, MetricsReceiver};
