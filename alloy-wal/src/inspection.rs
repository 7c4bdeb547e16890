//! A log looked at from outside, live or dead, without changing it: for tools.
//!
//! Invariant: calls nothing of the storage that writes, and takes no lock. A live log goes on meanwhile, so what is seen is
//! what was there at some moment of the look: the newest segment may grow, the oldest may be freed.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use crate::cursors::{CURSORS, CURSORS_NEW, Contents, NOTES, NOTES_NEW, Saved};
use crate::frame::Kind;
use crate::reader::{SegmentReader, Step};
use crate::recovery::{DAMAGED_SUFFIX, NEW_SUFFIX, SPARE_PREFIX};
use crate::segment::{Extent, HEADER_BLOCK, Segment, SegmentHeader, file_number};
use crate::storage::{Storage, file::FileStorage, file::LOCK};
use crate::{Error, Gap, GapReason, Item, Position, Record, Result};

/// What a directory holds, read once when it is opened.
pub struct Inspection {
    storage: Arc<dyn Storage>,
    /// The id of the log, if any file says it.
    pub log_id: Option<u64>,
    /// Whether the file of cursors could be read.
    pub cursors: CursorsState,
    /// Everything below was durable when the cursors were saved last.
    pub durable: Position,
    /// Everything below was dropped by a limit or released.
    pub dropped_below: Position,
    /// All consumers, as they were saved or noted last.
    pub consumers: Vec<ConsumerEntry>,
    /// All files with the name of a segment, oldest first.
    pub segments: Vec<SegmentEntry>,
    /// Prepared segments: their names and bytes.
    pub spares: Vec<(String, u64)>,
    /// Files that are not the log's, or that are left of an unreadable or incomplete segment.
    pub others: Vec<String>,
}

/// Whether the file of cursors could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorsState {
    /// It could.
    Saved,
    /// There is none: the log is new, or all consumers are forgotten.
    Missing,
    /// There is one, and no part of it is whole.
    Damaged,
}

/// A consumer as it was saved or noted last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerEntry {
    /// Its name.
    pub name: String,
    /// Every record below is acknowledged.
    pub acknowledged: Position,
    /// Ranges acknowledged ahead of it.
    pub ahead: Vec<Range<Position>>,
    /// Records it lost to a limit.
    pub dropped: u64,
}

/// A segment by its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Its file.
    pub name: String,
    /// The number in the name.
    pub number: u64,
    /// Its length.
    pub file_bytes: u64,
    /// Where it begins, and where the next one does; 0 if the header is not readable, open if there is no next one.
    pub begins: Position,
    /// Where the next readable segment begins.
    pub ends: Option<Position>,
    /// The stamp of its first record.
    pub created_ms: u64,
    /// What it is worth.
    pub state: SegmentState,
}

/// What a segment is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentState {
    /// It belongs to the log.
    Good,
    /// A newer segment holds its records once more; opening the log removes it.
    Superseded,
    /// Its header is not readable.
    Unreadable,
    /// It is empty: a crash came before its header was written.
    Empty,
    /// It belongs to another log.
    Foreign,
    /// A newer version of this crate wrote it.
    Newer,
}

/// What reading a whole segment found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentReport {
    /// The positions from its beginning to where it ends.
    pub positions: Range<Position>,
    /// Intact records.
    pub records: u64,
    /// Their payload.
    pub payload_bytes: u64,
    /// Bytes of frames, damaged ones included.
    pub frame_bytes: u64,
    /// Positions that are not readable.
    pub damaged: Vec<Range<Position>>,
    /// Stamps of the first and the last intact record.
    pub stamps_ms: Option<[u64; 2]>,
    /// The log freed the segment while it was read: what is missing is no damage.
    pub freed: bool,
}

impl Inspection {
    /// Looks at a directory.
    ///
    /// # Errors
    /// [`Error::Io`]. What is wrong with a single file is no error but told in its entry, except for a newer version of the cursors.
    pub fn open(directory: impl AsRef<Path>) -> Result<Inspection> {
        Inspection::on(Arc::new(FileStorage::open_read_only(directory)?))
    }

