//! The contract of [`Wal`] as tests, for every implementation of it.
//!
//! Implement [`Subject`] for yours and call [`check`]; each function is named after the line of the contract it tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::{Error, Gap, GapReason, Item, Options, Policy, Position, Read, Record, Result, Start, Wal};

/// What survives the end of a process of the implementation under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// Nothing: the log is in memory.
    Nothing,
    /// What was written.
    Process,
    /// [`Subject::restart`] loses power: what is durable survives.
    Power,
}

/// A way to make logs of one implementation.
pub trait Subject {
    /// Makes a new, empty log with these options and forgets the last one.
    ///
    /// # Errors
    /// Those of the implementation.
    fn create(&mut self, options: Options) -> Result<Arc<dyn Wal>>;

    /// Ends the process of the last log without warning, and opens its files again. The caller has dropped it.
    ///
    /// # Errors
    /// Those of the implementation.
    fn restart(&mut self, options: Options) -> Result<Arc<dyn Wal>>;

    /// What [`restart`](Subject::restart) leaves.
    fn survives(&self) -> Survives;
}

/// Small segments and limits, so that every test meets several segments.
pub fn small_options() -> Options {
    Options {
        segment_bytes: 16 << 10,
        max_bytes: 256 << 10,
        max_record_bytes: 4 << 10,
        max_staged_bytes: 64 << 10,
        max_unsynced_bytes: 16 << 10,
        cache_bytes: 4 << 10,
        window: 64,
        ..Options::default()
    }
}

/// Tests every line of the contract.
///
/// # Errors
/// An error of the log where the contract allows none. Panics where it is broken.
pub fn check(subject: &mut dyn Subject) -> Result<()> {
    line_1_positions_are_dense_and_ordered(subject)?;
    line_2_append_never_waits_and_fails_without_a_trace(subject)?;
    line_3_write_and_sync_cover_what_was_staged_before(subject)?;
    line_4_what_was_promised_survives_and_batches_are_whole(subject)?;
    line_5_read_returns_written_records_as_appended(subject)?;
    line_6_nothing_unacknowledged_is_dropped_but_by_a_limit(subject)?;
    line_7_acknowledging_is_idempotent_and_bounded(subject)?;
    line_9_wakers_are_woken(subject)
}

/// A payload that says which record it is.
pub fn payload(position: Position) -> Vec<u8> {
    let length = (position as usize).wrapping_mul(7919) % 700;
    let mut bytes = position.to_le_bytes().to_vec();
    bytes.resize(8 + length, position as u8);
    bytes
}

/// Appends `count` records, one batch each.
///
/// # Errors
/// That of `append`.
pub fn append(log: &dyn Wal, count: u64) -> Result<()> {
    for _ in 0..count {
        let position = log.watermarks().staged;
        let appended = log.append(&[&payload(position)], 1000 + position)?;
        assert_eq!(appended, position..position + 1);
    }
    Ok(())
}

/// Reads everything from `from` on in small steps, and asserts that it is complete and in order.
///
/// # Errors
/// That of `read`.
pub fn read_all(log: &dyn Wal, from: Position) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut next = from;
    loop {
        let read = log.read(next, Read { items: 7, bytes: 3000 })?;
        if read.is_empty() {
            return Ok(items);
        }
        for item in read {
            let start = match &item {
                Item::Record(record) => record.position,
                Item::Gap(gap) => gap.positions.start,
            };
            assert_eq!(start, next, "items follow each other");
            assert!(item.next() > next, "items are not empty");
            next = item.next();
            items.push(item);
        }
    }
}

/// Asserts that the record is the one that `append` made.
pub fn assert_genuine(record: &Record) {
    assert_eq!(record.payload, payload(record.position), "record {}", record.position);
    assert_eq!(record.stamp_ms, 1000 + record.position, "record {}", record.position);
}

fn assert_records(items: &[Item], count: usize) {
    for item in items {
        let Item::Record(record) = item else { panic!("{item:?} where records were expected") };
        assert_genuine(record);
    }
    assert_eq!(items.len(), count);
}

fn line_1_positions_are_dense_and_ordered(subject: &mut dyn Subject) -> Result<()> {
    let log = subject.create(small_options())?;
    assert_eq!(log.append(&[b"a"], 0)?, 0..1);
    assert_eq!(log.append(&[b"b", b"c", b"d"], 0)?, 1..4);
    assert_eq!(log.append(&[], 0)?, 4..4);
    assert_eq!(log.append(&[b""], 0)?, 4..5);
    Ok(())
}

