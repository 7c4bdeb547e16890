//! The file `CURSORS`: where every consumer stands, and how far the log was durable when that was saved. And `NOTES`, of the same
//! format: where they stood a moment ago.
//!
//! `CURSORS` is synced. `NOTES` never is, so that noting costs one write into the page cache: what was noted survives the death of the
//! process and counts for nothing after a power loss, or for less. IMPORTANT: the log may then have lost its newest records, and will
//! give their positions to others, which a note must not call acknowledged. So opening a log cuts the notes where the recovered log
//! ends, saves them with the cursors, and removes the file, durably, before any position is given. A file of notes is
//! never older than the last opening, nor than the last removal of a consumer.
//!
//! Two slots of equal size are overwritten in turn, so that one is whole at any moment; the file is as long from the beginning as
//! it has to be, so that saving, and with it freeing space, needs no space. It is replaced by a larger one only if
//! names and ranges outgrow the slots. A slot:
//! ```text
//!  0  magic "ALLOYCUR"    8  version u32    12  crc32 of all but the magic and itself u32
//! 16  length in bytes u32  20 bytes of a slot u32   24  generation u64   32  id of the log u64
//! 40  durable u64          48  its segment u64      56  its offset u64   64  dropped below u64
//! 72  consumers u32        76  for each: name (u8 length, bytes), acknowledged u64, dropped u64,
//!                              ranges ahead (u32 count, then start u64, end u64 each)
//! ```

use std::collections::BTreeMap;

use crate::consumer::{ConsumerState, Consumers};
use crate::segment::{NUMBER_LIMIT, VERSION};
use crate::storage::{Fill, SegmentFile, Storage};
use crate::{Error, Position, Result};

/// The file's name.
pub(crate) const CURSORS: &str = "CURSORS";
/// The name of a larger one until it is complete.
pub(crate) const CURSORS_NEW: &str = "CURSORS.new";
/// The name of the file of notes.
pub(crate) const NOTES: &str = "NOTES";
/// The name of a new one until it is complete.
pub(crate) const NOTES_NEW: &str = "NOTES.new";
const MAGIC: &[u8; 8] = b"ALLOYCUR";
const HEAD_BYTES: usize = 76;
/// The first slot's size: 64 consumers with short names and some ranges.
const SLOT_BYTES: u32 = 8 << 10;
/// What the two files take as long as their slots are no larger, and one more while it replaces one of them.
pub(crate) const CURSOR_FILES_BYTES: u64 = 3 * 2 * SLOT_BYTES as u64;
/// A slot is never larger: 64 consumers with 16,384 ranges each.
const SLOT_BYTES_MAX: u32 = 32 << 20;

/// Where a frame begins that was durable, or the end of the last one: recovery scans from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hint {
    pub(crate) durable: Position,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Saved {
    pub(crate) generation: u64,
    pub(crate) log_id: u64,
    pub(crate) hint: Hint,
    pub(crate) dropped_below: Position,
    pub(crate) consumers: Vec<ConsumerState>,
}

