//! A log on a faulty disk, driven by seeded random calls, and what must hold after each crash.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_wal::conformance::{assert_genuine, payload, read_all, small_options};
use alloy_wal::{ConsumerId, Crash, FaultyStorage, Item, Log, Options, Position, Result, Start, Wal};

/// A seeded generator; good enough to choose calls.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

/// What the log has promised so far, across processes.
#[derive(Default)]
pub(crate) struct Promises {
    pub(crate) written: Position,
    pub(crate) durable: Position,
    pub(crate) released: Position,
    /// The end of what was ever appended.
    pub(crate) appended: Position,
    /// The first positions of the batches of more than one record, and their ends.
    pub(crate) batches: BTreeSet<(Position, Position)>,
    /// What an earlier crash took, as it was free to.
    pub(crate) gone: BTreeSet<Position>,
    /// What the consumer was told to have acknowledged.
    pub(crate) acknowledged: BTreeSet<Position>,
    /// The last cursor that was saved for certain.
    pub(crate) saved: Position,
    /// The last one that was noted for certain: it survives the process.
    pub(crate) noted: Position,
}

pub(crate) struct Run {
    pub(crate) storage: FaultyStorage,
    pub(crate) options: Options,
    pub(crate) log: Option<Arc<Log>>,
    pub(crate) consumer: Option<ConsumerId>,
    pub(crate) promises: Promises,
    pub(crate) random: Random,
}

impl Run {
    pub(crate) fn new(seed: u64, options: Options) -> Run {
        Run {
            storage: FaultyStorage::new(seed),
            options,
            log: None,
            consumer: None,
            promises: Promises::default(),
            random: Random(seed),
        }
    }

    pub(crate) fn small(seed: u64) -> Run {
        Run::new(seed, small_options())
    }

    /// Opens the log and its consumer; false if a fault prevents it.
    pub(crate) fn open(&mut self) -> bool {
        let opened = Log::open_on(Arc::new(self.storage.clone()), self.options.clone());
        let Ok(log) = opened else { return false };
        let consumer = log.consumer("consumer", Start::Oldest);
        self.consumer = consumer.ok();
        self.log = Some(Arc::new(log));
        self.consumer.is_some()
    }

    pub(crate) fn log(&self) -> Arc<Log> {
        self.log.clone().expect("the log is open")
    }

    pub(crate) fn append(&mut self, count: u64) -> Result<()> {
        let log = self.log();
        let first = log.watermarks().staged;
        let batch: Vec<Vec<u8>> = (first..first + count).map(payload).collect();
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        // Stamps follow positions for batches of one; `assert_genuine` checks them.
        let appended = log.append(&batch, 1000 + first)?;
        assert_eq!(appended, first..first + count);
        self.promises.appended = self.promises.appended.max(appended.end);
        if count > 1 {
            self.promises.batches.insert((appended.start, appended.end));
        }
        Ok(())
    }

    /// Makes one random call. Errors are what the storage makes of it; promises are noted.
    pub(crate) fn step(&mut self) -> Result<()> {
        let log = self.log();
        let result = match self.random.below(18) {
            0..=5 => self.append(1),
            6 => {
                let count = 2 + self.random.below(5);
                self.append(count)
            }
            7..=8 => log.write().map(|_| self.promises.written = log.watermarks().written),
            9..=10 => log.sync().map(|now| self.promises.durable = now.durable),
            11..=12 => self.acknowledge(),
            13 => self.save(),
            14 => log.release(0).map(drop),
            15 => log.prepare(),
            _ => self.note(),
        };
        let now = log.watermarks();
        assert!(
            now.released <= now.durable && now.durable <= now.written && now.written <= now.staged,
            "{now:?}"
        );
        self.promises.written = self.promises.written.max(now.written);
        self.promises.durable = self.promises.durable.max(now.durable);
        self.promises.released = now.released;
        result
    }

