//! The disk as the log sees it: a directory of files that are written at offsets, synced, renamed and removed.
//!
//! - `file.rs`: a directory of the operating system
//! - `mmap.rs`: windows of files mapped for reading; the crate's only unsafe code

pub(crate) mod file;
#[cfg(feature = "mmap")]
mod mmap;

use std::io;
use std::ops::Range;

use bytes::Bytes;

/// A flat directory that belongs to one log.
///
/// # Contract
/// 1. What a file's [`sync`](SegmentFile::sync) returned `Ok` for survives power loss under the names that the last
///    [`sync_directory`](Storage::sync_directory) made durable. Nothing else does for certain.
/// 2. What was written is seen by later reads of this process, and by later processes while the machine is up.
/// 3. `rename` replaces the target and is seen either as a whole or not at all.
pub trait Storage: Send + Sync + 'static {
    /// Where it is, for messages.
    fn location(&self) -> String;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates a file of `bytes` bytes and takes the space for it, so that writes inside of it do not fail for want of space
    /// where the file system can promise that. An existing file of that name is replaced.
    fn create(&self, name: &str, bytes: u64, fill: Fill) -> io::Result<Box<dyn SegmentFile>>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentFile>>;

    /// Gives a file another name. The open file stays valid.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. The open file, and windows into it, stay valid.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names as they are now durable.
    fn sync_directory(&self) -> io::Result<()>;

    /// A number that is never given twice: it salts the checksums of a segment.
    fn salt(&self) -> u64;
}

/// How a new file takes its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// As fast as possible; the first write to each block may cost more later.
    Reserve,
    /// By writing zeros, so that later writes need no change to the file system's own data.
    Zeros,
}

/// An open file of a [`Storage`]. Several threads use it at once.
pub trait SegmentFile: Send + Sync {
    /// Its length in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. After an error any part of them may be there.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written so far, and the length, durable. After an error the log never calls it again: the
    /// operating system may have forgotten what it could not write, and say `Ok` the next time.
    fn sync(&self) -> io::Result<()>;

    /// Shortens the file. Called only while no window is alive.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// The bytes of `range` without a copy, if the storage can and the file is that long. They never change: the log
    /// asks only for bytes that it will not write again while the window lives.
    fn window(&self, range: Range<u64>) -> Option<Bytes> {
        let _ = range;
        None
    }

    /// True if a window of this file is alive, so that the file must not be used again.
    fn has_windows(&self) -> bool {
        false
    }
}