impl Saved {
    fn encode(&self, slot_bytes: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[20..24].copy_from_slice(&slot_bytes.to_le_bytes());
        let fields = [
            self.generation,
            self.log_id,
            self.hint.durable,
            self.hint.segment,
            self.hint.offset,
            self.dropped_below,
        ];
        for (index, field) in fields.iter().enumerate() {
            bytes[24 + index * 8..32 + index * 8].copy_from_slice(&field.to_le_bytes());
        }
        bytes[72..76].copy_from_slice(&(self.consumers.len() as u32).to_le_bytes());
        for consumer in &self.consumers {
            bytes.push(consumer.name.len() as u8);
            bytes.extend_from_slice(consumer.name.as_bytes());
            bytes.extend_from_slice(&consumer.acknowledged.to_le_bytes());
            bytes.extend_from_slice(&consumer.dropped.to_le_bytes());
            bytes.extend_from_slice(&(consumer.ahead.len() as u32).to_le_bytes());
            for (start, end) in &consumer.ahead {
                bytes.extend_from_slice(&start.to_le_bytes());
                bytes.extend_from_slice(&end.to_le_bytes());
            }
        }
        let length = bytes.len() as u32;
        bytes[16..20].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a slot; `Ok(None)` if it is not whole. Also returns the size of the file's slots.
    fn decode(slot: &[u8]) -> Result<Option<(Saved, u32)>> {
        let u32_at = |at: usize| {
            slot.get(at..at + 4).map_or(0, |word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        };
        let length = u32_at(16) as usize;
        let Some(whole) = slot.get(..length) else { return Ok(None) };
        if length < HEAD_BYTES || &whole[..8] != MAGIC || checksum(whole) != u32_at(12) {
            return Ok(None);
        }
        if u32_at(8) > VERSION {
            return Err(Error::NewerVersion { name: CURSORS.into(), found: u32_at(8), supported: VERSION });
        }
        let slot_bytes = u32_at(20);
        Ok(Reader(&whole[24..]).saved().map(|saved| (saved, slot_bytes)))
    }
}

/// Of a whole slot, all but the magic and itself.
fn checksum(slot: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&slot[8..12]);
    hasher.update(&slot[16..]);
    hasher.finalize()
}

/// Takes numbers off the front of a slot.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*word))
    }

    fn u64(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    /// A position or a segment's number.
    fn number(&mut self) -> Option<u64> {
        self.u64().filter(|&number| number < NUMBER_LIMIT)
    }

    fn name(&mut self) -> Option<String> {
        let (&length, rest) = self.0.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        self.0 = rest;
        String::from_utf8(name.to_vec()).ok()
    }

    fn saved(mut self) -> Option<Saved> {
        let (generation, log_id) = (self.u64()?, self.u64()?);
        let hint = Hint { durable: self.number()?, segment: self.number()?, offset: self.number()? };
        let dropped_below = self.number()?;
        let mut consumers = Vec::new();
        for _ in 0..self.u32()? {
            let name = self.name()?;
            let acknowledged = self.number()?;
            let dropped = self.u64()?;
            let mut state =
                ConsumerState { name, acknowledged, saved: acknowledged, dropped, ahead: BTreeMap::new() };
            for _ in 0..self.u32()? {
                let (start, end) = (self.number()?, self.number()?);
                state.acknowledge(start..end);
            }
            consumers.push(state);
        }
        Some(Saved { generation, log_id, hint, dropped_below, consumers })
    }
}

/// The newest whole slot of a file, and what the file says of itself.
pub(crate) struct Contents {
    file: Box<dyn SegmentFile>,
    bytes: u64,
    /// The newest whole slot, and the size of the file's slots.
    pub(crate) newest: Option<(Saved, u32)>,
}

impl Contents {
    /// `None` if there is no file.
    pub(crate) fn read(storage: &dyn Storage, names: &[String], name: &str) -> Result<Option<Contents>> {
        if !names.iter().any(|known| known == name) {
            return Ok(None);
        }
        let io = |error| Error::io("read", name, error);
        let file = storage.open(name).map_err(io)?;
        let bytes = file.bytes().map_err(io)?.min(2 * u64::from(SLOT_BYTES_MAX));
        let mut content = vec![0; bytes as usize];
        let count = file.read_at(&mut content, 0).map_err(io)?;
        content.truncate(count);
        let mut newest: Option<(Saved, u32)> = None;
        for slot in [&content[..], &content[content.len() / 2..]] {
            if let Some((saved, slot_bytes)) = Saved::decode(slot)?
                && newest.as_ref().is_none_or(|(known, _)| known.generation < saved.generation)
            {
                newest = Some((saved, slot_bytes));
            }
        }
        Ok(Some(Contents { file, bytes: count as u64, newest }))
    }
}

/// What is in a directory's `CURSORS`.
pub(crate) enum Found {
    /// No file: the log is new, or somebody removed it.
    Missing,
    /// A file without a whole slot.
    Damaged,
    /// A whole slot.
    Saved(Saved, CursorFile),
}

/// Where an open file is, and whether it is synced.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: &'static str,
    new_name: &'static str,
    synced: bool,
}

const CURSORS_PLACE: Place = Place { name: CURSORS, new_name: CURSORS_NEW, synced: true };
const NOTES_PLACE: Place = Place { name: NOTES, new_name: NOTES_NEW, synced: false };

/// An open file, written by one thread at a time.
pub(crate) struct CursorFile {
    place: Place,
    file: Box<dyn SegmentFile>,
    slot_bytes: u32,
    generation: u64,
    /// A write or sync failed: what the file holds is not known any more, the next save replaces it.
    suspect: bool,
}

