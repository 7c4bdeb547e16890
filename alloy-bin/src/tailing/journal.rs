//! The positions of one component since the last save of the bookmarks, `bookmarks.journal`: written before a batch is
//! offered and after it was taken, so that after the death of the process alone every file goes on at the exact line.
//!
//! ```text
//!  0           256         512                  each half, 128 bytes, little endian:
//!  ├─ header ──┼─ slot 0 ──┼─ slot 1 ── ...     sequence u64, key u64, hash of the path u64,
//!              ├ half ┼ half ┤                  position (62 bytes), zeros, XXH64 of all before u64
//! ```
//!
//! A file has a slot, and writes the halves in turn: a write that was cut short leaves the other half, which is one step
//! older. So the journal neither grows with what is read nor has to be begun anew.
//!
//! NOTE: nothing is synced here. What a process has written is there after its death, in this file as in the receivers'
//! logs; after the death of the machine some of it may be, in any order. That is why the header names the boot: after
//! another one the journal counts for nothing, and the saved bookmarks do.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Buf;
use twox_hash::XxHash64;

use super::Position;

/// The file's name in the component's folder.
const FILE: &str = "bookmarks.journal";

/// A page holds a whole number of slots, so that no half lies on two pages.
const SLOT_BYTES: usize = 256;
const HALF_BYTES: usize = SLOT_BYTES / 2;

/// Where a half's checksum is.
const CHECKSUM_AT: usize = HALF_BYTES - 8;

/// How many files have a slot; the others go on at their saved bookmarks. 2^18 slots of 256 bytes are 64 MiB.
const SLOTS_MAX: u32 = 1 << 18;

/// Which life of which machine this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot(String);

impl Boot {
    /// The one that the kernel names; `None` if it names none.
    pub fn current() -> Option<Self> {
        Boot::new(&fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
    }

    /// A boot of that name: a UUID, or else one word of at most 64 characters.
    pub fn new(name: &str) -> Option<Self> {
        let name = name.trim();
        let is_word = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        is_word.then(|| Boot(name.to_owned()))
    }

    /// What a journal of this boot begins with: a line for people, filled up with zeros.
    fn header(&self) -> [u8; SLOT_BYTES] {
        let text = format!("alloy {FILE} version=1 boot={}\n", self.0);
        let mut header = [0; SLOT_BYTES];
        header[..text.len()].copy_from_slice(text.as_bytes());
        header
    }
}

/// A position in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// The file's key.
    pub key: u64,
    /// XXH64 of its path.
    pub path_hash: u64,
    /// How far it is delivered, and what was under way.
    pub position: Position,
}

/// What stands for a path in the journal.
pub(super) fn path_hash(path: &str) -> u64 {
    XxHash64::oneshot(0, path.as_bytes())
}

/// The journal of one component.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    slots: BTreeMap<u64, Slot>,
    /// Slots that were given back.
    free: Vec<Slot>,
    /// How many slots the file has.
    len: u32,
    /// The number of the next entry: of two entries the one with the larger number is newer.
    sequence: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    index: u32,
    /// Which half is written next, 0 or 1.
    half: u8,
    /// A hash of what the other half says of this file.
    said: Option<u64>,
}

