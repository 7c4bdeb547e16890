//! Any bytes as a segment, and as `CURSORS` and `NOTES`: opening and reading end, in order, and the log goes on.

use std::sync::Arc;

use alloy_wal::conformance::{read_all, small_options};
use alloy_wal::{FaultyStorage, Log, Wal};

pub(crate) fn check(bytes: &[u8]) {
    ["00000000000000000001.wal", "CURSORS", "NOTES"].into_iter().for_each(|name| check_file(name, bytes));
}

/// The salt of a segment is in its header, so bytes that begin with one reach the frames behind it.
fn check_file(name: &str, bytes: &[u8]) {
    let storage = FaultyStorage::new(1);
    storage.put(name, bytes.to_vec());
    let Ok(log) = Log::open_on(Arc::new(storage), small_options()) else { return };
    let start = log.watermarks().released;
    if log.watermarks().staged > u64::MAX - 2 {
        return;
    }
    read_all(&log, start).expect("the disk works");
    let appended = log.append(&[b"one more"], 0).expect("room");
    log.sync().expect("the disk works");
    let items = read_all(&log, appended.start).expect("the disk works");
    assert_eq!(items.len(), 1);
}
