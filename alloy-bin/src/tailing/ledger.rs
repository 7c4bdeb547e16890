//! Who reads which file: a rotated file that a target's glob matches too (`*.log*`) is not read a second time under
//! its new name.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Position;
use crate::telemetry::Labels;

/// How many files are remembered that nobody reads any more. A rotated file is looked for soon or never.
const LEFT_MAX: usize = 4096;

/// The files of one component. Files of different streams don't know of each other: two targets with one path and
/// different labels both want all lines.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    files: Mutex<BTreeMap<Key, Entry>>,
}

/// Stream and inode.
type Key = (u64, u64);

#[derive(Debug)]
struct Entry {
    reader: Arc<Path>,
    /// How far it was read when it was left; `None` while it is read.
    /// Boxed: of thousands of files few are left.
    left_at: Option<Box<Position>>,
}

/// What one tail asks and says.
#[derive(Debug)]
pub(super) struct Claims {
    ledger: Arc<Ledger>,
    stream: u64,
    path: Arc<Path>,
}

/// Whether a file may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody else has read it.
    Granted,
    /// Another has read so far, under the name that the file had then.
    ReadTo(Position),
    /// Another reads it, although it has another name now.
    Held,
}

impl Claims {
    /// For a tail of that path whose lines get these labels.
    pub(super) fn new(ledger: Arc<Ledger>, labels: &Labels, path: &Arc<Path>) -> Self {
        let mut hasher = twox_hash::XxHash64::with_seed(0);
        for (name, value) in labels.iter().filter(|(name, _)| *name != "filename") {
            hasher.write(name.as_bytes());
            hasher.write(&[0xff]);
            hasher.write(value.as_bytes());
            hasher.write(&[0xff]);
        }
        Claims { ledger, stream: hasher.finish(), path: Arc::clone(path) }
    }

    /// Asks for a file. `is_still_there` says whether a path shows it: a file with two names is not a rotated one, and
    /// is read under both.
    pub(super) fn claim(&self, inode: u64, is_still_there: impl Fn(&Path) -> bool) -> Claim {
        let other =
            self.lock().get(&(self.stream, inode)).map(|entry| (entry.reader.clone(), entry.left_at.clone()));
        let claim = match other {
            Some((reader, _)) if reader == self.path => Claim::Granted,
            // Asked without the lock: it looks at the disk.
            Some((reader, _)) if is_still_there(&reader) => return Claim::Granted,
            Some((_, None)) => return Claim::Held,
            Some((_, Some(position))) => Claim::ReadTo(*position),
            None => Claim::Granted,
        };
        let entry = Entry { reader: self.path.clone(), left_at: None };
        self.lock().insert((self.stream, inode), entry);
        claim
    }

    /// The file is no longer read here.
    pub(super) fn leave(&self, position: Position) {
        let mut files = self.lock();
        let key = (self.stream, position.identity.inode);
        if let Some(entry) = files.get_mut(&key).filter(|entry| entry.reader == self.path) {
            entry.left_at = Some(Box::new(position));
        }
        if files.len() > LEFT_MAX && files.values().filter(|entry| entry.left_at.is_some()).count() > LEFT_MAX
        {
            files.retain(|other, entry| entry.left_at.is_none() || *other == key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        // Entries are never left half changed.
        self.ledger.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
