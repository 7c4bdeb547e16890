//! Opening: what is refused, with what words, and what is left alone.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use alloy_wal::conformance::{append, read_all, small_options};
use alloy_wal::{Error, Log, Options, Start, Wal};

fn open(directory: &Path) -> Result<Log, Error> {
    Log::open(directory, small_options())
}

#[test]
fn a_directory_is_opened_by_one_log_at_a_time() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = open(directory.path()).expect("opens");
    let error = open(directory.path()).map(drop).expect_err("locked");
    assert!(matches!(error, Error::Locked { .. }));
    assert!(error.to_string().contains(&directory.path().display().to_string()));
    drop(log);
    open(directory.path()).map(drop).expect("free again");
}

#[test]
fn missing_directories_are_created() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = open(&directory.path().join("a/b")).expect("opens");
    append(&log, 1).expect("room");
    log.close().expect("the disk works");
}

#[test]
fn a_path_that_cannot_be_a_directory_is_an_error_with_its_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("writable");
    let error = open(&file).map(drop).expect_err("a file");
    assert!(error.to_string().contains("file"), "{error}");
    assert!(matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::AlreadyExists));
}

#[test]
fn files_of_others_are_reported_and_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("notes.txt"), "mine").expect("writable");
    let log = open(directory.path()).expect("opens");
    assert_eq!(log.recovery().foreign_files, ["notes.txt"]);
    assert_eq!(fs::read_to_string(directory.path().join("notes.txt")).expect("there"), "mine");
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let directories = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    for directory in &directories {
        let log = open(directory.path()).expect("opens");
        append(&log, 3).expect("room");
        log.close().expect("the disk works");
    }
    let name = "00000000000000000001.wal";
    fs::copy(directories[0].path().join(name), directories[1].path().join("00000000000000000009.wal"))
        .expect("copied");
    let error = open(directories[1].path()).map(drop).expect_err("foreign");
    assert!(matches!(&error, Error::Foreign { name, .. } if name.contains("9.wal")), "{error}");
}

#[test]
fn contradicting_options_are_refused_with_their_names() {
    let check = |options: Options, word: &str| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let error = Log::open(directory.path(), options).map(drop).expect_err("invalid");
        assert!(matches!(error, Error::InvalidOptions { .. }));
        assert!(error.to_string().contains(word), "{error}");
    };
    check(Options { segment_bytes: 5000, ..small_options() }, "segment_bytes");
    check(Options { segment_bytes: 4096, ..small_options() }, "segment_bytes");
    check(Options { segment_bytes: 4 << 30, ..small_options() }, "segment_bytes");
    check(Options { max_bytes: 1000, ..small_options() }, "max_bytes");
    check(Options { window: 0, ..small_options() }, "window");
}

#[test]
fn positions_go_on_after_everything_was_released() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for round in 0..5 {
        let log = open(directory.path()).expect("opens");
        let consumer = log.consumer("c", Start::Oldest).expect("created");
        assert_eq!(log.watermarks().staged, round * 40);
        append(&log, 40).expect("room");
        log.write().expect("the disk works");
        log.acknowledge(consumer, round * 40..round * 40 + 40).expect("in the window");
        log.release(0).expect("the disk works");
        assert_eq!(log.cursor(consumer).expect("known").lag_records, 0);
    }
}

#[test]
fn opening_reads_the_tail_and_not_the_log() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let log = Log::open(directory.path(), options.clone()).expect("opens");
    for _ in 0..20 {
        append(&log, 800).expect("room");
        log.sync().expect("the disk works");
    }
    log.save_cursors().expect("the disk works");
    append(&log, 10).expect("room");
    log.write().expect("the disk works");
    drop(log);
    let log = Log::open(directory.path(), options).expect("opens");
    assert!(log.stats().disk_bytes > 5 << 20);
    assert!(log.recovery().scanned_bytes < 1 << 20, "{:?}", log.recovery());
    assert_eq!(read_all(&log, 0).expect("readable").len(), 16_010);
}
