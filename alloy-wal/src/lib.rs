//! A segmented write-ahead log with durable consumers: accept, survive, deliver.
//!
#![doc = include_str!("../README.md")]
//!
//! # What survives what
//!
//! | what happens | staged | written | durable | noted cursors | saved cursors |
//! | --- | --- | --- | --- | --- | --- |
//! | the process dies | lost | there | there | there | there |
//! | power fails, the system crashes | lost | a part, whole batches | there | there, older, or lost | there |
//! | a write or sync fails | there | there, rewritten elsewhere | there | there | there |
//! | the disk is full | there, written later | there | there | there | there |
//! | bytes of a file change | there | that record becomes a gap | that record becomes a gap | the older copy | the older copy |
//! | `CURSORS` is lost | there | there | there | lost | lost: delivered again from the oldest on |
//!
//! Out of scope: somebody else writing to the files of an open log, and two logs on one directory across machines.
//!
//! # Durability levels
//!
//! The log has no clock and starts no thread, so a level is who calls what. Nothing else changes: a record is called durable when
//! its sync returned, and never before.
//!
//! | level | after `append` | who syncs | at risk in a power loss |
//! | --- | --- | --- | --- |
//! | `None`: the system decides | [`write`](Wal::write) | `write` itself, when more is unsynced than [`Options::max_unsynced_bytes`], since what is unsynced is kept in memory | that many bytes, at the most a segment |
//! | `Interval` | `write` | a timer of the caller's calls [`sync`](Wal::sync) | what came since |
//! | `Commit` | `sync`, or wait until [`poll_watermarks`](Wal::poll_watermarks) shows `durable` at the end of the batch | whoever comes first, for all | nothing that was acknowledged |
//!
//! # When the log is full
//!
//! [`Policy::Refuse`] and [`Policy::DropOldest`] are decided by the log. To block, a thread calls
//! [`append_blocking`](Wal::append_blocking). Async code does what that does: on an error that [`is_full`](Error::is_full), wait until
//! `poll_watermarks` differs from what it was before the call, and append again (`examples/durable_queue_tokio.rs`).
//!
//! # Memory
//!
//! Independent of how long the log is but for 24 bytes for each 64 KiB that were read or written since it was opened (0.04 %
//! of them, so at most 0.8 MiB of a log of 2 GiB):
//! - staged records: [`Options::max_staged_bytes`];
//! - written ones, and memory kept for new ones: [`Options::max_unsynced_bytes`] + [`Options::cache_bytes`], and 24 bytes for each
//!   record in both;
//! - readers behind the cache: 3 MiB each for the last eight, and what the caller holds of the records he was given;
//! - consumers: 16 bytes for each range acknowledged out of order, at most `window` / 2 ranges each.
//!
//! # Files that change below a running log
//!
//! A segment that somebody deletes stays readable: the log holds it open. One that somebody shortens or overwrites becomes a
//! [`Gap`], since reads copy and check. Only with [`Options::map`] can a file that is shortened while it is being read
//! end the process with SIGBUS, which is why it is off unless asked for.
//!
//! # The files
//!
//! ```text
//! LOCK                       held while the log is open
//! CURSORS                    two slots: where every consumer stands, where the durable log ends
//! NOTES                      the same, newer and never synced: for the next process, if the system lives
//! 00000000000000000007.wal   a segment; the name is its number
//! spare-3                    a prepared segment without records
//!
//! a segment:   | header block | frame | frame | ...                     | unused |
//!              0           4096
//! a frame:     | crc32 | length, kind | ordinal | stamp | payload, padded to 8 |
//!              0       4              8         12      16
//!
//! a torn tail: | frame | frame | fra.... | 000000    a write that power loss cut off
//!                              ^ the log ends here: the file is shortened, the next write opens a new segment
//! rot:         | frame | fr#me | frame   | 000000    bytes that changed later
//!                      ^ a gap of one position: whole frames follow, or a mark or CURSORS says that it was durable
//! ```
//!
//! A batch lies in one segment; its frames say which is the first and which the last. A *mark* opens every write and says
//! what was durable then, so that a record that was acknowledged and rotted is told from a write that was torn.
//!
//! # The crate
//!
//! | file | purpose |
//! | --- | --- |
//! | `wal.rs` | the trait and its words |
//! | `log.rs`, `commit.rs`, `rewrite.rs`, `read.rs`, `housekeeping.rs` | the log on disk: state, group commit, failures, reading, freeing |
//! | `staging.rs`, `pool.rs` | records not yet on disk, and the recent ones; their memory |
//! | `segment.rs`, `frame.rs`, `reader.rs` | the format, and walking over it |
//! | `recovery.rs` | from a directory to a log |
//! | `consumer.rs`, `cursors.rs` | consumers, and their file |
//! | `retention.rs` | limits |
//! | `options.rs`, `error.rs`, `wakers.rs`, `sync.rs` | what their names say |
//! | `inspection.rs` | a log looked at from outside, live or dead, without changing it |
//! | `memory.rs` | the trait without a disk |
//! | `storage.rs`, `storage/` | the disk as the log sees it |
//! | `faulty_storage.rs`, `conformance.rs` | feature `testing`: a disk that fails by seed, and the tests of the contract |
#![cfg_attr(not(feature = "mmap"), forbid(unsafe_code))]
#![cfg_attr(feature = "mmap", deny(unsafe_code))]

mod error;
mod options;
mod wal;

mod commit;
mod housekeeping;
mod log;
mod read;
mod rewrite;

mod frame;
mod pool;
mod reader;
mod recovery;
mod segment;
mod staging;

mod consumer;
mod cursors;
mod retention;
mod sync;
mod wakers;

mod inspection;
mod memory;
mod storage;

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
mod faulty_storage;

pub use error::{Error, Limit, Result};
#[cfg(feature = "testing")]
pub use faulty_storage::{Crash, FaultyStorage, Operation};
pub use inspection::{ConsumerEntry, CursorsState, Inspection, SegmentEntry, SegmentReport, SegmentState};
pub use log::Log;
pub use memory::MemoryLog;
pub use options::{Options, Policy};
pub use recovery::Recovery;
pub use storage::file::FileStorage;
pub use storage::{Fill, SegmentFile, Storage};
pub use wal::{
    Consumer, ConsumerId, Cursor, Gap, GapReason, Item, Position, Read, Record, Start, Stats, Wal, Watermarks,
};

/// What the guide shows is run like the examples here.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guides/embed-alloy-wal.md")]
struct Guide;
