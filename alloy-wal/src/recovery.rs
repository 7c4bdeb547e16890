//! From a directory to an ordered list of segments: cut a torn tail, step over rot, report both.
//!
//! Only what was written after the last known durable position is looked at, so opening costs the tail and not the log.
//! Three rules:
//! - A segment begins where its header says; what an older one holds from there on is superseded. (After a failed sync the
//!   log writes the records in question once more, into a new segment.)
//! - From the durable position on, a batch that is not whole is erased, so that it is not there whole.
//! - What survives is synced, and never appended to: the next write opens a new segment.

use std::collections::VecDeque;
use std::ops::Range;

use crate::consumer::Consumers;
use crate::cursors::{
    CURSORS, CURSORS_NEW, Contents, CursorFile, Found, Hint, NOTES, NOTES_NEW, Saved, remove_notes,
};
use crate::frame::{ALIGNMENT, FRAME_HEADER, Kind};
use crate::reader::{SegmentReader, Step};
use crate::segment::{Extent, HEADER_BLOCK, IndexEntry, Segment, SegmentHeader, file_name, file_number};
use crate::storage::{SegmentFile, Storage, file::LOCK};
use crate::{Error, Options, Position, Result};

/// Files of prepared segments begin with it.
pub(crate) const SPARE_PREFIX: &str = "spare-";
/// A segment that is not complete yet ends with it.
pub(crate) const NEW_SUFFIX: &str = ".new";
/// What an unreadable segment's name gets, to be looked at by a human.
pub(crate) const DAMAGED_SUFFIX: &str = ".damaged";

/// Bytes written at once when the tail is written once more.
const REPEAT_BYTES: usize = 1 << 20;

/// What opening the log found. All of it is worth a line in the program's log if it is not the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// The positions the log holds, gaps included.
    pub positions: Range<Position>,
    /// Segments.
    pub segments: u64,
    /// Bytes of segments that were read to find the end.
    pub scanned_bytes: u64,
    /// Positions that were durable once and are gone, or lie between records that survived.
    pub damaged: Vec<Range<Position>>,
    /// Records that were never durable and were cut off because their batch was not whole: a crash in the middle of a write.
    pub cut_records: u64,
    /// Segments whose header was unreadable; they are kept under a name ending in `.damaged` until somebody removes them.
    pub unreadable_segments: Vec<String>,
    /// `CURSORS` was there but unreadable, or missing beside segments: all consumers are forgotten. Consumers created from now on start
    /// at the oldest record, whatever they ask for.
    pub cursors_lost: bool,
    /// Files that are not the log's. They are left alone.
    pub foreign_files: Vec<String>,
}

/// A prepared segment file.
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) file: Box<dyn SegmentFile>,
}

/// Everything a log needs to go on.
pub(crate) struct Recovered {
    pub(crate) log_id: u64,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) next: Position,
    pub(crate) next_number: u64,
    pub(crate) spares: Vec<Spare>,
    pub(crate) consumers: Consumers,
    pub(crate) cursor_file: CursorFile,
    pub(crate) dropped_below: Position,
    pub(crate) report: Recovery,
}

/// A frame found in the tail.
struct Seen {
    position: Position,
    offset: u64,
    end: u64,
    kind: Kind,
}

/// A segment of the tail, walked through.
#[derive(Default)]
struct Tail {
    frames: Vec<Seen>,
    damage: Vec<Range<Position>>,
    durable: Position,
}

