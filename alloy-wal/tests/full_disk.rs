//! A real file system that is full: a tmpfs of four megabytes, mounted by the test. Without the right to mount it says so and
//! passes; `faults.rs` has the same on a disk in memory.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_wal::conformance::{append, payload, read_all};
use alloy_wal::{Item, Log, Options, Start, Wal};

/// One test at a time: until a program that another one starts is in place, it holds all open files of this process, and space that is
/// freed stays taken.
static ALONE: Mutex<()> = Mutex::new(());

/// A mounted tmpfs; unmounted when dropped.
struct Mounted(tempfile::TempDir, #[expect(dead_code)] MutexGuard<'static, ()>);

impl Mounted {
    fn new(bytes: u64) -> Option<Mounted> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = format!("size={bytes}");
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs"];
        let status = Command::new("mount").args(arguments).arg(directory.path()).output();
        match status {
            Ok(output) if output.status.success() => Some(Mounted(directory, alone)),
            other => {
                println!("skipped: cannot mount a tmpfs: {other:?}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Left mounted it would outlive the test; there is nobody to tell.
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn options() -> Options {
    Options { segment_bytes: 256 << 10, max_bytes: 64 << 20, spares: 0, ..Options::default() }
}

/// Everything up to `written` is there and genuine.
fn check(log: &Log, released: u64, written: u64) {
    let items = read_all(log, released).expect("readable");
    assert_eq!(items.len() as u64, written - released);
    for item in items {
        let Item::Record(record) = item else { panic!("{item:?}") };
        assert_eq!(record.payload, payload(record.position));
    }
}

fn fill(log: &Log) -> u64 {
    loop {
        append(log, 50).expect("room in memory");
        match log.sync() {
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_full(), "{error}");
                return log.watermarks().written;
            }
        }
    }
}

fn run(directory: &Path) {
    let log = Log::open(directory, options()).expect("opens");
    let consumer = log.consumer("c", Start::Oldest).expect("created");
    let written = fill(&log);
    assert!(written > 1000, "{written}");
    check(&log, 0, written);

    // Freeing needs no space, and what was refused is written then.
    let half = written / 2;
    let mut low = 0;
    while low < half {
        let end = half.min(low + 50_000);
        log.acknowledge(consumer, low..end).expect("in the window");
        low = end;
    }
    let released = log.release(0).expect("no space is needed").released;
    assert!(released > 0);
    let now = log.sync().expect("there is space again");
    assert_eq!(now.durable, now.staged);
    check(&log, released, now.written);

    // It fills up again, is killed, and opens on the full disk.
    fill(&log);
    let now = log.watermarks();
    drop(log);
    let log = Log::open(directory, options()).expect("opening needs no space");
    assert!(log.watermarks().written >= now.written);
    check(&log, log.watermarks().released, log.watermarks().written);
}

#[test]
fn a_read_only_file_system_is_an_error_that_says_so() {
    let Some(mounted) = Mounted::new(4 << 20) else { return };
    let log = Log::open(mounted.0.path(), options()).expect("opens");
    append(&log, 10).expect("room");
    log.close().expect("the disk works");
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(mounted.0.path()).status();
    assert!(remounted.expect("there is mount").success());
    let error = Log::open(mounted.0.path(), options()).map(drop).expect_err("read-only");
    assert!(
        error.to_string().contains("LOCK") && error.to_string().contains("Read-only file system"),
        "{error}"
    );
    // Looking needs no right to write.
    let inspection = alloy_wal::Inspection::open(mounted.0.path()).expect("readable");
    assert_eq!(inspection.segments.len(), 1);
}

#[test]
fn a_full_file_system_refuses_without_a_signal_and_without_losing_anything() {
    if let Some(mounted) = Mounted::new(4 << 20) {
        run(mounted.0.path());
    }
}
