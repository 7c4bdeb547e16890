//! Any calls, crashes and faults: what was promised is there, and nothing is invented. Two bytes of the input are one call.

use std::io::ErrorKind;
use std::sync::Arc;

use alloy_wal::conformance::{payload, read_all, small_options};
use alloy_wal::{ConsumerId, Crash, Cursor, FaultyStorage, Item, Log, Start, Wal};

/// Longer inputs find nothing that shorter ones do not.
const CALLS_MAX: usize = 200;

struct World {
    storage: FaultyStorage,
    log: Log,
    written: u64,
    durable: u64,
    /// What the consumer's cursor was when it was noted and saved, and the end of what it ever acknowledged.
    noted: u64,
    saved: u64,
    acknowledged: u64,
}

impl World {
    fn open(storage: FaultyStorage) -> World {
        let log = Log::open_on(Arc::new(storage.clone()), small_options()).expect("the disk works");
        let now = log.watermarks();
        World {
            storage,
            log,
            written: now.written,
            durable: now.durable,
            noted: 0,
            saved: 0,
            acknowledged: 0,
        }
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
        let mut world = World::open(self.storage.restart(crash));
        let after = records(&world.log, released).expect("the disk works");
        for position in before.into_iter().filter(|&position| position < promised) {
            assert!(after.contains(&position), "record {position} of {promised} is gone");
        }
        if let Some((_, cursor)) = world.cursor() {
            let least = if power { self.saved } else { self.saved.max(self.noted) };
            assert!(cursor.acknowledged >= least, "{cursor:?} but {least} was kept");
            let most = self.acknowledged.max(least).max(world.log.watermarks().released);
            assert!(
                cursor.acknowledged <= most.min(world.log.watermarks().staged),
                "{cursor:?} is ahead of {most}"
            );
            (world.saved, world.acknowledged) = (cursor.acknowledged, cursor.acknowledged + cursor.ahead);
            world.acknowledged = world.acknowledged.max(self.acknowledged);
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

impl World {
    /// Where the consumer stands, making it if need be; `None` if that fails.
    fn cursor(&self) -> Option<(ConsumerId, Cursor)> {
        let consumer = self.log.consumer("c", Start::Oldest).ok()?;
        Some((consumer, self.log.cursor(consumer).expect("known")))
    }

    fn call(mut self, call: u8, argument: u8) -> World {
        match call % 12 {
            0..=2 => self.append(argument),
            3 => drop(self.log.write()),
            4 => drop(self.log.sync()),
            5 => {
                if let Some((consumer, cursor)) = self.cursor() {
                    let start = cursor.acknowledged + u64::from(argument >> 6);
                    let end = start + u64::from(argument & 63);
                    if self.log.acknowledge(consumer, start..end).is_ok() {
                        self.acknowledged = self.acknowledged.max(end);
                    }
                }
            }
            6 => {
                if let Some((_, cursor)) = self.cursor()
                    && self.log.note_cursors().is_ok()
                {
                    self.noted = cursor.acknowledged;
                }
            }
            7 => {
                if let Some((_, cursor)) = self.cursor()
                    && self.log.save_cursors().is_ok()
                {
                    self.saved = cursor.acknowledged;
                }
            }
            8 => drop(self.log.release(0)),
            9 => drop(self.log.prepare()),
            10 => {
                let kind = if argument & 16 > 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
                self.storage.fail_call(u64::from(argument % 16), kind);
            }
            _ => self = self.crash(argument & 1 > 0),
        }
        let now = self.log.watermarks();
        assert!(now.released <= now.durable && now.durable <= now.written && now.written <= now.staged);
        self.written = self.written.max(now.written);
        self.durable = self.durable.max(now.durable);
        self
    }
}

pub(crate) fn check(input: &[u8]) {
    let mut world = World::open(FaultyStorage::new(input.len() as u64));
    for call in input.chunks_exact(2).take(CALLS_MAX) {
        world = world.call(call[0], call[1]);
    }
    world.crash(true);
}
