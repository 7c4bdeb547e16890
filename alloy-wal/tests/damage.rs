//! Damage costs exactly the damaged records, and says which they are.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use alloy_wal::conformance::{append, assert_genuine, payload, read_all, small_options};
use alloy_wal::{Gap, GapReason, Item, Log, Options, Position, Start, Wal};

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    paths.sort();
    paths
}

fn options() -> Options {
    Options { segment_bytes: 4 << 20, cache_bytes: 0, max_staged_bytes: 64 << 20, ..Options::default() }
}

/// A log of `count` records, synced and closed.
fn filled(count: u64, options: &Options) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = Log::open(directory.path(), options.clone()).expect("opens");
    log.consumer("keeper", Start::Oldest).expect("created");
    for _ in 0..count / 32 {
        append(&log, 32).expect("room");
        log.sync().expect("the disk works");
    }
    log.close().expect("the disk works");
    directory
}

/// Where the payload of a record begins, found by its content.
fn find(directory: &Path, position: Position) -> (PathBuf, u64) {
    let wanted = payload(position);
    for path in segments(directory) {
        let content = fs::read(&path).expect("readable");
        if let Some(at) = content.windows(wanted.len()).position(|window| window == wanted) {
            return (path, at as u64);
        }
    }
    panic!("record {position} is in no segment");
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("readable");
    file.write_all_at(&[byte[0] ^ 4], offset).expect("writable");
}

/// Everything but the gap is there and genuine.
fn check(log: &Log, count: u64, lost: std::ops::Range<Position>) {
    let items = read_all(log, 0).expect("readable");
    let mut gaps = Vec::new();
    let mut records = 0;
    for item in items {
        match item {
            Item::Record(record) => {
                assert_genuine(&record);
                records += 1;
            }
            Item::Gap(gap) => gaps.push(gap),
        }
    }
    assert_eq!(gaps, [Gap { positions: lost.clone(), reason: GapReason::Damaged }]);
    assert_eq!(records, count - (lost.end - lost.start));
}

#[test]
fn one_flipped_bit_among_8192_records_costs_exactly_one_record() {
    let directory = filled(8192, &options());
    for map in [true, false] {
        // The length, the ordinal, the checksum, the payload: whatever is hit, it is this record and no other.
        for at in [-16, -12, -8, -4, 0, 8] {
            let (path, offset) = find(directory.path(), 4000);
            let hit = offset.checked_add_signed(at).expect("inside of the file");
            flip(&path, hit);
            let log = Log::open(directory.path(), Options { map, ..options() }).expect("opens");
            assert_eq!(log.recovery().damaged, [], "no need to look at it when opening");
            check(&log, 8192, 4000..4001);
            assert_eq!(log.stats().damaged_records, 1);
            drop(log);
            flip(&path, hit);
        }
    }
}

#[test]
fn a_frame_whose_header_is_all_ones_costs_exactly_one_record() {
    let directory = filled(8192, &options());
    let (path, offset) = find(directory.path(), 4000);
    let file = OpenOptions::new().write(true).open(&path).expect("opens");
    file.write_all_at(&[0xff; 16], offset - 16).expect("writable");
    let log = Log::open(directory.path(), options()).expect("opens");
    check(&log, 8192, 4000..4001);
}

#[test]
fn a_last_file_that_was_cut_short_costs_the_records_that_are_cut_off() {
    let directory = filled(8192, &options());
    let (path, offset) = find(directory.path(), 8190);
    OpenOptions::new().write(true).open(&path).expect("opens").set_len(offset + 4).expect("shortened");
    let log = Log::open(directory.path(), options()).expect("opens");
    assert_eq!(log.watermarks().staged, 8192, "they were durable, and their positions are not given again");
    append(&log, 1).expect("room");
    log.sync().expect("the disk works");
    check(&log, 8193, 8190..8192);
}

#[test]
fn a_zeroed_block_costs_the_records_in_it() {
    let directory = filled(8192, &options());
    let (path, offset) = find(directory.path(), 4000);
    let file = OpenOptions::new().write(true).open(&path).expect("opens");
    file.write_all_at(&[0; 4096], offset).expect("writable");
    let after = (4000..).scan(offset, |end, position| {
        let here = *end;
        *end += (16 + payload(position).len() as u64).next_multiple_of(8);
        Some((position, here))
    });
    let last = after.take_while(|(_, at)| *at < offset + 4096 + 16).last().expect("one at least").0;
    let log = Log::open(directory.path(), options()).expect("opens");
    check(&log, 8192, 4000..last + 1);
}

#[test]
fn a_flipped_bit_in_a_header_block_costs_nothing() {
    let directory = filled(320, &small_options());
    for path in segments(directory.path()) {
        flip(&path, 57);
    }
    let log = Log::open(directory.path(), small_options()).expect("opens");
    assert_eq!(read_all(&log, 0).expect("readable").len(), 320);
}

