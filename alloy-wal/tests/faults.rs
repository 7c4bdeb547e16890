//! A failing disk: the log survives a failure or says that it failed; it never promises what is not so.

mod common;

use std::io::ErrorKind;

use std::sync::Arc;

use alloy_wal::conformance::{append, payload, read_all, small_options};
use alloy_wal::{Crash, Error, FaultyStorage, Item, Log, Operation, Options, Read, Wal};
use common::{Run, assert_records};

#[test]
fn any_single_failed_call_is_survived() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for call in 0..250 {
            println!("{kind:?} at call {call}");
            let mut run = Run::small(3);
            run.storage.fail_call(call, kind);
            let mut opened = run.open();
            if !opened {
                run.log = None;
                opened = run.open();
            }
            assert!(opened, "one failure is over by now");
            let errors: Vec<Error> = (0..150).filter_map(|_| run.step().err()).collect();
            assert!(errors.len() <= 1, "one failure, one error: {errors:?}");
            // A call that so many steps do not come to does not fail later either.
            run.storage.heal();
            run.log().sync().expect("the log still works");
            run.step().expect("the log still works");
            run.crash_and_check(Crash::Power);
        }
    }
}

#[test]
fn when_every_nth_call_fails_promises_are_kept_and_errors_are_told() {
    for nth in 1..60 {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            println!("{kind:?} at every {nth}th call");
            let mut run = Run::small(nth);
            assert!(run.open());
            run.storage.fail_every(nth, kind);
            for _ in 0..200 {
                let _ = run.step();
            }
            run.crash_and_check(Crash::Power);
        }
    }
}

#[test]
fn a_failed_sync_is_survived_by_writing_the_records_elsewhere() {
    let mut run = Run::small(1);
    assert!(run.open());
    let log = run.log();
    append(&*log, 10).expect("room");
    log.sync().expect("the disk works");
    append(&*log, 10).expect("room");
    run.storage.fail_operation(Operation::Sync, ErrorKind::Other, 1);
    let watermarks = log.sync().expect("survived");
    assert_eq!(watermarks.durable, 20);
    assert_eq!(log.stats().storage_failures, 1);
    append(&*log, 5).expect("room");
    log.sync().expect("the disk works");
    assert_records(&read_all(&*log, 0).expect("readable"), 0..25);
    run.promises.appended = 25;
    run.promises.durable = 25;
    // The storage has forgotten the ten records of the failed sync: only their second copy is there.
    run.crash_and_check(Crash::Power);
    assert!(run.log().recovery().damaged.is_empty());
}

#[test]
fn a_failed_write_is_survived_by_writing_elsewhere() {
    let mut run = Run::small(1);
    assert!(run.open());
    let log = run.log();
    append(&*log, 10).expect("room");
    log.write().expect("the disk works");
    append(&*log, 10).expect("room");
    run.storage.fail_operation(Operation::Write, ErrorKind::Other, 1);
    assert_eq!(log.write().expect("survived").written, 20);
    assert_records(&read_all(&*log, 0).expect("readable"), 0..20);
}

#[test]
fn a_disk_that_cannot_sync_at_all_fails_the_log_for_good() {
    let mut run = Run::small(1);
    assert!(run.open());
    let log = run.log();
    append(&*log, 10).expect("room");
    log.sync().expect("the disk works");
    append(&*log, 10).expect("room");
    run.storage.fail_operation(Operation::Sync, ErrorKind::Other, u64::MAX);
    let seen = log.watermarks();
    assert!(log.sync().expect_err("no sync").is_failed());
    run.storage.heal();
    assert!(log.append(&[b"x"], 0).expect_err("failed").is_failed());
    assert!(log.write().expect_err("failed").is_failed());
    assert!(log.sync().expect_err("failed").is_failed());
    assert!(log.save_cursors().expect_err("failed").is_failed());
    assert_eq!(log.watermarks().durable, seen.durable);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(log.poll_watermarks(&mut context, &log.watermarks()).is_ready(), "waiters learn of it");
    assert_records(&read_all(&*log, 0).expect("readable"), 0..20);
}