impl CursorFile {
    /// Reads the newest whole slot of `CURSORS`, and makes sure that it is durable.
    pub(crate) fn find(storage: &dyn Storage, names: &[String]) -> Result<Found> {
        let Some(Contents { file, bytes: length, newest }) = Contents::read(storage, names, CURSORS)? else {
            return Ok(Found::Missing);
        };
        let Some((saved, slot_bytes)) = newest else { return Ok(Found::Damaged) };
        let generation = saved.generation;
        // Written once more: the last process may have died before its sync, or after one that failed.
        let bytes = saved.encode(slot_bytes);
        let repeated = file.write_at(&bytes, offset(generation, slot_bytes)).and_then(|()| file.sync());
        repeated.map_err(|error| Error::io("sync", CURSORS, error))?;
        let suspect = length != 2 * u64::from(slot_bytes);
        Ok(Found::Saved(saved, CursorFile { place: CURSORS_PLACE, file, slot_bytes, generation, suspect }))
    }

    /// Makes a new `CURSORS` with this content.
    pub(crate) fn create(storage: &dyn Storage, saved: Saved) -> Result<CursorFile> {
        CursorFile::create_at(CURSORS_PLACE, storage, saved)
    }

    /// Makes a new `NOTES` with this content.
    pub(crate) fn create_notes(storage: &dyn Storage, saved: Saved) -> Result<CursorFile> {
        CursorFile::create_at(NOTES_PLACE, storage, saved)
    }

    /// Under the real name only when it is complete, and durable if it has to be.
    fn create_at(place: Place, storage: &dyn Storage, mut saved: Saved) -> Result<CursorFile> {
        let needed = saved.encode(0).len() as u64;
        let slot_bytes = needed.next_power_of_two().clamp(SLOT_BYTES.into(), SLOT_BYTES_MAX.into()) as u32;
        fit(&mut saved, slot_bytes);
        let io = |operation| move |error| Error::io(operation, place.new_name, error);
        let file =
            storage.create(place.new_name, 2 * u64::from(slot_bytes), Fill::Zeros).map_err(io("create"))?;
        let offset = offset(saved.generation, slot_bytes);
        file.write_at(&saved.encode(slot_bytes), offset).map_err(io("write"))?;
        if place.synced {
            file.sync().map_err(io("sync"))?;
        }
        storage.rename(place.new_name, place.name).map_err(io("rename"))?;
        if place.synced {
            let synced = storage.sync_directory();
            synced.map_err(|error| Error::io("sync", storage.location(), error))?;
        }
        Ok(CursorFile { place, file, slot_bytes, generation: saved.generation, suspect: false })
    }

    /// Saves, `CURSORS` durably. After an error the last successful save is still what a crash leaves, or this one is.
    pub(crate) fn save(&mut self, storage: &dyn Storage, mut saved: Saved) -> Result<()> {
        saved.generation = self.generation + 1;
        let mut bytes = saved.encode(self.slot_bytes);
        if self.suspect || bytes.len() > self.slot_bytes as usize {
            match CursorFile::create_at(self.place, storage, saved.clone()) {
                Ok(file) => {
                    *self = file;
                    return Ok(());
                }
                // No space for a larger file: save without some of the ranges; they will be delivered again.
                Err(error) => {
                    fit(&mut saved, self.slot_bytes);
                    bytes = saved.encode(self.slot_bytes);
                    if !error.is_full() || self.suspect || bytes.len() > self.slot_bytes as usize {
                        return Err(error);
                    }
                }
            }
        }
        let name = self.place.name;
        self.generation = saved.generation;
        self.suspect = true;
        let offset = offset(saved.generation, self.slot_bytes);
        self.file.write_at(&bytes, offset).map_err(|error| Error::io("write", name, error))?;
        if self.place.synced {
            self.file.sync().map_err(|error| Error::io("sync", name, error))?;
        }
        self.suspect = false;
        Ok(())
    }

    /// The next save makes a new file.
    pub(crate) fn distrust(&mut self) {
        self.suspect = true;
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        2 * u64::from(self.slot_bytes)
    }
}

/// Removes the notes, durably, also if an earlier call got only as far as removing them.
pub(crate) fn remove_notes(storage: &dyn Storage) -> Result<()> {
    match storage.remove(NOTES) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", NOTES, error));
        }
        _ => {}
    }
    storage.sync_directory().map_err(|error| Error::io("sync", storage.location(), error))
}