    fn acknowledge(&mut self) -> Result<()> {
        let Some(consumer) = self.consumer else { return Ok(()) };
        let log = self.log();
        let cursor = log.cursor(consumer)?;
        let start = cursor.acknowledged + self.random.below(3) * self.random.below(4);
        let end = (start + self.random.below(12)).min(log.watermarks().written);
        if start < end {
            log.acknowledge(consumer, start..end)?;
            self.promises.acknowledged.extend(start..end);
        }
        Ok(())
    }

    fn note(&mut self) -> Result<()> {
        let Some(consumer) = self.consumer else { return Ok(()) };
        let log = self.log();
        let before = log.cursor(consumer)?.acknowledged;
        log.note_cursors()?;
        self.promises.noted = before;
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let Some(consumer) = self.consumer else { return Ok(()) };
        let log = self.log();
        let before = log.cursor(consumer)?.acknowledged;
        log.save_cursors()?;
        self.promises.saved = before;
        Ok(())
    }

    /// Ends the process, opens the log again and checks every promise.
    pub(crate) fn crash_and_check(&mut self, crash: Crash) {
        self.log = None;
        self.storage = self.storage.restart(crash);
        assert!(self.open(), "the log opens after a crash");
        if crash == Crash::Process {
            self.promises.saved = self.promises.saved.max(self.promises.noted);
        }
        self.promises.noted = 0;
        let promised = if crash == Crash::Power { self.promises.durable } else { self.promises.written };
        self.check(promised);
    }

    /// Everything from `released` to `promised` is there, nothing is invented, batches are whole.
    pub(crate) fn check(&mut self, promised: Position) {
        let log = self.log();
        let items = read_all(&*log, 0).expect("the disk works");
        let mut there = BTreeSet::new();
        for item in &items {
            if let Item::Record(record) = item {
                assert_eq!(record.payload, payload(record.position), "record {}", record.position);
                assert!(record.position < self.promises.appended, "record {} is invented", record.position);
                there.insert(record.position);
            }
        }
        let recovery = log.recovery();
        for position in self.promises.released..promised {
            let kept = there.contains(&position) || self.promises.gone.contains(&position);
            assert!(kept, "record {position} of {promised} is gone: {recovery:?}");
        }
        for &(start, end) in &self.promises.batches {
            if start >= self.promises.durable && end <= self.promises.appended {
                let count = there.range(start..end).count() as u64;
                assert!(
                    count == 0 || count == end - start,
                    "{count} records of the batch {start}..{end}: {recovery:?}"
                );
            }
        }
        let cursor = log.cursor(self.consumer.expect("a consumer")).expect("it exists");
        assert!(cursor.acknowledged >= self.promises.saved, "{cursor:?} is behind {}", self.promises.saved);
        for position in self.promises.released..cursor.acknowledged {
            let gone = self.promises.gone.contains(&position);
            assert!(
                gone || self.promises.acknowledged.contains(&position),
                "{position} was never acknowledged"
            );
        }
        let now = log.watermarks();
        assert!(now.staged >= cursor.acknowledged && now.staged >= promised, "{now:?}");
        // What is there now stays there, and what is not will be appended anew under its position.
        self.promises.written = now.written;
        self.promises.durable = now.durable;
        self.promises.released = now.released;
        self.promises.gone = (0..now.staged).filter(|position| !there.contains(position)).collect();
        self.promises.appended = now.staged;
        self.promises.batches.clear();
        let consumer = self.consumer.expect("a consumer");
        self.promises.acknowledged = (0..now.staged)
            .filter(|&at| log.next_unacknowledged(consumer, at).is_ok_and(|next| next > at))
            .filter(|at| *at < cursor.acknowledged || self.promises.acknowledged.contains(at))
            .collect();
        self.promises.saved = cursor.acknowledged;
    }
}

/// Asserts that the items are the records `positions`, all genuine.
pub(crate) fn assert_records(items: &[Item], positions: std::ops::Range<Position>) {
    let mut expected = positions;
    for item in items {
        let Item::Record(record) = item else { panic!("{item:?} where records were expected") };
        assert_genuine(record);
        assert_eq!(Some(record.position), expected.next());
    }
    assert_eq!(expected.next(), None);
}
