//! The format on disk, version 1: directories written by earlier versions of this crate stay readable.

use std::fs;
use std::path::{Path, PathBuf};

use alloy_wal::conformance::{append, payload, read_all, small_options};
use alloy_wal::{Error, Item, Log, Result, Start, Wal};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// Wrote the fixture. A new version of the format gets a fixture of its own; this one is never written again.
#[test]
#[ignore = "wrote the fixture"]
fn write_the_fixture() -> Result<()> {
    let log = Log::open(fixture(), small_options())?;
    let first = log.consumer("first", Start::Oldest)?;
    log.consumer("second", Start::Oldest)?;
    append(&log, 30)?;
    log.write()?;
    let batch: Vec<Vec<u8>> = (30..33).map(payload).collect();
    let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
    log.append(&batch, 1030)?;
    log.write()?;
    append(&log, 7)?;
    log.write()?;
    log.acknowledge(first, 0..3)?;
    log.acknowledge(first, 5..7)?;
    log.close()
}

/// A copy of the fixture, to be opened.
fn copy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for entry in fs::read_dir(fixture()).expect("the fixture") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a file");
        fs::copy(&path, directory.path().join(name)).expect("copied");
    }
    directory
}

#[test]
fn version_1_is_read() {
    let directory = copy();
    let log = Log::open(directory.path(), small_options()).expect("opens");
    assert_eq!(log.recovery().positions, 0..40);
    assert!(log.recovery().damaged.is_empty() && !log.recovery().cursors_lost);
    let items = read_all(&log, 0).expect("readable");
    assert_eq!(items.len(), 40);
    for (position, item) in (0..).zip(items) {
        let Item::Record(record) = item else { panic!("{item:?}") };
        assert_eq!(record.position, position);
        assert_eq!(record.payload, payload(position));
        let stamp_ms = if (30..33).contains(&position) { 1030 } else { 1000 + position };
        assert_eq!(record.stamp_ms, stamp_ms);
    }
    let names: Vec<String> = log.consumers().into_iter().map(|consumer| consumer.name).collect();
    assert_eq!(names, ["first", "second"]);
    let first = log.consumer("first", Start::Newest).expect("known");
    let cursor = log.cursor(first).expect("known");
    assert_eq!((cursor.acknowledged, cursor.ahead), (3, 2));
    assert_eq!(log.next_unacknowledged(first, 5).expect("known"), 7);
}

#[test]
fn version_1_is_written_on() {
    let directory = copy();
    for end in [45, 50] {
        let log = Log::open(directory.path(), small_options()).expect("opens");
        append(&log, 5).expect("room");
        log.close().expect("the disk works");
        let log = Log::open(directory.path(), small_options()).expect("opens");
        assert_eq!(read_all(&log, 0).expect("readable").len(), end);
    }
}

#[test]
fn a_newer_version_is_refused_and_left_as_it_is() {
    let directory = copy();
    let path = directory.path().join("00000000000000000001.wal");
    let mut bytes = fs::read(&path).expect("readable");
    for copy in [0, 2048] {
        bytes[copy + 8] = 2;
        let crc = crc32fast::hash(&bytes[copy..copy + 2044]);
        bytes[copy + 2044..copy + 2048].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(&path, &bytes).expect("writable");
    let error = Log::open(directory.path(), small_options()).map(drop).expect_err("newer");
    assert!(matches!(error, Error::NewerVersion { found: 2, supported: 1, .. }), "{error}");
    assert_eq!(fs::read(&path).expect("readable"), bytes);
}
