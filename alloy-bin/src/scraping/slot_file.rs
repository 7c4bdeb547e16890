//! The last slot of each target, on the disk of the agent that takes it: what a restart needs to go on with the next one.
//!
//! ```text
//! 0          8          16         24
//! +----------+----------+----------+---
//! | key      | slot ms  | checksum | the next target ...
//! +----------+----------+----------+---
//! ```
//! Little-endian. An entry is overwritten in place by one plain write after each scrape that is in custody, and never
//! synced: it is exact after the death of the process. After power loss an entry may be older than the truth, and its
//! slot is then taken twice, with the same time. In a cluster the others know better, and are asked first.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

const ENTRY_BYTES: usize = 24;
/// 24 MiB; targets beyond that wait for their next slot after a restart.
const ENTRIES_MAX: usize = 1 << 20;

/// The file, and where in it each target is.
#[derive(Debug)]
pub struct SlotFile {
    file: File,
    places: Mutex<Places>,
    last_life: HashMap<u64, i64>,
}

#[derive(Debug, Default)]
struct Places {
    of: HashMap<u64, usize>,
    free: Vec<usize>,
    end: usize,
}

impl SlotFile {
    /// Opens the file in that folder, or makes both. Entries that are damaged, and targets that had no slot for
    /// `forget_after_ms`, are left behind.
    pub fn open(folder: &Path, now_ms: i64, forget_after_ms: i64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (path, next) = (folder.join("slots"), folder.join("slots.next"));
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut last_life: HashMap<u64, i64> = bytes.chunks_exact(ENTRY_BYTES).filter_map(decode).collect();
        last_life.retain(|_, slot_ms| now_ms - *slot_ms < forget_after_ms);
        let mut places = Places::default();
        let mut kept = Vec::with_capacity(last_life.len() * ENTRY_BYTES);
        for (key, slot_ms) in last_life.iter().take(ENTRIES_MAX) {
            places.of.insert(*key, places.end);
            places.end += 1;
            kept.extend_from_slice(&encode(*key, *slot_ms));
        }
        std::fs::write(&next, kept)?;
        std::fs::rename(&next, &path)?;
        let file = File::options().write(true).open(&path)?;
        Ok(SlotFile { file, places: Mutex::new(places), last_life })
    }

    /// The last slot that the last life took of the target.
    pub fn last_life(&self, key: u64) -> Option<i64> {
        self.last_life.get(&key).copied()
    }

    /// The target's slot is taken.
    pub fn note(&self, key: u64, slot_ms: i64) -> io::Result<()> {
        let Some(place) = self.place(key) else { return Ok(()) };
        self.file.write_all_at(&encode(key, slot_ms), (place * ENTRY_BYTES) as u64)
    }

    /// The target is gone, or another member's: its entry may be used for another one.
    pub fn forget(&self, key: u64) -> io::Result<()> {
        let mut places = self.places.lock().expect("no code panics while holding it");
        let Some(place) = places.of.remove(&key) else { return Ok(()) };
        places.free.push(place);
        self.file.write_all_at(&[0; ENTRY_BYTES], (place * ENTRY_BYTES) as u64)
    }

    fn place(&self, key: u64) -> Option<usize> {
        let mut places = self.places.lock().expect("no code panics while holding it");
        if let Some(place) = places.of.get(&key) {
            return Some(*place);
        }
        let place = places.free.pop().or_else(|| {
            let end = places.end;
            places.end += usize::from(end < ENTRIES_MAX);
            (end < ENTRIES_MAX).then_some(end)
        })?;
        places.of.insert(key, place);
        Some(place)
    }
}

fn encode(key: u64, slot_ms: i64) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..8].copy_from_slice(&key.to_le_bytes());
    entry[8..16].copy_from_slice(&slot_ms.to_le_bytes());
    let checksum = twox_hash::XxHash64::oneshot(CHECKSUM_SEED, &entry[..16]);
    entry[16..].copy_from_slice(&checksum.to_le_bytes());
    entry
}

fn decode(entry: &[u8]) -> Option<(u64, i64)> {
    let key = u64::from_le_bytes(entry[..8].try_into().ok()?);
    let slot_ms = i64::from_le_bytes(entry[8..16].try_into().ok()?);
    (encode(key, slot_ms) == entry).then_some((key, slot_ms))
}

/// Not 0, so that an entry of zeros is none.
const CHECKSUM_SEED: u64 = 0x510f;

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: i64 = 1_000_000;

    #[test]
    fn a_restart_knows_the_last_slot_of_each_target() {
        let folder = tempfile::tempdir().unwrap();
        let first = SlotFile::open(&folder.path().join("component"), 0, LONG).unwrap();
        assert_eq!(first.last_life(1), None);
        for (key, slot_ms) in [(1, 10), (2, 20), (1, 30), (3, 40)] {
            first.note(key, slot_ms).unwrap();
        }
        first.forget(2).unwrap();
        first.note(4, 50).unwrap();
        drop(first);
        let second = SlotFile::open(&folder.path().join("component"), 100, LONG).unwrap();
        let known = [1, 2, 3, 4].map(|key| second.last_life(key));
        assert_eq!(known, [Some(30), None, Some(40), Some(50)], "4 has the place of 2");
        second.note(3, 60).unwrap();
        let third = SlotFile::open(&folder.path().join("component"), 100, LONG).unwrap();
        assert_eq!(
            [1, 3].map(|key| third.last_life(key)),
            [Some(30), Some(60)],
            "what was not noted again stays"
        );
    }

    #[test]
    fn damage_and_age_cost_only_their_own_entries() {
        let folder = tempfile::tempdir().unwrap();
        let first = SlotFile::open(folder.path(), 0, LONG).unwrap();
        (1..=4).for_each(|key| first.note(key, key as i64 * 100).unwrap());
        let path = folder.path().join("slots");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[ENTRY_BYTES + 9] ^= 1;
        bytes.truncate(4 * ENTRY_BYTES - 1);
        std::fs::write(&path, bytes).unwrap();
        let second = SlotFile::open(folder.path(), LONG + 200, LONG).unwrap();
        assert_eq!([1, 2, 3, 4].map(|key| second.last_life(key)), [None, None, Some(300), None]);
    }
}