    /// Looks at a storage of the caller's.
    ///
    /// # Errors
    /// As [`Inspection::open`].
    pub fn on(storage: Arc<dyn Storage>) -> Result<Inspection> {
        let names = storage.list().map_err(|error| Error::io("list", storage.location(), error))?;
        let contents = Contents::read(&*storage, &names, CURSORS)?;
        let cursors = match &contents {
            None => CursorsState::Missing,
            Some(Contents { newest: None, .. }) => CursorsState::Damaged,
            Some(_) => CursorsState::Saved,
        };
        let saved = contents.and_then(|contents| contents.newest);
        let log_id = saved.as_ref().map(|(saved, _)| saved.log_id);
        let mut saved = saved.map_or_else(Saved::default, |(saved, _)| saved);
        if let Ok(Some(Contents { newest: Some((notes, _)), .. })) = Contents::read(&*storage, &names, NOTES)
        {
            saved.add_notes(&notes, Position::MAX);
        }
        let consumers = saved.consumers.into_iter().map(|state| ConsumerEntry {
            name: state.name,
            acknowledged: state.acknowledged,
            ahead: state.ahead.into_iter().map(|(start, end)| start..end).collect(),
            dropped: state.dropped,
        });
        let mut inspection = Inspection {
            log_id,
            cursors,
            durable: saved.hint.durable,
            dropped_below: saved.dropped_below,
            consumers: consumers.collect(),
            segments: Vec::new(),
            spares: Vec::new(),
            others: Vec::new(),
            storage,
        };
        inspection.look_at_files(names)?;
        Ok(inspection)
    }

    fn look_at_files(&mut self, mut names: Vec<String>) -> Result<()> {
        names.sort_unstable();
        for name in names {
            if let Some(number) = file_number(&name) {
                self.segments.extend(self.entry(name, number)?);
            } else if name.starts_with(SPARE_PREFIX) {
                let bytes = self.storage.open(&name).and_then(|file| file.bytes());
                self.spares.push((name, bytes.unwrap_or(0)));
            } else if ![LOCK, CURSORS, CURSORS_NEW, NOTES, NOTES_NEW].contains(&name.as_str())
                || name.ends_with(DAMAGED_SUFFIX)
                || name.ends_with(NEW_SUFFIX)
            {
                self.others.push(name);
            }
        }
        let good = |entry: &&SegmentEntry| entry.state == SegmentState::Good;
        if self.log_id.is_none() {
            let first = self.segments.iter().find(good);
            let header = first.map(|entry| self.header(&entry.name)).transpose()?.flatten();
            self.log_id = header.map(|header| header.log_id);
        }
        let mut limit = None;
        for entry in self.segments.iter_mut().rev().filter(|entry| entry.state == SegmentState::Good) {
            if limit.is_some_and(|limit| entry.begins >= limit) {
                entry.state = SegmentState::Superseded;
                continue;
            }
            entry.ends = limit;
            limit = Some(entry.begins);
        }
        Ok(())
    }

