//! Components of the namespace `prometheus`.

pub mod echo;
pub mod exporter_self;
#[cfg(feature = "unix")]
pub mod exporter_unix;
pub mod relabel;
pub mod remote_write;
pub mod scrape;

mod exporter;
