//! Components of the namespace `loki`.

pub mod echo;
pub mod process;
pub mod relabel;
pub mod source_api;
pub mod source_file;
pub mod source_journal;
pub mod write;
