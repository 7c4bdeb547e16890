//! Components of the namespace `loki`.

pub mod source_file;
pub mod write;