pub(crate) fn recover(storage: &dyn Storage, options: &Options) -> Result<Recovered> {
    let mut report = Recovery::default();
    let names = storage.list().map_err(|error| Error::io("list", storage.location(), error))?;
    let (saved, cursor_file) = match CursorFile::find(storage, &names)? {
        Found::Saved(saved, file) => (Some(saved), Some(file)),
        Found::Damaged => {
            report.cursors_lost = true;
            (None, None)
        }
        Found::Missing => (None, None),
    };
    let mut log_id = saved.as_ref().map(|saved| saved.log_id);
    let found = find_segments(storage, &names, &mut log_id, &mut report)?;
    report.cursors_lost |= saved.is_none() && !found.is_empty();
    // Above every number ever seen, so that neither a saved hint nor a quarantined file is mistaken for a new segment.
    let numbers = names.iter().filter_map(|name| file_number(name.trim_end_matches(DAMAGED_SUFFIX)));
    let hinted = saved.as_ref().map_or(0, |saved| saved.hint.segment);
    let next_number = numbers.max().unwrap_or(0).max(hinted) + 1;
    let mut segments = supersede(storage, found)?;

    let mut saved = saved.unwrap_or_default();
    let log_id = log_id.unwrap_or_else(|| storage.salt());
    let newest_claim = segments.iter().map(|segment| segment.header.durable).max().unwrap_or(0);
    let acknowledged = Consumers::restore(saved.consumers.clone()).acknowledged_end();
    let durable = saved.hint.durable.max(newest_claim).max(acknowledged);
    let end = repair_tail(storage, &mut segments, saved.hint, durable, &mut report)?;
    let next = end.max(durable);
    if end < next && !segments.is_empty() {
        report.damaged.push(end..next);
    }
    report.segments = segments.len() as u64;
    report.positions = segments.front().map_or(next, Segment::base)..next;

    let spares = find_spares(storage, &names, options)?;
    let mut cursor_file = match cursor_file {
        Some(file) => file,
        None => CursorFile::create(
            storage,
            Saved { log_id, hint: Hint { durable: next, ..saved.hint }, ..saved.clone() },
        )?,
    };
    // Everything below `next` is durable by now, and no position from there on has been given.
    if let Some(notes) = Contents::read(storage, &names, NOTES)? {
        if notes.newest.is_some_and(|(notes, _)| saved.add_notes(&notes, next)) {
            cursor_file.save(storage, saved.clone())?;
        }
        remove_notes(storage)?;
    }
    let consumers = Consumers::restore(saved.consumers);
    Ok(Recovered {
        log_id,
        segments,
        next,
        next_number,
        spares,
        consumers,
        cursor_file,
        dropped_below: saved.dropped_below,
        report,
    })
}

type Candidate = (SegmentHeader, Box<dyn SegmentFile>);

/// Opens every segment with a readable header, oldest first.
fn find_segments(
    storage: &dyn Storage,
    names: &[String],
    log_id: &mut Option<u64>,
    report: &mut Recovery,
) -> Result<Vec<Candidate>> {
    let mut numbered = Vec::new();
    for name in names {
        match file_number(name) {
            Some(number) => numbered.push((number, name)),
            None if name == CURSORS_NEW || name == NOTES_NEW || name.ends_with(NEW_SUFFIX) => {
                storage.remove(name).map_err(|error| Error::io("remove", name, error))?;
            }
            None if [LOCK, CURSORS, NOTES].contains(&name.as_str())
                || name.starts_with(SPARE_PREFIX)
                || name.ends_with(DAMAGED_SUFFIX) => {}
            None => report.foreign_files.push(name.clone()),
        }
    }
    numbered.sort_unstable();
    let mut found: Vec<Candidate> = Vec::new();
    for (number, name) in numbered {
        let file = storage.open(name).map_err(|error| Error::io("open", name, error))?;
        let mut block = vec![0; HEADER_BLOCK as usize];
        let count = file.read_at(&mut block, 0).map_err(|error| Error::io("read", name, error))?;
        block.truncate(count);
        match SegmentHeader::decode(&block, name)? {
            Some(header) if *log_id.get_or_insert(header.log_id) != header.log_id => {
                let expected = log_id.unwrap_or_default();
                return Err(Error::Foreign { name: name.clone(), found: header.log_id, expected });
            }
            Some(header) if header.number == number => found.push((header, file)),
            // A prepared or recycled file under its new name, whose header never reached the device: nothing was durable.
            Some(_) => storage.remove(name).map_err(|error| Error::io("remove", name, error))?,
            None if block.iter().all(|&byte| byte == 0) => {
                storage.remove(name).map_err(|error| Error::io("remove", name, error))?;
            }
            None => {
                let kept = format!("{name}{DAMAGED_SUFFIX}");
                storage.rename(name, &kept).map_err(|error| Error::io("rename", name, error))?;
                report.unreadable_segments.push(kept);
            }
        }
    }
    Ok(found)
}