#[test]
fn a_full_disk_refuses_without_losing_anything() {
    let mut run = Run::small(1);
    assert!(run.open());
    let log = run.log();
    append(&*log, 10).expect("room");
    log.sync().expect("the disk works");
    let used: u64 = run.storage.files().iter().map(|(_, bytes)| bytes).sum();
    run.storage.set_capacity(Some(used));
    append(&*log, 60).expect("staged in memory");
    let error = log.sync().expect_err("no space");
    assert!(error.is_full(), "{error}");
    let before = log.watermarks();
    assert!(before.written >= 10 && before.staged == 70);
    assert!(log.write().expect_err("still no space").is_full());
    run.storage.set_capacity(None);
    assert_eq!(log.sync().expect("there is space again").durable, 70);
    assert_records(&read_all(&*log, 0).expect("readable"), 0..70);
}

#[test]
fn without_space_for_a_spare_the_log_goes_on_until_it_needs_a_segment() {
    let mut run = Run::small(1);
    assert!(run.open());
    let log = run.log();
    append(&*log, 10).expect("room");
    log.sync().expect("the disk works");
    let used: u64 = run.storage.files().iter().map(|(_, bytes)| bytes).sum();
    run.storage.set_capacity(Some(used + 1000));
    for _ in 0..3 {
        assert!(log.prepare().expect_err("no space for a spare").is_full());
        append(&*log, 1).expect("room");
        log.sync().expect("what is left of the segment is enough");
    }
    run.storage.set_capacity(None);
    log.prepare().expect("there is space again");
    assert!(run.storage.files().iter().any(|(name, _)| name.starts_with("spare-")));
}

#[test]
fn freeing_space_needs_no_space() {
    let mut run = Run::small(1);
    assert!(run.open());
    let log = run.log();
    for _ in 0..4 {
        append(&*log, 50).expect("room");
        log.sync().expect("the disk works");
    }
    run.storage.set_capacity(Some(0));
    let consumer = run.consumer.expect("a consumer");
    log.acknowledge(consumer, 0..200).expect("written");
    let before = log.stats().disk_bytes;
    log.release(0).expect("no space is needed");
    assert!(log.stats().disk_bytes < before);
}

#[test]
fn a_disk_that_stays_full_during_a_failed_sync_fails_nothing_for_good() {
    let mut run = Run::small(1);
    assert!(run.open());
    let log = run.log();
    append(&*log, 10).expect("room");
    log.write().expect("the disk works");
    run.storage.set_capacity(Some(0));
    run.storage.fail_operation(Operation::Sync, ErrorKind::StorageFull, 1);
    assert!(log.sync().expect_err("no space to write elsewhere").is_full());
    assert_eq!(log.watermarks().durable, 0);
    assert!(log.sync().expect_err("the file that failed is not synced again").is_full());
    run.storage.set_capacity(None);
    assert_eq!(log.sync().expect("there is space again").durable, 10);
    run.promises.appended = 10;
    run.promises.durable = 10;
    run.crash_and_check(Crash::Power);
}

#[test]
fn a_failed_save_of_cursors_is_repeated_in_a_new_file() {
    let mut run = Run::small(1);
    assert!(run.open());
    let log = run.log();
    let consumer = run.consumer.expect("a consumer");
    append(&*log, 10).expect("room");
    log.sync().expect("the disk works");
    log.acknowledge(consumer, 0..10).expect("written");
    run.storage.fail_operation(Operation::Sync, ErrorKind::Other, 1);
    log.save_cursors().expect_err("the sync failed");
    assert_eq!(log.cursor(consumer).expect("known").saved, 0);
    log.save_cursors().expect("the disk works");
    assert_eq!(log.cursor(consumer).expect("known").saved, 10);
    let storage = run.storage.restart(Crash::Power);
    let log = alloy_wal::Log::open_on(std::sync::Arc::new(storage), run.options.clone()).expect("opens");
    let consumer = log.consumer("consumer", alloy_wal::Start::Oldest).expect("known");
    assert_eq!(log.cursor(consumer).expect("known").acknowledged, 10);
}

