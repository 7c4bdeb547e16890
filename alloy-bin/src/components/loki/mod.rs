//! Components of the namespace `loki`.

pub mod source_file;
pub mod source_journal;
pub mod write;
