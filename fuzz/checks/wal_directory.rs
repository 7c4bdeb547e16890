//! A whole directory of any bytes: opening, looking at it from outside and reading end, in order, and the log goes on.

use std::ops::ControlFlow;
use std::sync::Arc;

use alloy_wal::conformance::{read_all, small_options};
use alloy_wal::{FaultyStorage, Inspection, Item, Log, Wal};

/// The files that a directory may hold, by the first byte of their part of the input.
const NAMES: [&str; 8] = [
    "00000000000000000001.wal",
    "00000000000000000002.wal",
    "00000000000000000003.wal",
    "CURSORS",
    "NOTES",
    "spare-1",
    "00000000000000000004.wal.new",
    "00000000000000000005.wal.damaged",
];

/// Parts of the input: a byte for the name, two for the length, the bytes.
fn put_files(storage: &FaultyStorage, mut input: &[u8]) {
    while let [name, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, behind) = rest.split_at(length);
        storage.put(NAMES[usize::from(*name) % NAMES.len()], bytes.to_vec());
        input = behind;
    }
}

pub(crate) fn check(input: &[u8]) {
    let storage = FaultyStorage::new(1);
    put_files(&storage, input);
    if let Ok(inspection) = Inspection::on(Arc::new(storage.clone())) {
        for segment in &inspection.segments {
            let mut next = segment.begins;
            let mut visit = |item: Item| {
                assert!(item.next() > next || matches!(item, Item::Gap(_)), "in order");
                next = item.next();
                ControlFlow::Continue(())
            };
            let _ = inspection.read(segment, &mut visit);
        }
    }
    let Ok(log) = Log::open_on(Arc::new(storage), small_options()) else { return };
    let items = read_all(&log, 0).expect("the disk works");
    let mut next = 0;
    for item in items {
        let begins = match &item {
            Item::Record(record) => record.position,
            Item::Gap(gap) => gap.positions.start,
        };
        assert!(begins == next || next == 0, "dense");
        next = item.next();
    }
    let appended = log.append(&[b"one more"], 0).expect("room");
    log.sync().expect("the disk works");
    assert_eq!(read_all(&log, appended.start).expect("the disk works").len(), 1);
}