#[test]
fn a_note_counts_after_a_kill_and_never_for_positions_that_are_given_again() {
    let noted = |seed| {
        let mut run = Run::small(seed);
        assert!(run.open());
        let (log, consumer) = (run.log(), run.consumer.expect("a consumer"));
        append(&*log, 10).expect("room");
        log.sync().expect("the disk works");
        append(&*log, 10).expect("room");
        log.write().expect("the disk works");
        log.acknowledge(consumer, 0..15).expect("written");
        log.acknowledge(consumer, 17..20).expect("written");
        log.note_cursors().expect("the disk works");
        run.log = None;
        run
    };
    let stands = |run: &Run| run.log().cursor(run.consumer.expect("a consumer")).expect("known");

    let mut killed = noted(1);
    killed.storage = killed.storage.restart(Crash::Process);
    assert!(killed.open());
    assert_eq!((stands(&killed).acknowledged, stands(&killed).ahead), (15, 3));

    // Power fails, and of what was not synced the device has the notes alone.
    let mut lost = (0..100)
        .find_map(|seed| {
            let mut run = noted(seed);
            let notes = run.storage.content("NOTES").expect("noted");
            run.storage = run.storage.restart(Crash::Power);
            run.storage.put("NOTES", notes);
            assert!(run.open());
            (run.log().watermarks().staged == 10).then_some(run)
        })
        .expect("one of a hundred disks keeps no record that was not synced");
    assert_eq!((stands(&lost).acknowledged, stands(&lost).ahead), (10, 0));
    append(&*lost.log(), 10).expect("room");
    lost.log().sync().expect("the disk works");
    for crash in [Crash::Process, Crash::Power] {
        lost.log = None;
        lost.storage = lost.storage.restart(crash);
        assert!(lost.open());
        assert_eq!((stands(&lost).acknowledged, stands(&lost).lag_records), (10, 10), "other records now");
    }
}

#[test]
fn a_consumer_made_again_does_not_begin_where_its_namesake_stood() {
    let mut run = Run::small(1);
    assert!(run.open());
    let (log, consumer) = (run.log(), run.consumer.expect("a consumer"));
    append(&*log, 10).expect("room");
    log.write().expect("the disk works");
    log.acknowledge(consumer, 0..10).expect("written");
    log.note_cursors().expect("the disk works");
    log.remove_consumer(consumer).expect("the disk works");
    log.consumer("consumer", alloy_wal::Start::Oldest).expect("made again");
    drop(log);
    run.log = None;
    run.storage = run.storage.restart(Crash::Process);
    assert!(run.open());
    let consumer = run.consumer.expect("a consumer");
    assert_eq!(run.log().cursor(consumer).expect("known").acknowledged, 0);
}

#[test]
fn a_bad_sector_is_an_error_until_the_caller_gives_it_up_and_then_costs_its_records() {
    let storage = FaultyStorage::new(1);
    let options = Options { segment_bytes: 256 << 10, max_bytes: 4 << 20, cache_bytes: 0, ..small_options() };
    let log = Log::open_on(Arc::new(storage.clone()), options).expect("opens");
    for _ in 0..20 {
        append(&log, 50).expect("room");
        log.sync().expect("the disk works");
    }
    let name = "00000000000000000001.wal";
    storage.fail_reads(name, 40_960..45_056);
    for _ in 0..5 {
        assert!(read_all(&log, 0).is_err(), "it may be an outage");
    }
    let items = log.read_over_unreadable(0, Read { items: usize::MAX, bytes: usize::MAX }).expect("given up");
    let lost: Vec<_> = items.iter().filter(|item| matches!(item, Item::Gap(_))).collect();
    let [Item::Gap(gap)] = lost[..] else { panic!("{lost:?}") };
    let block = storage.content(name).expect("there")[40_960..45_056].to_vec();
    let inside = |position: &u64| block.windows(8).any(|bytes| bytes == &payload(*position)[..8]);
    assert!(
        gap.positions.clone().count() >= (0..1000).filter(inside).count()
            && gap.positions.end - gap.positions.start < 200
    );
    for item in &items {
        let Item::Record(record) = item else { continue };
        assert_eq!(record.payload, payload(record.position));
    }
    storage.heal();
    assert_records(&read_all(&log, 0).expect("the outage is over"), 0..1000);
}

#[test]
fn a_storage_that_fails_at_once_is_an_error_and_no_panic() {
    for call in 0..8 {
        let storage = FaultyStorage::new(0);
        storage.fail_operation(Operation::Create, ErrorKind::PermissionDenied, 1);
        storage.crash_at(call);
        let opened =
            alloy_wal::Log::open_on(std::sync::Arc::new(storage), alloy_wal::conformance::small_options());
        assert!(matches!(opened, Err(Error::Io { .. })));
    }
}
