//! Components of the namespace `prometheus`.

pub mod remote_write;
pub mod scrape;
