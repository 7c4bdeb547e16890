//! Any calls, crashes and faults: what was promised is there, and nothing is invented.
#![no_main]

use std::io::ErrorKind;
use std::sync::Arc;

use alloy_wal::conformance::{payload, read_all, small_options};
use alloy_wal::{Crash, FaultyStorage, Item, Log, Start, Wal};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Call {
    Append(u8),
    Write,
    Sync,
    Acknowledge(u8),
    NoteCursors,
    SaveCursors,
    Release,
    Prepare,
    Fail(u8, bool),
    Crash(bool),
}

struct World {
    storage: FaultyStorage,
    log: Log,
    written: u64,
    durable: u64,
}

impl World {
    fn open(storage: FaultyStorage) -> World {
        let log = Log::open_on(Arc::new(storage.clone()), small_options()).expect("the disk works");
        let now = log.watermarks();
        World { storage, log, written: now.written, durable: now.durable }
    }

    fn append(&self, count: u8) {
        let first = self.log.watermarks().staged;
        let batch: Vec<Vec<u8>> = (first..first + u64::from(count % 8)).map(payload).collect();
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        let _ = self.log.append(&batch, 0);
    }

    fn crash(self, power: bool) -> World {
        let promised = if power { self.durable } else { self.written };
        let released = self.log.watermarks().released;
        let crash = if power { Crash::Power } else { Crash::Process };
        let before: Vec<u64> = records(&self.log, released).unwrap_or_default();
        let world = World::open(self.storage.restart(crash));
        let after = records(&world.log, released).expect("the disk works");
        for position in before.into_iter().filter(|&position| position < promised) {
            assert!(after.contains(&position), "record {position} of {promised} is gone");
        }
        world
    }
}

fn records(log: &Log, from: u64) -> Option<Vec<u64>> {
    let mut positions = Vec::new();
    for item in read_all(log, from).ok()? {
        if let Item::Record(record) = item {
            assert_eq!(record.payload, payload(record.position));
            positions.push(record.position);
        }
    }
    Some(positions)
}

fuzz_target!(|calls: Vec<Call>| {
    let mut world = World::open(FaultyStorage::new(calls.len() as u64));
    for call in calls.into_iter().take(200) {
        match call {
            Call::Append(count) => world.append(count),
            Call::Write => drop(world.log.write()),
            Call::Sync => drop(world.log.sync()),
            Call::Acknowledge(count) => {
                if let Ok(consumer) = world.log.consumer("c", Start::Oldest) {
                    let low = world.log.cursor(consumer).expect("known").acknowledged;
                    let _ = world.log.acknowledge(consumer, low..low + u64::from(count));
                }
            }
            Call::NoteCursors => drop(world.log.note_cursors()),
            Call::SaveCursors => drop(world.log.save_cursors()),
            Call::Release => drop(world.log.release(0)),
            Call::Prepare => drop(world.log.prepare()),
            Call::Fail(call, full) => {
                let kind = if full { ErrorKind::StorageFull } else { ErrorKind::Other };
                world.storage.fail_call(u64::from(call % 16), kind);
            }
            Call::Crash(power) => world = world.crash(power),
        }
        let now = world.log.watermarks();
        world.written = world.written.max(now.written);
        world.durable = world.durable.max(now.durable);
    }
    world.crash(true);
});