impl Saved {
    /// Adds what the notes say of consumers that are known here, as far as the log reaches: `end`. False if that is nothing new.
    pub(crate) fn add_notes(&mut self, notes: &Saved, end: Position) -> bool {
        if notes.log_id != self.log_id {
            return false;
        }
        let before = self.clone();
        self.dropped_below = self.dropped_below.max(notes.dropped_below.min(end));
        for state in &mut self.consumers {
            let Some(noted) = notes.consumers.iter().find(|noted| noted.name == state.name) else { continue };
            state.dropped = state.dropped.max(noted.dropped);
            let first = (state.acknowledged, noted.acknowledged);
            for (start, stop) in std::iter::once(first).chain(noted.ahead.iter().map(|(&a, &b)| (a, b))) {
                state.acknowledge(start..stop.min(end));
            }
            state.saved = state.acknowledged;
        }
        *self != before
    }
}

fn offset(generation: u64, slot_bytes: u32) -> u64 {
    (generation % 2) * u64::from(slot_bytes)
}

/// Leaves out ranges, the last ones first, until the rest fits.
fn fit(saved: &mut Saved, slot_bytes: u32) {
    while saved.encode(0).len() > slot_bytes as usize {
        let longest = saved.consumers.iter_mut().max_by_key(|consumer| consumer.ahead.len());
        let Some(consumer) = longest.filter(|consumer| !consumer.ahead.is_empty()) else { return };
        let keep = consumer.ahead.len() / 2;
        consumer.ahead = std::mem::take(&mut consumer.ahead).into_iter().take(keep).collect();
    }
}

/// What of the consumers may be saved: nothing at or beyond `durable`.
pub(crate) fn durable_part(consumers: &Consumers, durable: Position) -> Vec<ConsumerState> {
    let cut = |(_, state): (_, &ConsumerState)| {
        let mut state = state.clone();
        state.acknowledged = state.acknowledged.min(durable);
        state.ahead.retain(|start, end| {
            *end = (*end).min(durable);
            start < end
        });
        state
    };
    consumers.iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn saved() -> Saved {
        let mut first =
            ConsumerState { name: "first".into(), acknowledged: 5, saved: 5, ..Default::default() };
        first.acknowledge(7..9);
        let second = ConsumerState { name: "second".into(), dropped: 3, ..Default::default() };
        let hint = Hint { durable: 10, segment: 2, offset: 4096 };
        Saved { generation: 1, log_id: 9, hint, dropped_below: 4, consumers: vec![first, second] }
    }

    #[test]
    fn a_slot_is_read_back_as_it_was_saved() {
        let bytes = saved().encode(SLOT_BYTES);
        assert_eq!(Saved::decode(&bytes).expect("same version"), Some((saved(), SLOT_BYTES)));
    }

    #[test]
    fn a_damaged_slot_is_not_whole() {
        let good = saved().encode(SLOT_BYTES);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Saved::decode(&bad).expect("same version"), None, "bit {bit}");
        }
        for length in 0..good.len() {
            assert_eq!(Saved::decode(&good[..length]).expect("same version"), None, "{length} bytes");
        }
    }

    #[test]
    fn ranges_give_way_when_there_is_no_room_for_them() {
        let mut full = saved();
        for start in 0..2000 {
            full.consumers[1].acknowledge(start * 2 + 1..start * 2 + 2);
        }
        fit(&mut full, SLOT_BYTES);
        assert!(full.encode(0).len() <= SLOT_BYTES as usize);
        assert_eq!(full.consumers[1].ahead.first_key_value(), Some((&1, &2)));
    }

    #[test]
    fn notes_move_cursors_forward_and_not_beyond_the_log() {
        let check =
            |acknowledged: Position, ahead: Range<Position>, end, expected: (Position, Option<Position>)| {
                let mut cursors = saved();
                let mut notes = saved();
                notes.consumers[0].acknowledge(0..acknowledged);
                notes.consumers[0].acknowledge(ahead);
                notes.consumers.push(ConsumerState { name: "removed".into(), ..Default::default() });
                let added = cursors.add_notes(&notes, end);
                let first = &cursors.consumers[0];
                assert_eq!((first.acknowledged, first.ahead.last_key_value().map(|(_, &end)| end)), expected);
                assert_eq!((added, cursors.consumers.len()), (cursors != saved(), 2));
            };
        check(5, 7..9, 10, (5, Some(9)));
        check(6, 7..9, 10, (6, Some(9)));
        check(7, 7..9, 10, (9, None));
        check(20, 7..9, 10, (10, None));
        check(5, 12..20, 15, (5, Some(15)));
        check(3, 3..3, 10, (5, Some(9)));
        let mut other = saved();
        let notes = Saved { log_id: 8, ..saved() };
        assert!(!other.add_notes(&notes, 100));
    }
}
