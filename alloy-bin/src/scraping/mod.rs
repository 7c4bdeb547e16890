//! Scraping one target: when, how, and what its page becomes.
//!
//! | file | what |
//! | --- | --- |
//! | `slots.rs` | when: a pure function of the target's key |
//! | `slot_file.rs` | the last slot of each target, for a restart |
//! | `fetch.rs` | one GET with limits |
//! | `in_flight.rs` | memory for pages that are on their way |
//! | `inflate.rs` | gzip -> page, in one go |
//! | `page.rs` | page -> samples with the target's labels |
//! | `series_rules.rs` | rules for the series of pages |
//! | `shape.rs` | the order of a series' labels, worked out once for many series |
//! | `staleness.rs` | markers for series that are gone |
//! | `target.rs` | a target's life: slot after slot |
//!
//! Invariant: knows no configuration and no cluster; `prometheus.scrape` decides which targets live here.

mod fetch;
mod in_flight;
mod inflate;
mod page;
mod series_rules;
mod shape;
mod slot_file;
mod slots;
mod staleness;
mod target;

pub use fetch::{Compression, Fetcher, Limits};
pub use page::{LabelPolicy, NamePolicy, PageError, Policy, TargetLabels, TimestampPolicy};
pub use series_rules::SeriesRules;
pub use slot_file::SlotFile;
pub use slots::{Begin, Slots};
pub use target::{
    Before, Common, Ended, ScrapeFigures, Series, Settings, Spec, SpecError, can_scrape, live, now_ms,
};
