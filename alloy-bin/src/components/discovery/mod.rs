//! Components of the namespace `discovery`.

pub mod file;
pub mod relabel;
