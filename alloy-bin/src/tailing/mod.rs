//! Following log files: from bytes that appear in files to batches in a log's custody, each line once.
//!
//! | file | what |
//! | --- | --- |
//! | `identity.rs` | what makes a file the same file: device, inode, and a hash of its first bytes |
//! | `position.rs` | how far a file is delivered: the state that is saved and that moves with ownership |
//! | `text.rs` | from bytes to lines, in each encoding |
//! | `follower.rs` | the core without I/O: told sizes and bytes, answers which range to read and gives out lines |
//! | `disk.rs` | the thin edge: stat, open, read, rotated siblings |
//! | `packed.rs` | compressed files, read from front to back |
//! | `content.rs` | the bytes of either; the files that a position may be in |
//! | `ledger.rs` | who reads which file, so that a rotated one is not read again under its new name |
//! | `put_off.rs` | lines that wait in the file for those that follow |
//! | `tail.rs` | one path over all its rotations: the follower on the disk |
//! | `watches.rs` | the kernel says when an idle file changes |
//! | `pool.rs` | many tails: looks when they are due, a bounded number of readers |
//! | `reader.rs` | one file's turn: read, deliver, wait while there is no room |
//! | `bookmarks.rs` | the positions of one component, saved atomically: what counts after a power loss |
//! | `journal.rs` | the positions since then: what counts after the death of the process alone |
//! | `recovery.rs` | both as the last life left them |
//! | `paths.rs` | globs to paths, walking only below the longest literal prefix |
//! | `globs.rs` | targets that are globs, and the files that match |
//! | `legacy.rs` | positions of other programs |
//! | `metrics.rs` | counters that the component exports |
//!
//! A block of the file is read into one buffer; its lines are slices of that buffer, and one block is one batch:
//!
//! ```text
//!  file   ├─ delivered ─┼──────── batch [from, to) ────────┼ partial line ┤
//!                    offset                            intent.to         size
//! ```
//!
//! Nothing of a file is kept in memory between reads: a partial line is read again when the file has grown.
//! Invariant: a position moves only after the batch is in custody, and is saved only once the batch is durable. It is in
//! the journal before the next batch is offered.

mod bookmarks;
mod content;
mod disk;
mod follower;
mod globs;
mod identity;
mod journal;
mod ledger;
mod legacy;
mod metrics;
mod packed;
mod paths;
mod pool;
mod position;
mod put_off;
mod reader;
mod recovery;
mod tail;
mod text;
mod watches;

pub use bookmarks::{Bookmark, Bookmarks, LoadError};
pub use follower::{Chunk, Ending, Follower, Growth, Limits};
pub use globs::{Glob, find, find_changed};
pub use identity::{Fingerprint, Identity};
pub use journal::{Boot, Journal, Noted};
pub use legacy::{LegacyPositions, legacy_entries, legacy_positions};
pub use metrics::{FileMetrics, Metrics};
pub use packed::Format;
pub use paths::{Pattern, PatternError};
pub use pool::{Event, Pool, PoolOptions, Source};
pub use position::{Intent, Position};
pub use put_off::Ask;
pub use recovery::Recovery;
pub use tail::{Begin, Reading, Step, Tail};
pub use text::Encoding;
