//! Components of the namespace `prometheus`.

pub mod relabel;
pub mod remote_write;
pub mod scrape;
