//! Many threads on one log: nobody waits for ever, everybody gets what was promised.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;

use alloy_wal::conformance::{read_all, small_options};
use alloy_wal::{FaultyStorage, Item, Log, Operation, Options, Start, Wal};

/// Eight writers, a reader and a keeper of the house; returns how many records were acknowledged.
fn run(log: &Log, rounds: u64) -> u64 {
    let done = AtomicBool::new(false);
    let consumer = log.consumer("reader", Start::Oldest).expect("created");
    thread::scope(|scope| {
        let writers: Vec<_> = (0..8u64)
            .map(|writer| {
                scope.spawn(move || {
                    for round in 0..rounds {
                        let payload = (writer << 32 | round).to_le_bytes();
                        let appended = loop {
                            match log.append(&[&payload, &payload], round) {
                                Ok(appended) => break appended,
                                Err(error) if error.is_full() => drop(log.write()),
                                Err(error) => panic!("{error}"),
                            }
                        };
                        let now = if round % 3 == 0 { log.sync() } else { log.write() }.expect("survived");
                        assert!(now.written >= appended.end);
                        assert!(round % 3 != 0 || now.durable >= appended.end);
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut next = 0;
            let mut seen = [0u64; 8];
            loop {
                let last = done.load(Ordering::SeqCst);
                let items = read_all(log, next).expect("readable");
                for item in &items {
                    let Item::Record(record) = item else { panic!("{item:?}") };
                    let value = u64::from_le_bytes(record.payload[..].try_into().expect("eight bytes"));
                    let writer = (value >> 32) as usize;
                    assert_eq!(value & 0xffff_ffff, seen[writer] / 2, "in the order of its writer");
                    seen[writer] += 1;
                    log.acknowledge(consumer, record.position..record.position + 1).expect("in order");
                    next = record.position + 1;
                }
                log.release(0).expect("survived");
                log.prepare().expect("survived");
                if last && items.is_empty() {
                    return next;
                }
                thread::yield_now();
            }
        });
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        done.store(true, Ordering::SeqCst);
        reader.join().expect("no panic")
    })
}

#[test]
fn writers_and_a_reader_share_a_log() {
    let log = Log::open_on(Arc::new(FaultyStorage::new(1)), small_options()).expect("opens");
    assert_eq!(run(&log, 500), 8 * 500 * 2);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = Log::open(directory.path(), small_options()).expect("opens");
    assert_eq!(run(&log, 60), 8 * 60 * 2);
}

#[test]
fn failing_syncs_leave_nobody_behind() {
    let storage = FaultyStorage::new(1);
    let log = Log::open_on(Arc::new(storage.clone()), small_options()).expect("opens");
    log.consumer("reader", Start::Oldest).expect("created");
    // Far enough apart that a failure is survived before the next one comes: surviving takes some ten calls.
    storage.fail_every(101, ErrorKind::Other);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let end = log.append(&[b"x"], 0).expect("room").end;
                    assert!(log.sync().expect("survived").durable >= end);
                }
            });
        }
    });
    storage.heal();
    assert!(log.stats().storage_failures > 0);
    assert_eq!(log.watermarks().durable, 200);
    assert_eq!(read_all(&log, 0).expect("readable").len(), 200);
}

#[test]
fn when_the_log_fails_everybody_is_told() {
    let storage = FaultyStorage::new(1);
    let log = Log::open_on(Arc::new(storage.clone()), small_options()).expect("opens");
    storage.fail_operation(Operation::Sync, ErrorKind::Other, u64::MAX);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _ = log.append(&[b"x"], 0);
                assert!(log.sync().expect_err("the disk is gone").is_failed());
            });
        }
    });
}

/// Wakes a thread that is parked.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_thread_waits_for_durability_with_a_waker_of_its_own() {
    let log = Arc::new(Log::open_on(Arc::new(FaultyStorage::new(1)), Options::default()).expect("opens"));
    let waiter = {
        let log = log.clone();
        thread::spawn(move || {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            let mut seen = log.watermarks();
            while seen.durable < 100 {
                match log.poll_watermarks(&mut Context::from_waker(&waker), &seen) {
                    std::task::Poll::Ready(now) => seen = now,
                    std::task::Poll::Pending => thread::park(),
                }
            }
        })
    };
    for _ in 0..100 {
        log.append(&[b"x"], 0).expect("room");
        log.sync().expect("the disk works");
    }
    waiter.join().expect("woken");
}
