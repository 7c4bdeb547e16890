//! The tables of docs/benchmarks.md.

use std::path::Path;
use std::time::Duration;

use super::alloy::Alloy;
use super::limits::{Memory, RawDisk};
use super::table::{Row, measure, print, quantile};
use super::{Candidate, Case, Mode, replay as log};

const RECORD_BYTES: [usize; 3] = [128, 1 << 10, 16 << 10];
const MODES: [(Mode, &str); 4] = [
    (Mode::NoSync, "no sync"),
    (Mode::SyncPerMebibyte, "per MiB"),
    (Mode::Commit(1), "64, 1 writer"),
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
    if let Some(bytes) = log::device_bytes(own.path(), 2000) {
        println!("Bytes written by the device for each byte acknowledged (1 KiB x 64): {bytes:.3}.");
    }
}
