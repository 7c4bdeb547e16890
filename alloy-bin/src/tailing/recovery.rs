//! What the last life of a component left behind: saved bookmarks, and the journal of what came after them.

use std::io;
use std::path::Path;

use super::{Bookmarks, Boot, Journal, LoadError};

/// What a component begins with.
#[derive(Debug)]
pub struct Recovery {
    /// How far files are delivered.
    pub bookmarks: Bookmarks,
    /// There were saved bookmarks, but they can't be read.
    pub lost: Option<LoadError>,
    /// A journal for this life. It begins with what the last one noted after its last save, so a crash at any moment
    /// finds that again. `None`: the kernel names no boot, so nobody could tell when to trust it.
    pub journal: io::Result<Option<Journal>>,
}

impl Recovery {
    /// Reads what is in the folder. Blocks.
    pub fn open(folder: &Path, boot: Option<&Boot>) -> Self {
        let (mut bookmarks, lost) = match Bookmarks::load(folder) {
            Ok(bookmarks) => (bookmarks, None),
            Err(error) => (Bookmarks::default(), Some(error)),
        };
        let journal = boot.map(|boot| {
            bookmarks.recover(Journal::load(folder, boot)?);
            Journal::create(folder, boot, bookmarks.recovered())
        });
        Recovery { bookmarks, lost, journal: journal.transpose() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::tailing::journal::path_hash;
    use crate::tailing::{Bookmark, Noted, Position};

    const KEY: u64 = 7;

    fn at(offset: u64) -> Position {
        Position { offset, last_ns: offset as i64, ..Position::default() }
    }

    /// A component that follows one file.
    struct Life {
        bookmarks: Bookmarks,
        journal: Option<Journal>,
    }

    impl Life {
        fn begin(folder: &TempDir, boot: Option<&str>) -> Self {
            let recovery = Recovery::open(folder.path(), boot.and_then(Boot::new).as_ref());
            assert!(recovery.lost.is_none(), "{:?}", recovery.lost);
            Life { bookmarks: recovery.bookmarks, journal: recovery.journal.unwrap() }
        }

        fn note(&self, offset: u64) {
            let noted = Noted { key: KEY, path_hash: path_hash("/a"), position: at(offset) };
            self.journal.as_ref().expect("the boot is known").note(noted).unwrap();
        }

        fn save(&mut self, folder: &TempDir, offset: u64) {
            self.bookmarks.set(KEY, Bookmark { path: "/a".into(), position: at(offset), followed_s: 1 });
            if let Some(snapshot) = self.bookmarks.poll_save(1) {
                snapshot.save(folder.path()).unwrap();
            }
        }

        fn offset(&self) -> Option<u64> {
            self.bookmarks.find(KEY, "/a").map(|position| position.offset)
        }
    }

    #[test]
    fn the_journal_counts_only_in_its_boot() {
        let folder = tempfile::tempdir().unwrap();
        let mut life = Life::begin(&folder, Some("one"));
        assert_eq!(life.offset(), None);
        life.note(10);
        life.save(&folder, 10);
        life.note(20);
        assert_eq!(Life::begin(&folder, None).offset(), Some(10), "the kernel names no boot");
        assert_eq!(Life::begin(&folder, Some("one")).offset(), Some(20));
        assert_eq!(
            Life::begin(&folder, Some("one")).offset(),
            Some(20),
            "also after a crash before the first save"
        );
        assert_eq!(Life::begin(&folder, Some("two")).offset(), Some(10));
        assert_eq!(Life::begin(&folder, Some("one")).offset(), Some(10), "back from another machine");
    }

    #[test]
    fn a_journal_that_could_not_be_written_any_more_does_not_hide_what_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let mut life = Life::begin(&folder, Some("one"));
        life.note(10);
        life.save(&folder, 30);
        let life = Life::begin(&folder, Some("one"));
        assert_eq!(life.offset(), Some(30));
        assert_eq!(life.bookmarks.recovered().len(), 0);
    }

    #[test]
    fn a_journal_that_cannot_be_read_leaves_the_bookmarks() {
        let folder = tempfile::tempdir().unwrap();
        Life::begin(&folder, Some("one")).save(&folder, 10);
        let journal = folder.path().join("bookmarks.journal");
        std::fs::remove_file(&journal).unwrap();
        std::fs::create_dir(&journal).unwrap();
        let recovery = Recovery::open(folder.path(), Boot::new("one").as_ref());
        assert!(recovery.journal.is_err());
        assert_eq!(recovery.bookmarks.find(KEY, "/a"), Some(at(10)));
    }

    proptest! {
        // Each save is a sync of the disk.
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The process may die after each of these steps. It goes on at what it noted last; after a power loss, at what it
        /// saved last.
        #[test]
        fn whatever_is_noted_and_saved_in_any_order_is_found(steps in proptest::collection::vec(0u8..8, 1..40)) {
            let folder = tempfile::tempdir().unwrap();
            let (mut boot, mut noted, mut saved) = (0, 0, 0);
            let mut life = Life::begin(&folder, Some("0"));
            for step in steps {
                match step {
                    0..4 => {
                        noted += 1;
                        life.note(noted);
                    }
                    // A save takes time: what it holds was noted before it began, and more has been noted since.
                    4 => {
                        saved = noted.saturating_sub(1).max(saved);
                        life.save(&folder, saved);
                    }
                    5 | 6 => life = Life::begin(&folder, Some(&boot.to_string())),
                    _ => {
                        boot += 1;
                        noted = saved;
                        life = Life::begin(&folder, Some(&boot.to_string()));
                    }
                }
                let found = Life::begin(&copy(&folder), Some(&boot.to_string())).offset();
                prop_assert_eq!(found.unwrap_or(0), noted);
            }
        }
    }

    /// What the next life would find.
    fn copy(folder: &TempDir) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in ["bookmarks.json", "bookmarks.journal"] {
            // Not all of them are there at first.
            let _ = std::fs::copy(folder.path().join(name), copy.path().join(name));
        }
        copy
    }
}
