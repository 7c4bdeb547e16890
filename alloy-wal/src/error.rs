//! What can go wrong with a log, what state it is in then, and what to do.

use std::io;
use std::sync::Arc;

use crate::Position;

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on the log failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call to the storage failed. Nothing that was promised is taken back: what was staged is still staged,
    /// what was written is still written. Repeat the call later; [`Error::is_full`] says whether space is the reason.
    #[error("cannot {operation} {name:?}: {source}")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or directory it was tried on.
        name: String,
        /// What the storage said.
        source: io::Error,
    },
    /// Another process, or another log in this one, has the directory open. Nothing was touched.
    /// Stop the other one, or give this log a directory of its own.
    #[error("the log directory {directory:?} is in use by another process")]
    Locked {
        /// The directory.
        directory: String,
    },
    /// A file was written by a newer version of this crate. Nothing was touched. Run the newer version, or
    /// empty the directory if its records may be lost.
    #[error("{name:?} has format version {found}, this program reads up to version {supported}")]
    NewerVersion {
        /// The file.
        name: String,
        /// Its version.
        found: u32,
        /// The newest version this program knows.
        supported: u32,
    },
    /// A file with the name of one of the log's belongs to another log. Nothing was touched. Move it away.
    #[error("{name:?} belongs to another log (its id is {found:016x}, this log's is {expected:016x})")]
    Foreign {
        /// The file.
        name: String,
        /// The id in the file.
        found: u64,
        /// The log's id.
        expected: u64,
    },
    /// The options contradict each other. Nothing was touched.
    #[error("invalid options: {reason}")]
    InvalidOptions {
        /// Which ones, and what they must satisfy.
        reason: String,
    },
    /// A limit refused the batch without a trace. Release records (acknowledge, then
    /// [`release`](crate::Wal::release)) or [`write`](crate::Wal::write), then append again.
    #[error("the log is full: {limit} of {bytes} bytes is reached")]
    Full {
        /// Which limit.
        limit: Limit,
        /// The limit in bytes.
        bytes: u64,
    },
    /// The record or batch can never be accepted. Nothing was staged. Split it.
    #[error("{bytes} bytes are too large: at most {limit} fit")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// No consumer has this handle, or it was removed.
    #[error("unknown consumer")]
    UnknownConsumer,
    /// A consumer cannot be created under this name: it is empty, longer than 255 bytes, or there are too many.
    #[error("cannot create a consumer named {name:?}: {reason}")]
    Consumer {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The acknowledgement is too far ahead of the oldest record that is not acknowledged. Nothing was
    /// acknowledged. Acknowledge the older records first.
    #[error("position {position} is outside of the acknowledgement window, which ends at {end}")]
    Window {
        /// The last position acknowledged.
        position: Position,
        /// Where the window ends, exclusively.
        end: Position,
    },
    /// The acknowledgement covers records that are not written yet, so nobody can have read them.
    #[error("position {position} is not written yet: the log ends at {written}")]
    NotWritten {
        /// The last position acknowledged.
        position: Position,
        /// The written watermark.
        written: Position,
    },
    /// An earlier failure of the storage could not be survived. The log takes and promises nothing any more; written
    /// records can still be read. Open it again when the device works.
    #[error("the log has failed and must be opened again")]
    Failed(#[source] Arc<Error>),
}

/// The limit that a batch ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`Options::max_bytes`](crate::Options::max_bytes).
    Disk,
    /// [`Options::max_staged_bytes`](crate::Options::max_staged_bytes).
    Staging,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Limit::Disk => "the disk limit",
            Limit::Staging => "the staging limit",
        })
    }
}

impl Error {
    pub(crate) fn io(operation: &'static str, name: impl Into<String>, source: io::Error) -> Error {
        Error::Io { operation, name: name.into(), source }
    }

    /// True if space is the reason: a limit of the log's, or the disk or a quota is full. The log is as it was before
    /// the call, and the call may succeed once there is space.
    pub fn is_full(&self) -> bool {
        match self {
            Error::Full { .. } => true,
            Error::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// True if the log has failed for good and must be opened again.
    pub fn is_failed(&self) -> bool {
        matches!(self, Error::Failed(_))
    }

    /// True if the cause lies outside of the files and passes: no space, no file handles, no memory.
    pub(crate) fn is_passing(&self) -> bool {
        const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();
        const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
        match self {
            Error::Io { source, .. } => {
                self.is_full()
                    || source.kind() == io::ErrorKind::OutOfMemory
                    || matches!(source.raw_os_error(), Some(ENFILE | EMFILE))
            }
            _ => false,
        }
    }
}
