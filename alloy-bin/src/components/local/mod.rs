//! Components of the namespace `local`.

pub mod file_match;