fn line_2_append_never_waits_and_fails_without_a_trace(subject: &mut dyn Subject) -> Result<()> {
    let options = small_options();
    let log = subject.create(options.clone())?;
    let too_large = vec![0; options.max_record_bytes + 1];
    let error = log.append(&[b"fits", &too_large], 0).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { .. }) && !error.is_full());
    assert_eq!(log.watermarks().staged, 0);
    append(&*log, 3)?;
    let full = loop {
        let before = log.watermarks();
        if let Err(error) = append(&*log, 1) {
            assert_eq!(log.watermarks(), before);
            break error;
        }
        log.write()?;
    };
    assert!(full.is_full());
    let end = log.sync()?.durable;
    assert_records(&read_all(&*log, 0)?, end as usize);
    let consumer = log.consumer("reader", Start::Oldest)?;
    log.acknowledge(consumer, 0..end)?;
    log.release(0)?;
    append(&*log, 3)?;
    log.sync()?;
    let from = log.watermarks().released;
    assert!(from > 0, "all but the newest was freed");
    let items = read_all(&*log, 0)?;
    assert_eq!(items[0], Item::Gap(Gap { positions: 0..from, reason: GapReason::Released }));
    assert_records(&items[1..], (end + 3 - from) as usize);
    Ok(())
}

fn line_3_write_and_sync_cover_what_was_staged_before(subject: &mut dyn Subject) -> Result<()> {
    let log = subject.create(small_options())?;
    append(&*log, 3)?;
    assert_eq!(log.watermarks().written, 0);
    assert!(log.write()?.written >= 3);
    append(&*log, 1)?;
    let watermarks = log.sync()?;
    assert!(watermarks.durable >= 4 && watermarks.durable <= watermarks.written);
    assert!(watermarks.written <= watermarks.staged);
    Ok(())
}

fn line_4_what_was_promised_survives_and_batches_are_whole(subject: &mut dyn Subject) -> Result<()> {
    if subject.survives() == Survives::Nothing {
        return Ok(());
    }
    for rounds in 1..20 {
        let log = subject.create(small_options())?;
        append(&*log, rounds * 5)?;
        let durable = log.sync()?.durable;
        for _ in 0..rounds {
            let first = log.watermarks().staged;
            let batch: Vec<Vec<u8>> = (first..first + 4).map(payload).collect();
            let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
            log.append(&batch, 0)?;
        }
        let written = log.write()?.written;
        log.append(&[b"staged only"], 0)?;
        let promised = if subject.survives() == Survives::Power { durable } else { written };
        drop(log);
        let log = subject.restart(small_options())?;
        assert!(log.watermarks().durable >= promised);
        let records: Vec<Position> = read_all(&*log, 0)?
            .into_iter()
            .filter_map(|item| if let Item::Record(record) = item { Some(record.position) } else { None })
            .collect();
        let kept: Vec<Position> = records.iter().copied().filter(|&position| position < promised).collect();
        assert_eq!(kept, (0..promised).collect::<Vec<_>>());
        for first in (durable..written).step_by(4) {
            let count = records.iter().filter(|&&position| (first..first + 4).contains(&position)).count();
            assert!(count == 0 || count == 4, "{count} of the batch at {first} are there");
        }
        assert!(records.iter().all(|&position| position < written));
    }
    Ok(())
}

fn line_5_read_returns_written_records_as_appended(subject: &mut dyn Subject) -> Result<()> {
    let log = subject.create(small_options())?;
    append(&*log, 5)?;
    assert!(log.read(0, Read::default())?.is_empty(), "staged records are not read");
    log.write()?;
    assert_records(&read_all(&*log, 0)?, 5);
    append(&*log, 120)?;
    log.sync()?;
    assert_records(&read_all(&*log, 0)?, 125);
    assert_records(&read_all(&*log, 60)?, 65);
    assert!(log.read(125, Read::default())?.is_empty());
    assert!(log.read(u64::MAX, Read::default())?.is_empty());
    assert_eq!(log.read(0, Read { items: 3, bytes: usize::MAX })?.len(), 3);
    assert_eq!(log.read(0, Read { items: 0, bytes: 0 })?.len(), 1, "at least one");
    Ok(())
}

