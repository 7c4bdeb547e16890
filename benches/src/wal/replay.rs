//! Reading a log back, opening it, and what it costs in memory and on the device.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy_wal::{Item, Log, Options, Read, Start, Wal};
use rustix::fs::{Advice, fadvise};

use super::table::quantile;

const RECORD_BYTES: usize = 1 << 10;

fn options(map: bool) -> Options {
    Options { max_bytes: 4 << 30, map, ..Options::default() }
}

/// Fills a log with records of 1 KiB and leaves it in an orderly way.
pub fn fill(directory: &Path, bytes: usize) {
    let log = Log::open(directory, options(true)).expect("opens");
    log.consumer("bench", Start::Oldest).expect("created");
    let record = vec![0x5a; RECORD_BYTES];
    let batch = vec![&record[..]; 1024];
    for _ in 0..bytes / (RECORD_BYTES * batch.len()) {
        log.append(&batch, 1_700_000_000_000).expect("room");
        log.write().expect("a disk that writes");
    }
    log.close().expect("a disk that syncs");
}

/// How long opening takes: the median of `times`. `crash` leaves unsynced records behind each time.
pub fn open(directory: &Path, times: usize, crash: bool, cold: bool) -> Duration {
    let took = (0..times).map(|_| {
        if crash {
            let log = Log::open(directory, options(true)).expect("opens");
            log.prepare().expect("space on the disk");
            for _ in 0..1000 {
                log.append(&[&[1; RECORD_BYTES]], 1_700_000_000_000).expect("room");
            }
            log.write().expect("a disk that writes");
        }
        if cold {
            forget(directory);
        }
        let start = Instant::now();
        let log = Log::open(directory, options(true)).expect("opens");
        let took = start.elapsed();
        drop(log);
        took
    });
    quantile(took.collect(), 0.5).expect("some")
}

/// Reads the whole log; bytes of payload a second.
pub fn replay(directory: &Path, map: bool, cold: bool) -> f64 {
    let log = Log::open(directory, options(map)).expect("opens");
    if cold {
        forget(directory);
    }
    let start = Instant::now();
    let mut next = log.watermarks().released;
    let mut bytes = 0;
    loop {
        let items = log.read(next, Read { items: 4096, bytes: 1 << 20 }).expect("a disk that reads");
        let Some(last) = items.last() else { break };
        next = last.next();
        for item in &items {
            let Item::Record(record) = item else { panic!("{item:?}") };
            bytes += black_box(&record.payload).len();
        }
    }
    bytes as f64 / start.elapsed().as_secs_f64()
}

/// The limit: reads the segments a mebibyte at a time and computes a CRC-32 for each record's worth; bytes a second.
pub fn read_and_checksum(directory: &Path, cold: bool) -> f64 {
    if cold {
        forget(directory);
    }
    let mut buffer = vec![0; 1 << 20];
    let start = Instant::now();
    let mut bytes = 0;
    for path in segments(directory) {
        let file = File::open(path).expect("readable");
        let mut offset = 0;
        loop {
            let count = file.read_at(&mut buffer, offset).expect("a disk that reads");
            if count == 0 {
                break;
            }
            for record in buffer[..count].chunks(RECORD_BYTES) {
                black_box(crc32fast::hash(record));
            }
            offset += count as u64;
        }
        bytes += offset;
    }
    bytes as f64 / start.elapsed().as_secs_f64()
}

/// The segments of a log, oldest first.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("readable").map(|entry| entry.expect("readable").path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "wal")).collect();
    paths.sort();
    paths
}

/// Drops the segments from the page cache.
fn forget(directory: &Path) {
    for path in segments(directory) {
        let file = File::open(path).expect("readable");
        file.sync_all().expect("a disk that syncs");
        fadvise(&file, 0, None, Advice::DontNeed).expect("a file system that can");
    }
}

/// Bytes of this process in memory that are not pages of files.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Bytes that the device below the directory wrote for each byte acknowledged: batches of 64 records of 1 KiB, one
/// writer. `None` if the system does not count them. Whatever else writes to the device is counted too.
pub fn device_bytes(directory: &Path, batches: usize) -> Option<f64> {
    let log = Log::open(directory, options(true)).expect("opens");
    log.prepare().expect("space on the disk");
    let batch = vec![&[0x5a; RECORD_BYTES][..]; 64];
    log.append(&batch, 1_700_000_000_000).expect("room");
    log.sync().expect("a disk that syncs");
    let before = sectors(directory)?;
    for _ in 0..batches {
        log.append(&batch, 1_700_000_000_000).expect("room");
        log.sync().expect("a disk that syncs");
    }
    let after = sectors(directory)?;
    Some(((after - before) * 512) as f64 / (batches * batch.len() * RECORD_BYTES) as f64)
}

/// How long noting a cursor takes, the median: in order, and with 1,000 ranges acknowledged out of order.
pub fn notes(directory: &Path, times: u64) -> [Duration; 2] {
    let log = Log::open(directory.join("notes"), options(false)).expect("opens");
    let consumer = log.consumer("bench", Start::Oldest).expect("created");
    log.append(&vec![&b"x"[..]; times as usize + 3000], 1_700_000_000_000).expect("room");
    log.write().expect("a disk that writes");
    let note = |position: u64| {
        log.acknowledge(consumer, position..position + 1).expect("in the window");
        let start = Instant::now();
        log.note_cursors().expect("a disk that writes");
        start.elapsed()
    };
    let in_order = (0..times).map(note).collect();
    (0..1000).for_each(|range| drop(log.acknowledge(consumer, times + 2 * range + 1..times + 2 * range + 2)));
    let out_of_order = (0..1000).map(|range| note(times + 2 * range + 1)).collect();
    [in_order, out_of_order].map(|took: Vec<Duration>| quantile(took, 0.5).expect("some"))
}

/// Appends with a sync per mebibyte and without a pause, while another thread acknowledges, frees and prepares; bytes a second.
pub fn sustained(directory: &Path, bytes: usize) -> f64 {
    let log = Log::open(directory, Options::default()).expect("opens");
    let consumer = log.consumer("bench", Start::Oldest).expect("created");
    log.prepare().expect("space on the disk");
    let done = AtomicBool::new(false);
    let record = [0x5a; RECORD_BYTES];
    std::thread::scope(|scope| {
        let keeper = scope.spawn(|| {
            let mut low = 0;
            while !done.load(Ordering::Relaxed) {
                let end = log.watermarks().durable;
                while low < end {
                    let step = end.min(low + 60_000);
                    log.acknowledge(consumer, low..step).expect("in the window");
                    low = step;
                }
                log.release(1_700_000_000_000).expect("a disk that syncs");
                log.prepare().expect("space on the disk");
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        let start = Instant::now();
        for _ in 0..bytes >> 20 {
            for _ in 0..(1 << 20) / RECORD_BYTES {
                log.append(&[&record], 1_700_000_000_000).expect("room");
            }
            log.sync().expect("a disk that syncs");
        }
        let took = start.elapsed();
        done.store(true, Ordering::Relaxed);
        keeper.join().expect("no panic");
        bytes as f64 / took.as_secs_f64()
    })
}

/// Sectors written by the device since it was started.
fn sectors(directory: &Path) -> Option<u64> {
    let device = fs::metadata(directory).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let counted = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    counted.split_whitespace().nth(6)?.parse().ok()
}
