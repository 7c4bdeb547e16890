//! `alloy-wal` as a candidate.

use std::path::Path;

use alloy_wal::{ConsumerId, Log, Options, Start, Wal};

use super::{Candidate, Case, Subject};

/// The log with its default options, but enough spare segments for one round: preparing them is somebody else's thread.
#[derive(Debug, Clone, Copy)]
pub struct Alloy;

/// Segments that one round can need.
const SPARES: usize = 4;

impl Candidate for Alloy {
    fn name(&self) -> String {
        "alloy-wal".into()
    }

    fn open(&self, directory: &Path, _case: &Case) -> Box<dyn Subject> {
        let options = Options { spares: SPARES, ..Options::default() };
        let log = Log::open(directory.join("alloy"), options).expect("opens");
        let consumer = log.consumer("bench", Start::Oldest).expect("created");
        log.prepare().expect("space on the disk");
        Box::new(Opened { log, consumer })
    }
}

struct Opened {
    log: Log,
    consumer: ConsumerId,
}

impl Subject for Opened {
    fn append(&self, _writer: usize, batch: &[&[u8]]) {
        self.log.append(batch, 1_700_000_000_000).expect("room");
    }

    fn write(&self, _writer: usize) {
        self.log.write().expect("a disk that writes");
    }

    fn sync(&self, _writer: usize) {
        self.log.sync().expect("a disk that syncs");
    }

    fn rest(&self) {
        let end = self.log.sync().expect("a disk that syncs").durable;
        let mut low = self.log.cursor(self.consumer).expect("known").acknowledged;
        while low < end {
            let step = end.min(low + 60_000);
            self.log.acknowledge(self.consumer, low..step).expect("in the window");
            low = step;
        }
        self.log.release(1_700_000_000_000).expect("a disk that syncs");
        self.log.prepare().expect("space on the disk");
    }
}
