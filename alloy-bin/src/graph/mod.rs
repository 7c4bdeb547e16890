//! Configuration -> running components.
//!
//! | file | what |
//! | --- | --- |
//! | `component.rs` | the trait `Component` and its `Context` |
//! | `consumer.rs` | the trait `Consumer`: how a batch passes from one component to the next |

mod component;
mod consumer;

pub use component::{Component, Context};
pub use consumer::{ConsumeError, Consumer, Fanout, LogsReceiver, MetricsReceiver};
