//! What can go wrong with a log, what state it is in then, and what to do.

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on the log failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Placeholder until the log's own errors are in.
    #[error("the log is closed")]
    Closed,
}
