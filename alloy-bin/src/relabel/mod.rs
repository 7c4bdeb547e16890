//! Relabelling, exactly as Prometheus does it.
//!
//! | file | what |
//! | --- | --- |
//! | `rules.rs` | a `rule` block: its arguments, what may not be said together, and what it does |
//! | `label_set.rs` | labels while rules work on them |
//! | `pattern.rs` | a regular expression in Go's syntax, anchored at both ends |
//! | `template.rs` | `$1` and `${name}`, as Go expands them |
//! | `series_cache.rs` | what became of each series, so that rules see it once |
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config>. Invariant: knows no
//! component and no runtime.

mod label_set;
mod pattern;
mod rules;
mod series_cache;
mod template;

pub use label_set::LabelSet;
pub use pattern::go_regex;
pub use rules::Rules;
pub use series_cache::{CacheLimit, Relabeler};

#[cfg(test)]
mod tests;
