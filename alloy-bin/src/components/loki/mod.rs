//! Components of the namespace `loki`. `saved.rs` keeps how far some of them have read, `reach.rs` finds the API of those that read one.

pub mod echo;
pub mod process;
pub mod relabel;
pub mod source_api;
pub mod source_file;
pub mod source_journal;
#[cfg(feature = "kubernetes")]
pub mod source_kubernetes;
#[cfg(feature = "kubernetes")]
pub mod source_kubernetes_events;
pub mod write;

#[cfg(feature = "kubernetes")]
mod reach;
#[cfg(feature = "kubernetes")]
mod saved;
