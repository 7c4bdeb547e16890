//! What a log may cost: sizes, limits, and what happens at them.

use crate::cursors::CURSOR_FILES_BYTES;
use crate::segment::HEADER_BLOCK;
use crate::staging::MARK_BYTES;
use crate::{Error, Result};

/// How large a log may grow, and in what pieces. A plain struct: name what differs from [`Options::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a segment file, a multiple of 4,096 from 16 KiB to 2 GiB. Default 64 MiB. Space is freed segment by segment,
    /// and a batch must fit into one.
    pub segment_bytes: u64,
    /// Bytes on disk, spare segments and cursors included: at least `spares + 3` segments and 48 KiB. Default 2 GiB.
    pub max_bytes: u64,
    /// Milliseconds after which records may be dropped, acknowledged or not, at the next
    /// [`release`](crate::Wal::release). Works on whole segments. Default: never.
    pub max_age_ms: Option<u64>,
    /// What `append` does at `max_bytes`. Default [`Policy::Refuse`].
    pub policy: Policy,
    /// Bytes of one record's payload. Default 16 MiB; a segment's size limits it too.
    pub max_record_bytes: usize,
    /// Bytes in memory that are appended but not written; `append` refuses more. Default 32 MiB.
    pub max_staged_bytes: usize,
    /// Bytes written but not synced, at most a segment: beyond it `write` syncs too. They are kept in memory, to be written elsewhere if a sync
    /// fails. Default 16 MiB.
    pub max_unsynced_bytes: usize,
    /// Bytes of written records kept in memory so that a reader that keeps up never touches the disk. Default 2 MiB: that much stays in
    /// the processor's caches while it is used again and again. With 8 MiB syncing each mebibyte is 5 % slower, and reading what is
    /// no longer in memory costs a copy out of the page cache.
    pub cache_bytes: usize,
    /// How many positions a consumer may acknowledge ahead of its oldest unacknowledged record. Default 65,536.
    pub window: u64,
    /// Consumers. Default 64.
    pub max_consumers: usize,
    /// Segments prepared ahead of need by [`prepare`](crate::Wal::prepare). Default 1.
    pub spares: usize,
    /// Read sealed segments through a mapping where the storage can, else by copying. Default false: a copy through a window that
    /// is used again reaches 0.6 of reading and checking alone, a mapping 0.4, since its pages must be populated and locked so
    /// that a device that cannot read is an error and not a signal. A mapping is for those who hold many records for
    /// long, and have little memory but for the page cache. It trusts that nobody else shortens a segment file meanwhile.
    pub map: bool,
}

/// What `append` does when the log has reached [`Options::max_bytes`].
///
/// To wait instead, use `Refuse` and call [`append_blocking`](crate::Wal::append_blocking), or in async code on an error that
/// [`is_full`](crate::Error::is_full) wait until [`poll_watermarks`](crate::Wal::poll_watermarks) shows a larger `released`, then
/// append again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Refuses the batch with [`Error::Full`]. Nothing is lost.
    Refuse,
    /// Drops the oldest segment; its unacknowledged records are counted for each consumer.
    DropOldest,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            max_bytes: 2 << 30,
            max_age_ms: None,
            policy: Policy::Refuse,
            max_record_bytes: 16 << 20,
            max_staged_bytes: 32 << 20,
            max_unsynced_bytes: 16 << 20,
            cache_bytes: 2 << 20,
            window: 65_536,
            max_consumers: 64,
            spares: 1,
            map: false,
        }
    }
}

impl Options {
    /// Bytes of frames that a segment holds: all but its header block and the mark that opens a write.
    pub(crate) fn segment_room(&self) -> u64 {
        self.segment_bytes - HEADER_BLOCK - MARK_BYTES as u64
    }

    /// Bytes written but not synced: at most a segment, so that dropping the oldest segments never waits for a sync.
    pub(crate) fn unsynced_bytes_max(&self) -> u64 {
        (self.max_unsynced_bytes as u64).min(self.segment_bytes)
    }

    /// Bytes that segments may take: what the spares and the cursors leave.
    pub(crate) fn segments_budget(&self, max_bytes: u64, cursor_bytes: u64) -> u64 {
        (max_bytes - self.spares as u64 * self.segment_bytes)
            .saturating_sub(cursor_bytes.max(CURSOR_FILES_BYTES))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |reason: String| Err(Error::InvalidOptions { reason });
        if !self.segment_bytes.is_multiple_of(HEADER_BLOCK)
            || !(16 << 10..=2 << 30).contains(&self.segment_bytes)
        {
            return invalid(format!(
                "segment_bytes is {}, must be a multiple of 4096 from 16384 to {}",
                self.segment_bytes,
                2u64 << 30
            ));
        }
        let segments = (self.spares as u64).saturating_add(3).saturating_mul(self.segment_bytes);
        let least = segments.saturating_add(CURSOR_FILES_BYTES);
        if self.max_bytes < least {
            return invalid(format!(
                "max_bytes is {}, must be at least {least}: three segments, the spares, and the cursors",
                self.max_bytes
            ));
        }
        if self.window == 0 || !(1..=65_536).contains(&self.max_consumers) {
            return invalid("window must be at least 1, max_consumers from 1 to 65536".into());
        }
        Ok(())
    }
}