impl Journal {
    /// What an earlier process of this boot has noted, the newest of each key. A damaged half hides what it said and
    /// nothing else. Nothing if there is no journal, or one of another boot.
    ///
    /// # Errors
    /// What the system says.
    pub fn load(folder: &Path, boot: &Boot) -> io::Result<Vec<Noted>> {
        let bytes = match fs::read(folder.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let Some(slots) = bytes.strip_prefix(&boot.header()) else { return Ok(Vec::new()) };
        let mut newest: BTreeMap<u64, (u64, Noted)> = BTreeMap::new();
        for slot in slots.chunks(SLOT_BYTES).take(SLOTS_MAX as usize) {
            // The older half may be of a file that had the slot before: it is none of the newest.
            let halves = slot.chunks_exact(HALF_BYTES).filter_map(decode);
            let Some((sequence, noted)) = halves.max_by_key(|(sequence, _)| *sequence) else { continue };
            let entry = newest.entry(noted.key).or_insert((sequence, noted));
            if sequence > entry.0 {
                *entry = (sequence, noted);
            }
        }
        Ok(newest.into_values().map(|(_, noted)| noted).collect())
    }

    /// A journal of this boot that begins with these positions. It takes the place of an earlier one: at any moment there
    /// is the old or the new one.
    ///
    /// # Errors
    /// What the system says; the old one is as it was.
    pub fn create(folder: &Path, boot: &Boot, noted: impl IntoIterator<Item = Noted>) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let temporary = folder.join(format!("{FILE}.new"));
        let file = File::create(&temporary)?;
        file.write_all_at(&boot.header(), 0)?;
        let (slots, free) = (BTreeMap::new(), Vec::new());
        let mut inner = Inner { file, slots, free, len: 0, sequence: 1 };
        for noted in noted {
            inner.note(noted)?;
        }
        fs::rename(&temporary, folder.join(FILE))?;
        Ok(Journal { inner: Mutex::new(inner) })
    }

    /// Notes how far a file is. It survives the process once this returns. Blocks, for as long as a write into the page
    /// cache takes.
    ///
    /// # Errors
    /// What the system says, or that all slots are taken; what was noted before stays.
    pub fn note(&self, noted: Noted) -> io::Result<()> {
        self.lock().note(noted)
    }

    /// Gives back the slots of files that are no longer followed, once their last position is saved elsewhere.
    pub fn release(&self, keys: impl IntoIterator<Item = u64>) {
        let mut inner = self.lock();
        for key in keys {
            let slot = inner.slots.remove(&key);
            inner.free.extend(slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Slots are never left half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, noted: Noted) -> io::Result<()> {
        let slot = match self.slots.entry(noted.key) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(place) => match self.free.pop() {
                Some(free) => place.insert(Slot { said: None, ..free }),
                None if self.len < SLOTS_MAX => {
                    self.len += 1;
                    place.insert(Slot { index: self.len - 1, half: 0, said: None })
                }
                None => return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "all slots are taken")),
            },
        };
        let said = Some(XxHash64::oneshot(0, &noted.position.encode()));
        if slot.said == said {
            return Ok(());
        }
        let at = (u64::from(slot.index) + 1) * SLOT_BYTES as u64 + u64::from(slot.half) * HALF_BYTES as u64;
        self.file.write_all_at(&encode(self.sequence, &noted), at)?;
        // Only now: a write that failed is repeated into the same half, and the other one stays.
        self.sequence += 1;
        slot.half = 1 - slot.half;
        slot.said = said;
        Ok(())
    }
}