    /// What the header says. `None` if the file went away meanwhile.
    fn entry(&self, name: String, number: u64) -> Result<Option<SegmentEntry>> {
        let gone = |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
        let file_bytes = match self.storage.open(&name).and_then(|file| file.bytes()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("measure", name, error)),
        };
        let unreadable = |state| SegmentEntry {
            name: name.clone(),
            number,
            file_bytes,
            begins: 0,
            ends: None,
            created_ms: 0,
            state,
        };
        Ok(Some(match self.header(&name) {
            Err(Error::NewerVersion { .. }) => unreadable(SegmentState::Newer),
            Err(error) if gone(&error) => return Ok(None),
            Err(error) => return Err(error),
            Ok(None) if self.is_blank(&name)? => unreadable(SegmentState::Empty),
            Ok(None) => unreadable(SegmentState::Unreadable),
            Ok(Some(header)) => {
                let foreign = self.log_id.is_some_and(|id| id != header.log_id);
                let state = match (foreign, header.number == number) {
                    (true, _) => SegmentState::Foreign,
                    (false, true) => SegmentState::Good,
                    // A recycled file under its new name, whose own header never arrived.
                    (false, false) => SegmentState::Empty,
                };
                SegmentEntry { begins: header.base, created_ms: header.created_ms, ..unreadable(state) }
            }
        }))
    }

    fn header_block(&self, name: &str) -> Result<Vec<u8>> {
        let mut block = vec![0; HEADER_BLOCK as usize];
        let read = self.storage.open(name).and_then(|file| file.read_at(&mut block, 0));
        let count = read.map_err(|error| Error::io("read", name, error))?;
        block.truncate(count);
        Ok(block)
    }

    fn header(&self, name: &str) -> Result<Option<SegmentHeader>> {
        SegmentHeader::decode(&self.header_block(name)?, name)
    }

    fn is_blank(&self, name: &str) -> Result<bool> {
        Ok(self.header_block(name)?.iter().all(|&byte| byte == 0))
    }

    /// Reads a segment from end to end, checks every frame, and gives each record and each gap to `visit` until it breaks.
    /// Behind the last intact frame of the newest segment is its unused part, and in it whatever a crash tore: that is no damage.
    ///
    /// # Errors
    /// [`Error::Io`]: also for a device that cannot read, which is not taken for damage.
    pub fn read(
        &self,
        entry: &SegmentEntry,
        visit: &mut dyn FnMut(Item) -> ControlFlow<()>,
    ) -> Result<SegmentReport> {
        let mut report = SegmentReport { positions: entry.begins..entry.begins, ..SegmentReport::default() };
        let file = self.storage.open(&entry.name).map_err(|error| Error::io("open", &entry.name, error))?;
        let Some(header) = self.header(&entry.name)?.filter(|header| header.number == entry.number) else {
            report.freed = entry.state == SegmentState::Good;
            return Ok(report);
        };
        let limit = entry.ends.unwrap_or(Position::MAX);
        let bytes = file.bytes().map_err(|error| Error::io("measure", &entry.name, error))?;
        let segment = Segment::new(header, file, bytes, Extent { end: limit, bytes });
        let mut reader = SegmentReader::new(&segment, segment.find(header.base), bytes, false);
        loop {
            let (item, end) = match reader.step()? {
                Step::Frame(_, header) if header.kind == Kind::Mark => continue,
                Step::Frame(offset, header) => {
                    let (position, stamp_ms) = (reader.position(&header), segment.stamp(header.delta_ms));
                    if position >= limit {
                        break;
                    }
                    report.records += 1;
                    report.payload_bytes += header.length as u64;
                    let first = report.stamps_ms.map_or(stamp_ms, |[first, _]| first);
                    report.stamps_ms = Some([first, stamp_ms]);
                    report.frame_bytes = offset + header.frame_bytes() as u64 - HEADER_BLOCK;
                    let payload = reader.payload(offset, &header);
                    (Item::Record(Record { position, stamp_ms, payload }), position + 1)
                }
                Step::Damage(positions) => {
                    let positions = positions.start..positions.end.min(limit);
                    report.damaged.push(positions.clone());
                    let end = positions.end;
                    (Item::Gap(Gap { positions, reason: GapReason::Damaged }), end)
                }
                Step::End => break,
            };
            report.positions.end = end;
            if visit(item).is_break() {
                return Ok(report);
            }
        }
        if let Some(limit) = entry.ends.filter(|&limit| report.positions.end < limit) {
            let positions = report.positions.end..limit;
            report.damaged.push(positions.clone());
            report.positions.end = limit;
            let _ = visit(Item::Gap(Gap { positions, reason: GapReason::Damaged }));
        }
        if !report.damaged.is_empty() {
            // The file may have become another segment while it was read.
            let now = self.header(&entry.name).ok().flatten();
            report.freed = now.is_none_or(|now| now.salt != header.salt);
        }
        Ok(report)
    }
}
