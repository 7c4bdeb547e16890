//! Components of the namespace `prometheus`.

pub mod echo;
pub mod exporter_self;
pub mod relabel;
pub mod remote_write;
pub mod scrape;