fn line_6_nothing_unacknowledged_is_dropped_but_by_a_limit(subject: &mut dyn Subject) -> Result<()> {
    let log = subject.create(Options { policy: Policy::DropOldest, ..small_options() })?;
    let slow = log.consumer("slow", Start::Oldest)?;
    let quick = log.consumer("quick", Start::Oldest)?;
    while log.watermarks().released == 0 {
        append(&*log, 1)?;
        let written = log.sync()?.written;
        log.acknowledge(quick, 0..written)?;
    }
    let released = log.watermarks().released;
    assert_eq!(log.cursor(slow)?.dropped, released);
    assert_eq!(log.cursor(slow)?.acknowledged, released);
    assert_eq!(log.cursor(quick)?.dropped, 0);
    assert_eq!(log.stats().dropped_records, released);
    let items = read_all(&*log, 0)?;
    let gap = Gap { positions: 0..released, reason: GapReason::Dropped };
    assert_eq!(items.first(), Some(&Item::Gap(gap)));
    assert_records(&items[1..], (log.watermarks().written - released) as usize);
    assert_eq!(
        log.release(u64::MAX)?.released,
        released,
        "no age limit, and the slow one still needs the rest"
    );
    Ok(())
}

fn line_7_acknowledging_is_idempotent_and_bounded(subject: &mut dyn Subject) -> Result<()> {
    let options = small_options();
    let log = subject.create(options.clone())?;
    let consumer = log.consumer("c", Start::Oldest)?;
    append(&*log, options.window + 10)?;
    log.write()?;
    log.acknowledge(consumer, 5..7)?;
    log.acknowledge(consumer, 5..6)?;
    assert_eq!(log.cursor(consumer)?.acknowledged, 0);
    assert_eq!(log.cursor(consumer)?.ahead, 2);
    assert_eq!(log.next_unacknowledged(consumer, 5)?, 7);
    log.acknowledge(consumer, 0..5)?;
    assert_eq!(log.cursor(consumer)?.acknowledged, 7);
    let beyond = options.window + 7..options.window + 8;
    assert!(matches!(log.acknowledge(consumer, beyond), Err(Error::Window { .. })));
    let end = log.watermarks().written;
    assert!(matches!(log.acknowledge(consumer, end..end + 1), Err(Error::NotWritten { .. })));
    log.acknowledge(consumer, 9..11)?;
    log.save_cursors()?;
    let cursor = log.cursor(consumer)?;
    assert_eq!((cursor.acknowledged, cursor.saved), (7, 7));
    assert!(log.watermarks().durable >= 11);
    log.acknowledge(consumer, 7..12)?;
    log.note_cursors()?;
    log.acknowledge(consumer, 12..20)?;
    if subject.survives() != Survives::Nothing {
        drop(log);
        let log = subject.restart(options)?;
        let consumer = log.consumer("c", Start::Newest)?;
        let cursor = log.cursor(consumer)?;
        match subject.survives() {
            Survives::Process => assert_eq!((cursor.acknowledged, cursor.ahead), (12, 0)),
            // Of what was noted a power loss may leave anything, and what was saved always.
            _ => assert!([(7, 2), (12, 0)].contains(&(cursor.acknowledged, cursor.ahead)), "{cursor:?}"),
        }
        log.remove_consumer(consumer)?;
        assert!(matches!(log.cursor(consumer), Err(Error::UnknownConsumer)));
    }
    Ok(())
}

/// Counts how often it is woken.
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn line_9_wakers_are_woken(subject: &mut dyn Subject) -> Result<()> {
    let log = subject.create(small_options())?;
    let counter = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = Waker::from(counter.clone());
    let mut context = Context::from_waker(&waker);
    let mut woken = 0;
    let steps: [&dyn Fn() -> Result<()>; 3] =
        [&|| append(&*log, 1), &|| log.write().map(drop), &|| log.sync().map(drop)];
    for step in steps {
        let seen = log.watermarks();
        assert!(log.poll_watermarks(&mut context, &seen).is_pending());
        assert!(log.poll_watermarks(&mut context, &seen).is_pending());
        step()?;
        woken += 1;
        assert_eq!(counter.0.load(Ordering::SeqCst), woken, "woken once");
        assert_eq!(log.poll_watermarks(&mut context, &seen), Poll::Ready(log.watermarks()));
    }
    Ok(())
}
