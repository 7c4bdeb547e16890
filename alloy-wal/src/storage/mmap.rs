//! Windows of a file mapped for reading, handed out as [`Bytes`]. The only unsafe code of the crate.
//!
//! Invariant: nothing is ever stored through a mapping.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// Counts the windows of one file that are alive.
#[derive(Default)]
pub(super) struct Windows {
    token: Arc<()>,
}

/// A mapped window; dropping the last `Bytes` over it unmaps it.
struct Window {
    map: Mmap,
    _token: Arc<()>,
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Windows {
    /// Maps `range`, with its pages read and held in memory. `None` if that is not possible (the file is shorter, the
    /// device cannot read it, there is no memory to lock): read a copy then, which says why.
    pub(super) fn map(&self, file: &File, range: Range<u64>) -> Option<Bytes> {
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        if length == 0 || file.metadata().ok()?.len() < range.end {
            return None;
        }
        // SAFETY: the bytes behind a `&[u8]` must not change or vanish while it lives. The log asks for windows of sealed
        // segments only and never writes to, shortens or recycles such a file while `alive` says that a window
        // exists; the directory lock keeps other logs away. The pages are read in and locked before anyone looks at
        // them, so a failing device is an error here. What could still go wrong: a foreign process that ignores
        // the lock and overwrites the file (wrong bytes, noticed by no checksum once the record was handed out) or shortens it
        // (SIGBUS). `Options::map = false` is for those who must exclude it.
        let map = unsafe { MmapOptions::new().offset(range.start).len(length).map(file).ok()? };
        #[cfg(target_os = "linux")]
        map.advise(memmap2::Advice::PopulateRead).ok()?;
        map.lock().ok()?;
        Some(Bytes::from_owner(Window { map, _token: self.token.clone() }))
    }

    /// True if a window is alive.
    pub(super) fn alive(&self) -> bool {
        Arc::strong_count(&self.token) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_shows_the_file_and_counts_as_alive_until_its_last_slice_is_dropped() {
        let file = tempfile::tempfile().expect("a temporary file");
        std::io::Write::write_all(&mut &file, &[7; 10_000]).expect("writable");
        let windows = Windows::default();
        // Without the right to lock memory there is no window, and reads copy.
        let Some(window) = windows.map(&file, 4100..9000) else { return };
        assert_eq!(window, [7; 4900][..]);
        let slice = window.slice(10..20);
        drop(window);
        assert!(windows.alive());
        drop(slice);
        assert!(!windows.alive());
    }

    #[test]
    fn there_is_no_window_beyond_the_end_of_the_file() {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(100).expect("writable");
        assert!(Windows::default().map(&file, 0..101).is_none());
        assert!(Windows::default().map(&file, 50..50).is_none());
    }
}
