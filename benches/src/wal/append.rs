//! Appending: one round of each mode.

use std::time::{Duration, Instant};

use super::{Case, Mode, Subject};

/// Bytes appended without a sync, below what the log may hold unsynced by default; repeated to last long enough.
const NO_SYNC_BYTES: usize = 12 << 20;
const NO_SYNC_REPEATS: usize = 8;
/// Bytes staged before they are written in that mode.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes appended with a sync per mebibyte, within one segment.
const PER_MEBIBYTE_BYTES: usize = 32 << 20;
const PER_MEBIBYTE_REPEATS: usize = 3;
/// Records of a batch.
const BATCH: usize = 64;

/// What one round took.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Payload bytes appended while the clock ran.
    pub bytes: usize,
    /// What the clock said.
    pub took: Duration,
    /// How long each commit took, if there were any.
    pub commits: Vec<Duration>,
}

impl Round {
    /// Bytes a second.
    pub fn speed(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64()
    }
}

/// Runs one round.
pub fn run(subject: &dyn Subject, case: &Case) -> Round {
    let record = vec![0x5a; case.record_bytes];
    let writers = case.mode.writers();
    match case.mode {
        Mode::NoSync(_) => repeat(subject, NO_SYNC_REPEATS, writers, |writer| {
            fill(&record, NO_SYNC_BYTES / writers, WRITE_BYTES, subject, writer, |subject, writer| {
                subject.write(writer)
            })
        }),
        Mode::SyncPerMebibyte(_) => repeat(subject, PER_MEBIBYTE_REPEATS, writers, |writer| {
            fill(&record, PER_MEBIBYTE_BYTES / writers, 1 << 20, subject, writer, |subject, writer| {
                subject.sync(writer)
            })
        }),
        Mode::Commit(_) => commit(subject, &record, writers),
    }
}

/// Every writer fills once, so many times.
fn repeat(
    subject: &dyn Subject,
    times: usize,
    writers: usize,
    fill: impl Fn(usize) -> usize + Sync,
) -> Round {
    let mut round = Round::default();
    for _ in 0..times {
        let start = Instant::now();
        if writers == 1 {
            round.bytes += fill(0);
        } else {
            let fill = &fill;
            round.bytes += std::thread::scope(|scope| {
                let handles: Vec<_> = (0..writers).map(|writer| scope.spawn(move || fill(writer))).collect();
                handles.into_iter().map(|handle| handle.join().expect("a writer fails")).sum::<usize>()
            });
        }
        round.took += start.elapsed();
        subject.rest();
    }
    round
}

/// Appends so many bytes, record by record, and puts away what has come together every `step` bytes and at the end.
fn fill(
    record: &[u8],
    bytes: usize,
    step: usize,
    subject: &dyn Subject,
    writer: usize,
    put_away: fn(&dyn Subject, usize),
) -> usize {
    let (mut total, mut staged) = (0, 0);
    while total < bytes {
        subject.append(writer, &[record]);
        total += record.len();
        staged += record.len();
        if staged >= step {
            put_away(subject, writer);
            staged = 0;
        }
    }
    put_away(subject, writer);
    total
}

fn commit(subject: &dyn Subject, record: &[u8], writers: usize) -> Round {
    let batch = vec![record; BATCH];
    let batch_bytes = BATCH * record.len();
    // 400 batches, and no more than 64 MiB from one writer or 160 MiB from all.
    let batches = (64 << 20).min((160 << 20) / writers) / batch_bytes;
    let batches = batches.min(400);
    let start = Instant::now();
    let commits = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..writers)
            .map(|writer| {
                let batch = &batch;
                scope.spawn(move || {
                    let commit = |_| {
                        let start = Instant::now();
                        subject.append(writer, batch);
                        subject.sync(writer);
                        start.elapsed()
                    };
                    (0..batches).map(commit).collect::<Vec<_>>()
                })
            })
            .collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("a writer fails")).collect()
    });
    let took = start.elapsed();
    subject.rest();
    Round { bytes: writers * batches * batch_bytes, took, commits }
}
