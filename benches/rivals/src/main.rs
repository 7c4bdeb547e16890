//! Other logs beside ours, as each of them does best: records are staged by us and handed over as one batch where it takes
//! batches, since what is compared is the way to the disk.
//!
//! | | checksum | sync | what it is given |
//! | --- | --- | --- | --- |
//! | okaywal 0.3 | CRC-32C | always | an entry of many chunks; 64 MiB preallocated, no checkpoints |
//! | raft-engine 0.4 | CRC-32 | if asked | a batch of key-value pairs; no compression, prefilled files are recycled |
//! | nano-wal 1.0 | none | if asked | batches of 200 records, more of them fail |
//! | commitlog 0.2 | CRC-32C | never | a buffer of messages |
#![forbid(unsafe_code)]

mod replay;
mod rivals;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use benches::wal::{Candidate, Case, Subject};

fn main() {
    if std::env::args().any(|argument| argument == "reopen") {
        return replay::run(1, &std::env::temp_dir());
    }
    benches::wal::run(&[
        &Rival { name: "okaywal", syncs: Syncs::Always, open: rivals::okaywal },
        &Rival { name: "raft-engine", syncs: Syncs::IfAsked, open: rivals::raft_engine },
        &Rival { name: "nano-wal (no checksum)", syncs: Syncs::IfAsked, open: rivals::nano_wal },
        &Rival { name: "commitlog", syncs: Syncs::Never, open: rivals::commitlog },
    ]);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Syncs {
    Always,
    IfAsked,
    Never,
}

/// Takes the staged records of one writer, as the flag says with a sync.
type Put = Box<dyn Fn(usize, &[&[u8]], bool) + Send + Sync>;

struct Rival {
    name: &'static str,
    syncs: Syncs,
    open: fn(&Path) -> Put,
}

impl Candidate for Rival {
    fn name(&self) -> String {
        self.name.into()
    }

    fn can(&self, case: &Case) -> bool {
        match self.syncs {
            Syncs::Always => !case.mode.is_without_sync(),
            Syncs::IfAsked => true,
            Syncs::Never => case.mode.is_without_sync(),
        }
    }

    fn open(&self, directory: &Path, case: &Case) -> Box<dyn Subject> {
        let writers = case.mode.writers();
        let staged = (0..writers).map(|_| Mutex::new(Vec::new())).collect();
        Box::new(Staged { put: (self.open)(directory), staged, record_bytes: case.record_bytes })
    }
}

/// Records of each writer on their way to a rival.
struct Staged {
    put: Put,
    staged: Vec<Mutex<Vec<u8>>>,
    record_bytes: usize,
}

impl Staged {
    fn hand_over(&self, writer: usize, sync: bool) {
        let mut staged = self.staged[writer].lock().unwrap_or_else(PoisonError::into_inner);
        let records: Vec<&[u8]> = staged.chunks_exact(self.record_bytes).collect();
        (self.put)(writer, &records, sync);
        staged.clear();
    }
}

impl Subject for Staged {
    fn append(&self, writer: usize, batch: &[&[u8]]) {
        let mut staged = self.staged[writer].lock().unwrap_or_else(PoisonError::into_inner);
        batch.iter().for_each(|record| staged.extend_from_slice(record));
    }

    fn write(&self, writer: usize) {
        self.hand_over(writer, false);
    }

    fn sync(&self, writer: usize) {
        self.hand_over(writer, true);
    }
}