#[test]
fn a_missing_segment_is_a_gap_of_its_records() {
    let directory = filled(320, &small_options());
    let paths = segments(directory.path());
    let first_of = |index: usize| {
        let content = fs::read(&paths[index]).expect("readable");
        Position::from_le_bytes(content[32..40].try_into().expect("eight bytes"))
    };
    let (start, end) = (first_of(2), first_of(3));
    fs::remove_file(&paths[2]).expect("removable");
    let log = Log::open(directory.path(), small_options()).expect("opens");
    check(&log, 320, start..end);
}

#[test]
fn a_segment_without_a_readable_header_is_a_gap_and_kept_aside() {
    let directory = filled(320, &small_options());
    let path = segments(directory.path())[1].clone();
    for offset in [3, 2051] {
        flip(&path, offset);
    }
    let log = Log::open(directory.path(), small_options()).expect("opens");
    assert_eq!(log.recovery().unreadable_segments.len(), 1);
    let items = read_all(&log, 0).expect("readable");
    assert_eq!(items.iter().filter(|item| matches!(item, Item::Gap(_))).count(), 1);
    drop(log);
    let log = Log::open(directory.path(), small_options()).expect("opens");
    assert_eq!(log.recovery().unreadable_segments.len(), 0, "told once");
}

#[test]
fn a_torn_tail_is_cut_and_never_written_behind() {
    let directory = filled(64, &options());
    let (path, offset) = find(directory.path(), 63);
    let before = segments(directory.path()).len();
    // The saved hint says that all was durable; without it the last record is a write that was torn.
    fs::remove_file(directory.path().join("CURSORS")).expect("removable");
    flip(&path, offset);
    let log = Log::open(directory.path(), options()).expect("opens");
    assert!(log.recovery().cursors_lost);
    assert_eq!(log.watermarks().staged, 63);
    append(&log, 1).expect("room");
    log.sync().expect("the disk works");
    assert_eq!(segments(directory.path()).len(), before + 1);
    drop(log);
    let log = Log::open(directory.path(), options()).expect("opens");
    assert_eq!(read_all(&log, 0).expect("readable").len(), 64);
}

#[test]
fn rot_of_acknowledged_records_at_the_end_is_told_from_a_torn_write() {
    let directory = filled(64, &options());
    let (path, offset) = find(directory.path(), 63);
    flip(&path, offset);
    let log = Log::open(directory.path(), options()).expect("opens");
    // It was durable and acknowledged to the caller: its position is not given again.
    assert_eq!(log.watermarks().staged, 64);
    append(&log, 1).expect("room");
    log.sync().expect("the disk works");
    check(&log, 65, 63..64);
}

#[test]
fn a_file_shortened_while_the_log_is_open_is_a_gap_and_no_signal() {
    for map in [false, true] {
        let directory = filled(320, &small_options());
        let log = Log::open(directory.path(), Options { map, ..small_options() }).expect("opens");
        let path = segments(directory.path())[1].clone();
        OpenOptions::new().write(true).open(path).expect("opens").set_len(4096).expect("shortened");
        let items = read_all(&log, 0).expect("readable");
        assert_eq!(items.iter().filter(|item| matches!(item, Item::Gap(_))).count(), 1);
    }
}

#[test]
fn a_file_removed_while_the_log_is_open_stays_readable() {
    let directory = filled(320, &small_options());
    let log = Log::open(directory.path(), small_options()).expect("opens");
    segments(directory.path()).iter().for_each(|path| fs::remove_file(path).expect("removable"));
    let items = read_all(&log, 0).expect("readable");
    assert!(items.len() == 320 && items.iter().all(|item| matches!(item, Item::Record(_))));
    append(&log, 1).expect("room");
    log.sync().expect("the disk works");
}

#[test]
fn lost_cursors_deliver_again_and_lose_nothing() {
    let directory = filled(320, &small_options());
    let log = Log::open(directory.path(), small_options()).expect("opens");
    let keeper = log.consumer("keeper", Start::Oldest).expect("known");
    log.acknowledge(keeper, 0..50).expect("written");
    log.close().expect("the disk works");
    let path = directory.path().join("CURSORS");
    let bytes = fs::metadata(&path).expect("there").len();
    fs::write(&path, vec![0xff; bytes as usize]).expect("writable");
    let log = Log::open(directory.path(), small_options()).expect("opens");
    assert!(log.recovery().cursors_lost);
    // It cannot be told from a new one, so it starts where nothing is lost.
    let keeper = log.consumer("keeper", Start::Newest).expect("created");
    assert_eq!(log.cursor(keeper).expect("known").acknowledged, 0);
}

#[test]
fn records_outlive_their_segment() {
    let directory = filled(320, &small_options());
    let log = Log::open(directory.path(), small_options()).expect("opens");
    let items = read_all(&log, 0).expect("readable");
    let keeper = log.consumer("keeper", Start::Oldest).expect("known");
    for start in (0..320).step_by(64) {
        log.acknowledge(keeper, start..start + 64).expect("in the window");
    }
    log.release(0).expect("the disk works");
    assert!(log.watermarks().released > 0);
    for item in &items {
        let Item::Record(record) = item else { panic!("{item:?}") };
        assert_genuine(record);
    }
}
