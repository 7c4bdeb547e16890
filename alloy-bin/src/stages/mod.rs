//! Pipelines of `loki.process`: what becomes of a batch of lines, as Promtail's and Alloy's stages have it.
//!
//! | file | what |
//! | --- | --- |
//! | `pipeline.rs`, `run.rs` | stages in their order, and a batch's way through them |
//! | `line.rs` | a line on its way: text, time, labels, and what stages have extracted |
//! | `label_sets.rs` | label sets made once for all lines of a batch that have them |
//! | `cri.rs`, `docker.rs` | the formats of container runtimes, without a copy of the text |
//! | `json.rs`, `logfmt.rs`, `regex.rs` | text -> extracted values |
//! | `timestamp.rs`, `go_layout.rs` | extracted text -> the line's time |
//! | `labels.rs` | extracted values -> labels, metadata, tenant |
//! | `replace.rs`, `template.rs` | extracted values -> text |
//! | `selector.rs` | LogQL stream selectors and line filters |
//! | `drop.rs`, `limit.rs` | which lines go no further |
//! | `join.rs` | several lines -> one |
//!
//! A pipeline is a function of the batch: what it makes depends on nothing that an earlier batch had, so a batch that is
//! repeated after a crash comes out the same. Only `limit` remembers. Lines that are joined are joined within one batch; a
//! source is told which lines to offer again with those that follow (docs/decisions/0010).
//!
//! Invariant: knows no runtime, no file, no clock: the batch says when it was taken.

mod cri;
mod docker;
mod drop;
mod go_layout;
mod join;
mod json;
mod label_sets;
mod labels;
mod limit;
mod line;
mod logfmt;
mod pipeline;
mod regex;
mod replace;
mod run;
mod selector;
mod template;
mod timestamp;

pub use cri::Cri;
pub use drop::Drop;
pub use go_layout::TimeFormat;
pub use join::Multiline;
pub use json::Json;
pub use labels::{LabelSource, Mapping};
pub use limit::Limit;
pub use logfmt::Logfmt;
pub use pipeline::{Match, Outcome, Pipeline, Stage, Tenant};
pub use regex::Regex;
pub use replace::Replace;
pub use selector::Selector;
pub use timestamp::{OnFailure, Timestamp};

#[cfg(test)]
mod tests;
