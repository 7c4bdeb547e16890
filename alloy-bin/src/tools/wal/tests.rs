//! The tool on a log that is open, on one that is not, and on one with a flipped bit: it says so and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use alloy_wal::{Log, Options, Start, Wal};
use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn tool(command: &[&str], directory: &Path) -> (ExitCode, String) {
    let directory = directory.display().to_string();
    let line = ["tool"].iter().chain(command).copied().chain([directory.as_str()]);
    let mut out = Vec::new();
    let code = run(&Line::parse_from(line).flags, &mut out).expect("readable");
    (code, String::from_utf8(out).expect("text"))
}

fn filled(directory: &Path) -> Log {
    let options = Options { segment_bytes: 64 << 10, max_bytes: 4 << 20, ..Options::default() };
    let log = Log::open(directory, options).expect("opens");
    let consumer = log.consumer("sender", Start::Oldest).expect("created");
    for number in 0..2000u64 {
        log.append(&[format!("record {number:06} {}", "x".repeat(80)).as_bytes()], 1000 + number)
            .expect("room");
    }
    log.sync().expect("the disk works");
    log.prepare().expect("the disk works");
    log.acknowledge(consumer, 0..10).expect("written");
    log.acknowledge(consumer, 20..25).expect("written");
    log.save_cursors().expect("the disk works");
    log
}

/// Every file with its bytes and the time of its last change.
fn contents(directory: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(directory).expect("readable").map(|entry| entry.expect("readable"));
    let read = |entry: fs::DirEntry| {
        let changed = entry.metadata().expect("there").modified().expect("a time");
        let bytes = fs::read(entry.path()).expect("readable");
        (entry.file_name().to_string_lossy().into_owned(), (bytes, changed))
    };
    entries.map(read).collect()
}

#[test]
fn it_reads_a_live_log_and_a_dead_one_and_changes_neither() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = filled(directory.path());
    for log in [Some(log), None] {
        let before = contents(directory.path());
        let (code, text) = tool(&["verify", "--json"], directory.path());
        let found: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!((&found["whole"], &found["records"]), (&json!(true), &json!(2000)));
        let (_, text) = tool(&["stats", "--json"], directory.path());
        let found: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&found["begins"], &found["durable"]), (&json!(0), &json!(2000)));
        assert!(found["segments"].as_array().expect("a list").len() >= 3 && found["spare_bytes"] == 65_536);
        let (_, text) = tool(&["cursors", "--json"], directory.path());
        let found: Value = serde_json::from_str(&text).expect("JSON");
        let wanted = json!([{"name": "sender", "acknowledged": 10, "ahead": [[20, 25]], "lag_records": 1985, "dropped": 0}]);
        assert_eq!(found["consumers"], wanted);
        for command in ["stats", "verify", "cursors", "dump"] {
            assert!(tool(&[command], directory.path()).1.lines().count() >= 3, "{command}");
        }
        assert!(contents(directory.path()) == before, "nothing is changed");
        drop(log);
    }
}

#[test]
fn it_prints_records_from_a_position_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    drop(filled(directory.path()));
    let (_, text) =
        tool(&["dump", "--json", "--from", "1500", "--limit", "2", "--bytes", "13"], directory.path());
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let line = |position: u64| json!({"position": position, "stamp_ms": 1000 + position, "bytes": 94, "payload": format!("record {position:06}")});
    assert_eq!(lines, [line(1500), line(1501)]);
}

#[test]
fn a_flipped_bit_is_found_and_the_exit_code_says_so() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    drop(filled(directory.path()));
    let path = directory.path().join("00000000000000000001.wal");
    let mut bytes = fs::read(&path).expect("readable");
    let at = bytes.windows(13).position(|window| window == b"record 000100").expect("there");
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("writable");
    let (code, text) = tool(&["verify", "--json"], directory.path());
    let found: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, ExitCode::FAILURE);
    assert_eq!(
        (&found["damaged_records"], &found["segments"][0]["damaged"]),
        (&json!(1), &json!([[100, 101]]))
    );
    let (_, text) = tool(&["verify"], directory.path());
    assert!(text.contains("damaged: positions 100 to 100 (durable once)"), "{text}");
    let (_, text) = tool(&["dump", "--from", "99", "--limit", "3"], directory.path());
    assert!(text.contains("100 to 100 are damaged"), "{text}");
}

#[test]
fn a_directory_without_a_log_is_an_error_with_its_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let line = ["tool", "stats", &directory.path().display().to_string()].map(String::from);
    let error = run(&Line::parse_from(line).flags, &mut Vec::new()).expect_err("empty");
    assert!(error.to_string().contains("there is no log in"), "{error}");
    assert_eq!(contents(directory.path()).len(), 0, "not even a lock is created");
}
