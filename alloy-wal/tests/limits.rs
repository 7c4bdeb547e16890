//! The log stays inside its budget, and what it costs to stay there is counted.

use std::os::unix::fs::DirEntryExt;
use std::path::Path;

use alloy_wal::conformance::{append, read_all, small_options};
use alloy_wal::{Error, GapReason, Item, Log, Options, Policy, Start, Wal};

fn bytes_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("readable");
    entries.map(|entry| entry.expect("readable").metadata().expect("there").len()).sum()
}

#[test]
fn the_directory_never_grows_beyond_max_bytes() {
    for policy in [Policy::Refuse, Policy::DropOldest] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = Options { policy, spares: 2, ..small_options() };
        let log = Log::open(directory.path(), options.clone()).expect("opens");
        log.consumer("slow", Start::Oldest).expect("created");
        let mut refused = 0;
        for round in 0..400 {
            refused += u64::from(append(&log, 1 + round % 7).is_err());
            log.write().expect("the disk works");
            if round % 5 == 0 {
                log.prepare().expect("the disk works");
            }
            let used = bytes_in(directory.path());
            log.note_cursors().expect("the disk works");
            let used = used.max(bytes_in(directory.path()));
            assert!(used <= options.max_bytes, "{policy:?}: {used} bytes in round {round}");
            assert_eq!(log.stats().disk_bytes, used, "{policy:?}: as told, in round {round}");
        }
        assert_eq!(refused > 0, policy == Policy::Refuse);
        assert_eq!(log.stats().dropped_records > 0, policy == Policy::DropOldest);
    }
}

#[test]
fn the_limit_of_an_open_log_can_change() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = small_options();
    let log = Log::open(directory.path(), options.clone()).expect("opens");
    log.consumer("slow", Start::Oldest).expect("created");
    let fill = || {
        (0..400).map_while(|_| append(&log, 5).and_then(|_| log.write()).ok()).count();
        bytes_in(directory.path())
    };
    let full = fill();
    assert!(full <= options.max_bytes);

    log.set_max_bytes(2 * options.max_bytes).expect("enough");
    let larger = fill();
    assert!(larger > options.max_bytes && larger <= 2 * options.max_bytes, "{full}, then {larger} bytes");

    log.set_max_bytes(options.max_bytes).expect("enough");
    let refused = append(&log, 100).expect_err("it is larger than that");
    assert!(refused.is_full(), "{refused}");
    assert_eq!(bytes_in(directory.path()), larger, "nothing is taken away");
    log.set_max_bytes(options.segment_bytes).expect_err("less than a log needs");
}

#[test]
fn freed_segments_are_used_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options { spares: 2, ..small_options() };
    let log = Log::open(directory.path(), options.clone()).expect("opens");
    let consumer = log.consumer("c", Start::Oldest).expect("created");
    let mut files = std::collections::BTreeSet::new();
    for _ in 0..40 {
        append(&log, 30).expect("room");
        let written = log.sync().expect("the disk works").written;
        log.acknowledge(consumer, 0..written).expect("from the start");
        log.release(0).expect("the disk works");
        let entries = std::fs::read_dir(directory.path()).expect("readable");
        files.extend(entries.map(|entry| entry.expect("readable").ino()));
    }
    assert!(log.watermarks().released > 1000);
    assert!(files.len() < 10, "{} files for 40 segments", files.len());
    assert!(log.stats().disk_bytes <= 6 * options.segment_bytes);
    drop(log);
    let log = Log::open(directory.path(), options).expect("opens");
    let items = read_all(&log, log.watermarks().released).expect("readable");
    assert!(items.iter().all(|item| matches!(item, Item::Record(_))));
}

#[test]
fn old_records_are_dropped_by_age_and_counted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options { max_age_ms: Some(100), ..small_options() };
    let log = Log::open(directory.path(), options).expect("opens");
    let consumer = log.consumer("c", Start::Oldest).expect("created");
    append(&log, 100).expect("room"); // Stamps 1,000 to 1,099.
    log.sync().expect("the disk works");
    log.release(1000).expect("the disk works");
    assert_eq!(log.watermarks().released, 0);
    log.release(1180).expect("the disk works");
    let released = log.watermarks().released;
    assert!(released > 0 && released <= 80, "{released}");
    assert_eq!(log.cursor(consumer).expect("known").dropped, released);
    let items = read_all(&log, 0).expect("readable");
    assert!(matches!(&items[0], Item::Gap(gap) if gap.reason == GapReason::Dropped));
    // A segment that is not full is closed when it is old, so that its records go too.
    append(&log, 1).expect("room");
    log.sync().expect("the disk works");
    log.release(10_000).expect("the disk works");
    assert_eq!(log.watermarks().released, 100);
}

