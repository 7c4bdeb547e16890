//! What `prometheus.operator.*` have in common: monitors, read through the Kubernetes API, are what scrapes.
//!
//! | file | what |
//! | --- | --- |
//! | `arguments.rs` | what a block says |
//! | `monitor.rs` | the resources as they come, and selectors |
//! | `fields.rs` | fields of a resource, until each was asked for |
//! | `generate.rs` | an endpoint of a monitor -> a scrape configuration, as the Prometheus operator generates it |
//! | `credentials.rs` | of that: TLS and whom a scrape says it is |
//! | `secrets.rs` | Secrets and ConfigMaps that monitors name |
//! | `job.rs` | a scrape configuration -> how targets are found and scraped |
//! | `state.rs` | what is known of monitors and what they select, and the plan that comes of it |
//! | `component.rs` | watches, and tells the scraper |

mod arguments;
mod component;
mod credentials;
mod fields;
mod generate;
mod job;
mod monitor;
mod secrets;
mod state;

pub(super) use component::Operator;
pub(super) use monitor::{Kind, Monitors};

#[cfg(test)]
mod tests;
