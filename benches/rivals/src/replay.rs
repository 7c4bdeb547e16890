//! Opening a log again and reading all of it, ours beside others'. Records of 1 KiB; everything is in the page cache.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches::wal::replay as ours;
use benches::wal::table::quantile;
use commitlog::message::MessageSet;

use crate::rivals;

const RECORD: [u8; 1024] = [0x5a; 1024];
const BATCH: usize = 1024;

/// How long opening took, then reading all, where it is a step of its own.
type Reopened = fn(&Path) -> (Duration, Option<Duration>);

/// Fills each log once, opens it five times, and prints the medians.
pub fn run(gib: usize, directory: &Path) {
    println!("\n### {gib} GiB again, records of 1 KiB, hot\n");
    println!("| | open | read all |\n| --- | --- | --- |");
    let ours_reopened: Reopened = |path| {
        (
            ours::open(path, 1, false, false),
            Some(Duration::from_secs_f64(bytes(path) / ours::replay(path, false, false))),
        )
    };
    let logs: [(&str, fn(&Path, usize), Reopened); 4] = [
        ("alloy-wal", ours::fill, ours_reopened),
        ("okaywal (replays while it opens)", |path, bytes| fill(&rivals::okaywal(path), bytes), okaywal),
        (
            "raft-engine (replays while it opens)",
            |path, bytes| fill(&rivals::raft_engine(path), bytes),
            raft_engine,
        ),
        ("commitlog", |path, bytes| fill(&rivals::commitlog(path), bytes), commitlog),
    ];
    for (name, fill, reopen) in logs {
        let own = tempfile::tempdir_in(directory).expect("a writable directory");
        fill(own.path(), gib << 30);
        let rounds: Vec<_> = (0..5).map(|_| reopen(own.path())).collect();
        let median = |times: Vec<Duration>| quantile(times, 0.5);
        let open = median(rounds.iter().map(|(open, _)| *open).collect()).unwrap_or_default();
        let read = median(rounds.iter().filter_map(|(_, read)| *read).collect());
        let speed = |read: Duration| format!("{:.0} MB/s", (gib << 30) as f64 / read.as_secs_f64() / 1e6);
        let read = read.map_or_else(|| "–".into(), speed);
        println!("| {name} | {:.1} ms | {read} |", open.as_secs_f64() * 1e3);
    }
}

/// Bytes of the files in a directory.
fn bytes(directory: &Path) -> f64 {
    let entries = std::fs::read_dir(directory).expect("readable");
    entries.map(|entry| entry.expect("readable").metadata().expect("there").len() as f64).sum()
}

fn fill(put: &crate::Put, bytes: usize) {
    let batch = vec![&RECORD[..]; BATCH];
    (0..bytes / BATCH / RECORD.len()).for_each(|_| put(0, &batch, false));
}

/// Counts what is recovered.
#[derive(Debug)]
struct Count(Arc<AtomicU64>);

impl okaywal::LogManager for Count {
    fn recover(&mut self, entry: &mut okaywal::Entry<'_>) -> io::Result<()> {
        let chunks = entry.read_all_chunks()?.unwrap_or_default();
        self.0.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: okaywal::EntryId,
        _entries: &mut okaywal::SegmentReader,
        _log: &okaywal::WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

fn okaywal(directory: &Path) -> (Duration, Option<Duration>) {
    let records = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let log = okaywal::Configuration::default_for(directory)
        .preallocate_bytes(64 << 20)
        .checkpoint_after_bytes(u64::MAX)
        .open(Count(records.clone()))
        .expect("opens");
    let took = start.elapsed();
    log.shutdown().expect("closes");
    assert!(records.load(Ordering::Relaxed) > 0, "it recovered nothing");
    (took, None)
}

fn raft_engine(directory: &Path) -> (Duration, Option<Duration>) {
    let start = Instant::now();
    let log = rivals::open_raft_engine(directory);
    let took = start.elapsed();
    assert!(!log.is_empty(), "it recovered nothing");
    (took, None)
}

fn commitlog(directory: &Path) -> (Duration, Option<Duration>) {
    let start = Instant::now();
    let log = rivals::open_commitlog(directory);
    let opened = start.elapsed();
    let mut next = 0;
    loop {
        let messages = log.read(next, commitlog::ReadLimit::max_bytes(1 << 20)).expect("readable");
        let Some(last) = messages.iter().map(|message| message.offset()).last() else { break };
        next = last + 1;
    }
    assert!(next > 0, "it read nothing");
    (opened, Some(start.elapsed() - opened))
}