#[test]
fn staging_is_bounded() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = Log::open(directory.path(), small_options()).expect("opens");
    let error = (0..1000).find_map(|_| append(&log, 1).err()).expect("full");
    assert!(matches!(error, Error::Full { .. }) && error.is_full());
    assert!(log.stats().memory_bytes <= small_options().max_staged_bytes as u64);
    log.write().expect("the disk works");
    append(&log, 1).expect("room again");
}

#[test]
fn a_record_larger_than_a_segment_is_refused_and_the_largest_fits() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options { max_record_bytes: 1 << 20, ..small_options() };
    let log = Log::open(directory.path(), options.clone()).expect("opens");
    let largest = options.segment_bytes as usize - 4096 - 24 - 16;
    let error = log.append(&[&vec![1; largest + 1]], 0).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { .. }));
    for _ in 0..3 {
        log.append(&[&vec![1; largest]], 0).expect("fits");
    }
    log.sync().expect("the disk works");
    assert_eq!(log.stats().segments, 3);
    let items = log.read(0, alloy_wal::Read { items: 9, bytes: usize::MAX }).expect("readable");
    assert_eq!(items.len(), 3);
}

#[test]
fn stamps_far_apart_are_kept_exactly() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = Log::open(directory.path(), Options { cache_bytes: 0, ..small_options() }).expect("opens");
    let stamps = [1_700_000_000_000, 0, u64::MAX, 1_700_000_000_000, 1_800_000_000_000];
    for stamp in stamps {
        log.append(&[b"x"], stamp).expect("room");
    }
    log.sync().expect("the disk works");
    let items = read_all(&log, 0).expect("readable");
    let read = items.iter().map(|item| if let Item::Record(record) = item { record.stamp_ms } else { 1 });
    assert_eq!(read.collect::<Vec<_>>(), stamps);
}

#[test]
fn cursors_tell_how_far_behind_a_consumer_is() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = Log::open(directory.path(), small_options()).expect("opens");
    let consumer = log.consumer("c", Start::Oldest).expect("created");
    append(&log, 60).expect("room");
    log.sync().expect("the disk works");
    let whole = log.cursor(consumer).expect("known");
    assert_eq!((whole.lag_records, whole.oldest_stamp_ms), (60, Some(1000)));
    log.acknowledge(consumer, 0..40).expect("written");
    log.acknowledge(consumer, 50..52).expect("written");
    let part = log.cursor(consumer).expect("known");
    assert_eq!((part.lag_records, part.ahead), (18, 2));
    assert!(part.lag_bytes < whole.lag_bytes && part.lag_bytes > 0);
    assert!(part.oldest_stamp_ms.is_some_and(|stamp| stamp <= 1040));
    log.acknowledge(consumer, 40..60).expect("written");
    let done = log.cursor(consumer).expect("known");
    assert_eq!((done.lag_records, done.lag_bytes, done.oldest_stamp_ms), (0, 0, None));
    assert_eq!(log.consumers().len(), 1);
}

#[test]
fn a_thread_that_blocks_on_a_full_log_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = Log::open(directory.path(), small_options()).expect("opens");
    let consumer = log.consumer("c", Start::Oldest).expect("created");
    let full = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for position in 0..2000 {
                let appended = log.append(&[&[1; 200]], 0);
                full.fetch_or(appended.is_err(), std::sync::atomic::Ordering::Relaxed);
                let appended =
                    appended.or_else(|_| log.append_blocking(&[&[1; 200]], 0)).expect("waits for room");
                assert_eq!(appended, position..position + 1);
            }
            log.wait_durable(2000).expect("the disk works")
        });
        // What it is waiting for: somebody who consumes.
        let mut low = 0;
        while low < 1900 {
            if full.load(std::sync::atomic::Ordering::Relaxed) || low > 0 {
                let end = log.watermarks().written.min(low + small_options().window);
                log.acknowledge(consumer, low..end).expect("in the window");
                low = end;
                log.release(0).expect("the disk works");
            }
            std::thread::yield_now();
        }
        assert_eq!(writer.join().expect("no panic").durable, 2000);
    });
    assert!(full.into_inner(), "it was never full");
}
