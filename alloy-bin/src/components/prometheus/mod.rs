//! Components of the namespace `prometheus`.
//!
//! | file | what |
//! | --- | --- |
//! | `scraper.rs` | scrapes a component's share of targets, each in its own way |
//! | `operator/` | what reads monitors of the Prometheus operator |
//! | `exporter.rs` | a page of the agent's own, as targets |

pub mod echo;
pub mod exporter_self;
#[cfg(feature = "unix")]
pub mod exporter_unix;
#[cfg(feature = "kubernetes")]
pub mod operator_podmonitors;
#[cfg(feature = "kubernetes")]
pub mod operator_servicemonitors;
pub mod relabel;
pub mod remote_write;
pub mod scrape;

mod exporter;
#[cfg(feature = "kubernetes")]
mod operator;
mod scraper;