fn encode(sequence: u64, noted: &Noted) -> [u8; HALF_BYTES] {
    let mut half = [0; HALF_BYTES];
    let position = noted.position.encode();
    half[..8].copy_from_slice(&sequence.to_le_bytes());
    half[8..16].copy_from_slice(&noted.key.to_le_bytes());
    half[16..24].copy_from_slice(&noted.path_hash.to_le_bytes());
    half[24..][..Position::ENCODED_BYTES].copy_from_slice(&position);
    let checksum = XxHash64::oneshot(0, &half[..CHECKSUM_AT]);
    half[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    half
}

fn decode(half: &[u8]) -> Option<(u64, Noted)> {
    let (mut text, mut checksum) = half.split_at(CHECKSUM_AT);
    if checksum.get_u64_le() != XxHash64::oneshot(0, text) {
        return None;
    }
    let (sequence, key, path_hash) = (text.get_u64_le(), text.get_u64_le(), text.get_u64_le());
    let position = Position::decode(&text[..Position::ENCODED_BYTES])?;
    Some((sequence, Noted { key, path_hash, position }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tailing::Intent;

    fn boot() -> Boot {
        Boot::new("7d8a2b8e-0b1c-4a53-9c6b-3b9d9f2f6a11\n").unwrap()
    }

    fn noted(key: u64, offset: u64) -> Noted {
        let intent = (offset % 2 == 1).then_some(Intent { to: offset + 5, base_ns: 9 });
        let position = Position { offset, last_ns: offset as i64, intent, ..Position::default() };
        Noted { key, path_hash: path_hash("/a"), position }
    }

    /// An empty journal in a folder that is not there yet.
    fn journal(folder: &Path) -> Journal {
        Journal::create(folder, &boot(), []).unwrap()
    }

    /// Key and offset of what the next process of this boot finds.
    fn found(folder: &Path) -> Vec<(u64, u64)> {
        let noted = Journal::load(folder, &boot()).unwrap();
        noted.iter().map(|noted| (noted.key, noted.position.offset)).collect()
    }

    #[test]
    fn what_was_noted_last_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("not/there/yet");
        assert_eq!(found(&nested), []);
        let journal = journal(&nested);
        assert_eq!(found(&nested), []);
        for offset in 0..10 {
            journal.note(noted(7, offset)).unwrap();
            journal.note(noted(u64::MAX, offset * 10)).unwrap();
            assert_eq!(
                Journal::load(&nested, &boot()).unwrap(),
                [noted(7, offset), noted(u64::MAX, offset * 10)]
            );
        }
    }

    #[test]
    fn a_journal_of_another_boot_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        journal(folder.path()).note(noted(7, 10)).unwrap();
        let other = Boot::new("another").unwrap();
        assert_eq!(Journal::load(folder.path(), &other).unwrap(), []);
        assert_eq!(found(folder.path()), [(7, 10)], "it is only looked at");
        Journal::create(folder.path(), &other, []).unwrap();
        assert_eq!(
            found(folder.path()),
            [],
            "back on the first machine, the journal of the second counts neither"
        );
    }

    #[test]
    fn what_is_no_name_of_a_boot_is_none() {
        let check = |name: &str| assert_eq!(Boot::new(name), None, "{name:?}");
        check("");
        check("\n");
        check("two words");
        check(&"x".repeat(65));
        assert_eq!(Boot::current(), Boot::current());
    }

    #[test]
    fn any_damage_costs_one_step_of_one_file_and_is_never_a_wrong_position() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        for offset in [1, 2, 3] {
            journal.note(noted(7, offset)).unwrap();
            journal.note(noted(8, offset)).unwrap();
        }
        let path = folder.path().join(FILE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            let found = found(folder.path());
            let expected: &[(u64, u64)] = match at / HALF_BYTES {
                0 | 1 => &[],
                2 => &[(7, 2), (8, 3)],
                4 => &[(7, 3), (8, 2)],
                _ => &[(7, 3), (8, 3)],
            };
            assert_eq!(found, expected, "flipped at {at}");
        }
        for end in 0..good.len() {
            fs::write(&path, &good[..end]).unwrap();
            for (_, offset) in found(folder.path()) {
                assert!((1..=3).contains(&offset), "cut at {end}");
            }
        }
        fs::write(&path, b"").unwrap();
        assert_eq!(found(folder.path()), []);
    }

    #[test]
    fn a_new_journal_takes_the_old_ones_place_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let old = journal(folder.path());
        old.note(noted(7, 10)).unwrap();
        old.note(noted(8, 10)).unwrap();
        // The next process died while it wrote its own.
        fs::write(folder.path().join(format!("{FILE}.new")), b"alloy book").unwrap();
        assert_eq!(found(folder.path()), [(7, 10), (8, 10)]);
        let new = Journal::create(folder.path(), &boot(), [noted(8, 10)]).unwrap();
        assert_eq!(found(folder.path()), [(8, 10)]);
        // What is left of the old process writes where nobody looks.
        old.note(noted(7, 11)).unwrap();
        new.note(noted(8, 12)).unwrap();
        assert_eq!(found(folder.path()), [(8, 12)]);
    }

    #[test]
    fn the_journal_grows_with_the_files_that_are_followed_only() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let size = || fs::metadata(folder.path().join(FILE)).unwrap().len();
        for day in 0..50 {
            let keys = day * 3..day * 3 + 3;
            for offset in 0..20 {
                keys.clone().for_each(|key| journal.note(noted(key, offset)).unwrap());
            }
            assert_eq!(found(folder.path()), keys.clone().map(|key| (key, 19)).collect::<Vec<_>>());
            journal.release(keys);
        }
        assert_eq!(size(), 4 * SLOT_BYTES as u64);
        journal.lock().len = SLOTS_MAX;
        for key in 0..3 {
            journal.note(noted(key, 1)).unwrap();
        }
        assert!(journal.note(noted(3, 1)).is_err());
        journal.note(noted(2, 2)).expect("who has a slot is not affected");
    }

    #[test]
    fn a_file_that_comes_back_is_found_in_its_new_slot() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        journal.note(noted(7, 10)).unwrap();
        journal.note(noted(8, 20)).unwrap();
        journal.release([7, 8]);
        // The slot of 8 is given out first; that of 7 still says what it said.
        journal.note(noted(7, 12)).unwrap();
        assert_eq!(found(folder.path()), [(7, 12)]);
    }

    /// Every note is first written as if the process had died after `cut` bytes of it. The answer is which of
    /// them were whole all the same: the bytes that are missing may be those that were there.
    fn check_cut_writes(steps: &[(u64, u64)], cut: usize) -> Vec<(u64, u64)> {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let path = folder.path().join(FILE);
        let (mut expected, mut whole_ones) = (BTreeMap::new(), Vec::new());
        for (key, offset) in steps {
            let before = fs::read(&path).unwrap();
            journal.note(noted(*key, *offset)).unwrap();
            let whole = fs::read(&path).unwrap();
            let mut torn = before.clone();
            torn.resize(whole.len(), 0);
            if let Some(at) = torn.iter().zip(&whole).position(|(a, b)| a != b) {
                let half = at / HALF_BYTES * HALF_BYTES;
                torn[half..half + cut].copy_from_slice(&whole[half..half + cut]);
                fs::write(&path, &torn).unwrap();
                let pairs: Vec<(u64, u64)> = expected.iter().map(|(key, offset)| (*key, *offset)).collect();
                if torn == whole {
                    whole_ones.push((*key, *offset));
                } else {
                    assert_eq!(found(folder.path()), pairs, "before ({key}, {offset})");
                }
                fs::write(&path, &whole).unwrap();
            }
            expected.insert(*key, *offset);
        }
        whole_ones
    }

    /// The checksum of the last step ends with the byte that stood there before.
    #[test]
    fn a_write_that_lacks_what_was_there_before_is_whole() {
        let steps = "00 01 02 00 01 02 03 04 00 01 02 00 01 02";
        let mut steps: Vec<(u64, u64)> =
            steps.split(' ').map(|step| (0, step.parse().expect("a number"))).collect();
        steps.extend([(1, 963), (2, 0), (0, 3), (2, 1), (1, 0), (2, 2), (0, 0), (1, 582)]);
        assert_eq!(check_cut_writes(&steps, HALF_BYTES - 1), [(1, 582)]);
    }

    proptest! {
        #[test]
        fn a_write_that_is_cut_short_hides_nothing_but_itself(
            steps in proptest::collection::vec((0u64..4, 0u64..1000), 1..40),
            cut in 0usize..HALF_BYTES,
        ) {
            check_cut_writes(&steps, cut);
        }
    }
}