/// Removes segments that newer ones hold once more, and says where each of the others ends at the latest.
fn supersede(storage: &dyn Storage, found: Vec<Candidate>) -> Result<VecDeque<Segment>> {
    let mut segments = VecDeque::new();
    let mut limit = Position::MAX;
    for (header, file) in found.into_iter().rev() {
        let name = file_name(header.number);
        if header.base >= limit {
            storage.remove(&name).map_err(|error| Error::io("remove", name, error))?;
            continue;
        }
        let bytes = file.bytes().map_err(|error| Error::io("measure", &name, error))?;
        segments.push_front(Segment::new(header, file, bytes, Extent { end: limit, bytes }));
        limit = header.base;
    }
    Ok(segments)
}

/// Walks from the last durable position to the end, repairs what it finds and returns where the log ends.
fn repair_tail(
    storage: &dyn Storage,
    segments: &mut VecDeque<Segment>,
    hint: Hint,
    mut durable: Position,
    report: &mut Recovery,
) -> Result<Position> {
    // A segment is walked if it may hold records that are not known to be durable, and the last one always.
    let first = segments
        .partition_point(|segment| segment.extent().end <= durable)
        .min(segments.len().saturating_sub(1));
    let mut tails = Vec::new();
    for segment in segments.iter().skip(first) {
        let start = hinted(segment, hint).unwrap_or_else(|| segment.find(segment.base()));
        let tail = walk(segment, start)?;
        report.scanned_bytes += segment.file_bytes.saturating_sub(start.offset);
        durable = durable.max(tail.durable);
        tails.push((start, tail));
    }
    for (segment, (start, tail)) in segments.iter().skip(first).zip(tails) {
        settle(segment, start, &tail, durable, report)?;
    }
    trim(storage, segments, first)?;
    let mut end = segments.front().map_or(0, Segment::base);
    for segment in segments.iter() {
        if segment.base() > end {
            report.damaged.push(end..segment.base());
        }
        end = segment.extent().end;
    }
    Ok(end)
}

/// Where the hint says that the durable records end, if it speaks of this segment and can be right.
fn hinted(segment: &Segment, hint: Hint) -> Option<IndexEntry> {
    let right = segment.header.number == hint.segment
        && (segment.base()..=segment.extent().end).contains(&hint.durable)
        && (HEADER_BLOCK..=segment.file_bytes).contains(&hint.offset)
        && hint.offset.is_multiple_of(ALIGNMENT as u64);
    let entry =
        IndexEntry { position: hint.durable, offset: hint.offset, stamp_ms: segment.header.created_ms };
    right.then_some(entry)
}

/// Erases torn batches, makes what is left durable, and notes where it ends.
fn settle(
    segment: &Segment,
    start: IndexEntry,
    tail: &Tail,
    durable: Position,
    report: &mut Recovery,
) -> Result<()> {
    let erased = erase_torn(segment, tail, durable)?;
    report.cut_records += erased.len() as u64;
    let kept = tail.frames.iter().rev().find(|seen| !erased.contains(&seen.offset));
    let (end, bytes) = kept.map_or((start.position, start.offset), |seen| (seen.position + 1, seen.end));
    for range in tail.damage.iter().filter(|range| range.end <= end) {
        segment.count_damage(range);
        report.damaged.push(range.clone());
    }
    segment.set_extent(Extent { end, bytes });
    let fresh = tail.frames.iter().find(|seen| seen.position >= durable);
    make_durable(segment, fresh.map_or(bytes, |seen| seen.offset)..bytes)
}

/// Removes segments without records from the end of the log, and gives back the unused part of the last one that was walked.
/// The only segment stays: its header says where the log begins.
fn trim(storage: &dyn Storage, segments: &mut VecDeque<Segment>, first: usize) -> Result<()> {
    while segments.len() > 1 && segments.back().is_some_and(|last| last.extent().end == last.base()) {
        let Some(empty) = segments.pop_back() else { break };
        storage.remove(&empty.name).map_err(|error| Error::io("remove", &empty.name, error))?;
    }
    let walked = segments.len() > first;
    if let Some(last) = segments.back_mut().filter(|last| walked && last.file_bytes > last.extent().bytes) {
        let bytes = last.extent().bytes;
        last.file.truncate(bytes).map_err(|error| Error::io("shorten", &last.name, error))?;
        last.file.sync().map_err(|error| Error::io("sync", &last.name, error))?;
        last.file_bytes = bytes;
    }
    storage.sync_directory().map_err(|error| Error::io("sync", storage.location(), error))
}

