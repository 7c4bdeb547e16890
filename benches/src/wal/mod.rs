//! The log beside what the machine can do, in the same run: every round measures all candidates one after another, and a
//! ratio is the median over the rounds of candidate / limit.
//!
//! | file | purpose |
//! | --- | --- |
//! | `append.rs` | appending: the three ways of the table, one round of each |
//! | `alloy.rs` | `alloy-wal` as a candidate |
//! | `limits.rs` | memcpy into hot pages; raw `pwrite` and `fdatasync` into prepared files |
//! | `replay.rs` | reading a log back, opening it, memory |
//! | `report.rs` | which cases, and the tables of docs/benchmarks.md |
//! | `table.rs` | medians and tables |

pub mod alloy;
pub mod append;
pub mod limits;
pub mod replay;
pub mod report;
pub mod table;

use std::path::Path;

/// How records are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// So many writers, one record a call, each has its records written every 256 KiB; never synced while the clock runs.
    NoSync(usize),
    /// So many writers, one record a call; each syncs after a mebibyte of its own.
    SyncPerMebibyte(usize),
    /// Each of so many writers appends a batch of 64 records and returns when it is durable.
    Commit(usize),
}

impl Mode {
    /// Writers at once.
    pub fn writers(self) -> usize {
        let (Mode::NoSync(writers) | Mode::SyncPerMebibyte(writers) | Mode::Commit(writers)) = self;
        writers
    }

    /// True if nothing is synced.
    pub fn is_without_sync(self) -> bool {
        matches!(self, Mode::NoSync(_))
    }
}

/// One column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// How records are made durable.
    pub mode: Mode,
    /// The size of every record.
    pub record_bytes: usize,
}

/// Something that takes records.
pub trait Candidate {
    /// Its name in the table.
    fn name(&self) -> String;

    /// False where it cannot do what the case asks.
    fn can(&self, case: &Case) -> bool {
        let _ = case;
        true
    }

    /// Opens it in an empty directory, ready to be measured: whatever it prepares ahead of need is prepared.
    fn open(&self, directory: &Path, case: &Case) -> Box<dyn Subject>;
}

/// An open candidate. Failing calls panic: a benchmark on a failing disk measures nothing.
pub trait Subject: Send + Sync {
    /// Takes a batch. `writer` counts the writers from 0.
    fn append(&self, writer: usize, batch: &[&[u8]]);

    /// Everything that this writer appended is in the file.
    fn write(&self, writer: usize);

    /// Everything that this writer appended is on the device.
    fn sync(&self, writer: usize);

    /// Between measurements: sync, free and prepare whatever it does not do in its writers' way.
    fn rest(&self) {}
}

/// The program: what the command line asks for, with these candidates beside the limits and `alloy-wal`.
pub fn run(rivals: &[&dyn Candidate]) {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    let number = |flag: &str, default: usize| {
        value(flag).map_or(default, |text| text.parse().expect("a number behind the flag"))
    };
    let directory = value("--directory").map_or_else(std::env::temp_dir, Into::into);
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let all = !["append", "replay", "sustained"].into_iter().any(named);
    if all || named("append") {
        let only = value("--only").unwrap_or_default();
        report::append(rivals, number("--rounds", 7), &only, &directory);
    }
    if all || named("replay") {
        report::replay(number("--gib", 1), &directory);
    }
    if all || named("sustained") {
        report::sustained(number("--gib", 1), &directory);
    }
}
