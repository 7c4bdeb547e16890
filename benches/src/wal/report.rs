//! The tables of docs/benchmarks.md.

use std::path::Path;
use std::time::Duration;

use super::alloy::Alloy;
use super::limits::{Memory, RawDisk};
use super::table::{Row, measure, print, quantile};
use super::{Candidate, Case, Mode, replay as log};

const RECORD_BYTES: [usize; 3] = [128, 1 << 10, 16 << 10];
const MODES: [(Mode, &str); 6] = [
    (Mode::NoSync(1), "no sync, 1 writer"),
    (Mode::SyncPerMebibyte(1), "per MiB, 1 writer"),
    (Mode::Commit(1), "64, 1 writer"),
    (Mode::NoSync(8), "no sync, 8 writers"),
    (Mode::SyncPerMebibyte(8), "per MiB, 8 writers"),
    (Mode::Commit(8), "64, 8 writers"),
];

/// Appending: the columns whose name contains `only`.
pub fn append(rivals: &[&dyn Candidate], rounds: usize, only: &str, directory: &Path) {
    let mut candidates: Vec<&dyn Candidate> =
        vec![&Memory { checksum: false }, &Memory { checksum: true }, &RawDisk, &Alloy];
    candidates.extend(rivals);
    let mut columns = Vec::new();
    let mut cases: Vec<Vec<Row>> = Vec::new();
    for (mode, name) in MODES {
        for record_bytes in RECORD_BYTES {
            let column = format!("{name}, {record_bytes} B");
            if !column.contains(only) {
                continue;
            }
            columns.push(column);
            cases.push(measure(&candidates, &Case { mode, record_bytes }, rounds, directory));
        }
    }
    print("Appending: ratio to the limit, median (least to most)", &columns, &cases, |row| {
        let [median, least, most] = row.ratio;
        format!("{median:.2} ({least:.2}–{most:.2})")
    });
    print("Appending: MB/s, median", &columns, &cases, |row| format!("{:.0}", row.speed / 1e6));
    print("A commit: p50 / p99, µs", &columns, &cases, |row| {
        row.commit
            .map_or_else(|| "–".into(), |[p50, p99]| format!("{} / {}", p50.as_micros(), p99.as_micros()))
    });
}

/// A load that lasts, with a thread that frees and prepares segments beside it, and the raw disk before and after.
pub fn sustained(gib: usize, directory: &Path) {
    println!(
        "\n### {gib} GiB without a pause, records of 1 KiB, a sync per MiB, segments freed and prepared meanwhile\n"
    );
    let case = Case { mode: Mode::SyncPerMebibyte(1), record_bytes: 1 << 10 };
    let raw = || {
        let own = tempfile::tempdir_in(directory).expect("a writable directory");
        let subject = RawDisk.open(own.path(), &case);
        let rounds: Vec<f64> = (0..8).map(|_| super::append::run(&*subject, &case).speed()).collect();
        quantile(rounds, 0.5).unwrap_or_default()
    };
    for _ in 0..3 {
        let before = raw();
        let own = tempfile::tempdir_in(directory).expect("a writable directory");
        let ours = log::sustained(own.path(), gib << 30);
        let limit = (before + raw()) / 2.0;
        println!("{:.0} MB/s, {:.2} of the raw disk's", ours / 1e6, ours / limit);
    }
}

/// Reading back, opening, memory, device.
pub fn replay(gib: usize, directory: &Path) {
    let own = tempfile::tempdir_in(directory).expect("a writable directory");
    let before = log::resident_bytes();
    log::fill(own.path(), gib << 30);
    println!("\n### A log of {gib} GiB, records of 1 KiB\n");
    println!("| | hot | cold |\n| --- | --- | --- |");
    let milliseconds = |took: Duration| format!("{:.1} ms", took.as_secs_f64() * 1e3);
    let opened = [false, true].map(|cold| milliseconds(log::open(own.path(), 7, false, cold)));
    println!("| open after an orderly end | {} | {} |", opened[0], opened[1]);
    let opened = [false, true].map(|cold| milliseconds(log::open(own.path(), 5, true, cold)));
    println!("| open after a crash with 1 MiB unsynced | {} | {} |", opened[0], opened[1]);
    let rounds = |cold: bool| if cold { 3 } else { 7 };
    let mut speeds = [[[0.0; 3]; 2]; 2];
    for (column, cold) in [false, true].into_iter().enumerate() {
        let mut found: [Vec<f64>; 3] = Default::default();
        let mut ratios: [Vec<f64>; 3] = Default::default();
        for _ in 0..rounds(cold) {
            let limit = log::read_and_checksum(own.path(), cold);
            let round = [limit, log::replay(own.path(), false, cold), log::replay(own.path(), true, cold)];
            for (index, speed) in round.into_iter().enumerate() {
                found[index].push(speed);
                ratios[index].push(speed / limit);
            }
        }
        let median = |values: &[Vec<f64>; 3]| values.clone().map(|it| quantile(it, 0.5).unwrap_or_default());
        speeds[column] = [median(&found), median(&ratios)];
    }
    let names = ["read + CRC alone", "replay, copied", "replay, mapped"];
    for (index, name) in names.into_iter().enumerate() {
        let cell =
            |[speed, ratio]: [[f64; 3]; 2]| format!("{:.0} MB/s ({:.2})", speed[index] / 1e6, ratio[index]);
        println!("| {name} | {} | {} |", cell(speeds[0]), cell(speeds[1]));
    }
    println!(
        "\nMemory of this process that no file backs, before and after: {} and {} MiB.",
        before >> 20,
        log::resident_bytes() >> 20
    );
    let own = tempfile::tempdir_in(directory).expect("a writable directory");
    let [once, ranges] = log::notes(own.path(), 20_000);
    println!("A cursor noted: {once:?}; with 1,000 ranges acknowledged out of order: {ranges:?}.");
    let own = tempfile::tempdir_in(directory).expect("a writable directory");
    if let Some(bytes) = log::device_bytes(own.path(), 2000) {
        println!("Bytes written by the device for each byte acknowledged (1 KiB x 64): {bytes:.3}.");
    }
}