/// Syncs a segment of the tail. What is not known to be durable is written once more before: if the last process died after a
/// failed sync, the operating system counts those bytes as clean, and a sync alone would say `Ok` for nothing.
fn make_durable(segment: &Segment, range: Range<u64>) -> Result<()> {
    let mut buffer = vec![0; REPEAT_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let wanted = (range.end - offset).min(REPEAT_BYTES as u64) as usize;
        let read = segment.file.read_at(&mut buffer[..wanted], offset);
        let count = read.map_err(|error| Error::io("read", &segment.name, error))?;
        if count == 0 {
            break;
        }
        let written = segment.file.write_at(&buffer[..count], offset);
        written.map_err(|error| Error::io("write to", &segment.name, error))?;
        offset += count as u64;
    }
    segment.file.sync().map_err(|error| Error::io("sync", &segment.name, error))
}

/// Reads all frames from `start` on that belong to this segment.
fn walk(segment: &Segment, start: IndexEntry) -> Result<Tail> {
    let limit = segment.extent().end;
    let mut tail = Tail::default();
    let mut reader = SegmentReader::new(segment, start, segment.file_bytes, false);
    loop {
        match reader.step()? {
            Step::Frame(offset, header) if header.kind == Kind::Mark => {
                let payload = reader.payload(offset, &header);
                let durable = payload.first_chunk().map_or(0, |bytes| Position::from_le_bytes(*bytes));
                tail.durable = tail.durable.max(durable);
            }
            Step::Frame(offset, header) => {
                let position = reader.position(&header);
                if position >= limit {
                    return Ok(tail);
                }
                let end = offset + header.frame_bytes() as u64;
                segment.note(IndexEntry { position, offset, stamp_ms: segment.stamp(header.delta_ms) });
                tail.frames.push(Seen { position, offset, end, kind: header.kind });
            }
            Step::Damage(positions) => tail.damage.push(positions.start..positions.end.min(limit)),
            Step::End => return Ok(tail),
        }
    }
}

/// Overwrites the headers of frames from `durable` on whose batch is not whole; returns their offsets.
fn erase_torn(segment: &Segment, tail: &Tail, durable: Position) -> Result<std::collections::HashSet<u64>> {
    let mut torn = Vec::new();
    let mut open: Vec<&Seen> = Vec::new();
    for seen in &tail.frames {
        let follows = open.last().is_some_and(|last| last.position + 1 == seen.position);
        let starts = matches!(seen.kind, Kind::Single | Kind::First);
        if starts || !follows {
            torn.append(&mut open);
        }
        match (starts, seen.kind.ends_batch()) {
            (true, true) => {}
            (true, false) => open.push(seen),
            (false, _) if !follows => torn.push(seen),
            (false, true) => open.clear(),
            (false, false) => open.push(seen),
        }
    }
    torn.append(&mut open);
    torn.retain(|seen| seen.position >= durable);
    for seen in &torn {
        let erased = segment.file.write_at(&[0; FRAME_HEADER], seen.offset);
        erased.map_err(|error| Error::io("erase a torn batch in", &segment.name, error))?;
    }
    Ok(torn.into_iter().map(|seen| seen.offset).collect())
}

/// Keeps the prepared files that are usable, removes the others.
fn find_spares(storage: &dyn Storage, names: &[String], options: &Options) -> Result<Vec<Spare>> {
    let mut spares = Vec::new();
    for name in names.iter().filter(|name| name.starts_with(SPARE_PREFIX)) {
        let file = storage.open(name).map_err(|error| Error::io("open", name, error))?;
        let bytes = file.bytes().map_err(|error| Error::io("measure", name, error))?;
        // A spare may have been a segment whose name did not survive. IMPORTANT: its header must not come back to life under the
        // number that it had, which is free again.
        let wipe = || file.write_at(&[0; HEADER_BLOCK as usize], 0).and_then(|()| file.sync());
        if bytes == options.segment_bytes && spares.len() < options.spares && wipe().is_ok() {
            spares.push(Spare { name: name.clone(), file });
        } else {
            storage.remove(name).map_err(|error| Error::io("remove", name, error))?;
        }
    }
    Ok(spares)
}
