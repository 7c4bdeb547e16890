//! Group commit and the waking of waiters under thousands of interleavings of the threads, chosen by seed: whoever got `Ok` has
//! what was promised, nobody waits for ever (the scheduler reports a deadlock), and a failure is told to all.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test -p alloy-wal --test interleavings --release`, with `ALLOY_WAL_INTERLEAVINGS=n` for
//! more. A failing schedule is printed, and `shuttle::replay` repeats it.
#![cfg(shuttle)]

use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use alloy_wal::conformance::{read_all, small_options};
use alloy_wal::{FaultyStorage, Log, Operation, Start, Wal};
use shuttle::thread;

/// Runs it under as many schedules as the environment says, half of them random, half with few changes of thread.
fn check(test: fn()) {
    let wanted = std::env::var("ALLOY_WAL_INTERLEAVINGS").ok().and_then(|text| text.parse().ok());
    let schedules = wanted.unwrap_or(2000);
    shuttle::check_random(test, schedules / 2);
    shuttle::check_pct(test, schedules / 2, 3);
}

fn open() -> (FaultyStorage, Arc<Log>) {
    let storage = FaultyStorage::new(1);
    let log = Log::open_on(Arc::new(storage.clone()), small_options()).expect("opens");
    (storage, Arc::new(log))
}

/// So many threads append and commit twice each.
fn commit(log: &Arc<Log>, threads: u64) -> Vec<thread::JoinHandle<()>> {
    let commit = |number: u64| {
        let log = log.clone();
        thread::spawn(move || {
            for round in 0..2 {
                let end = log.append(&[b"x", b"y"], 0).expect("room").end;
                if (number + round) % 3 == 0 {
                    assert!(log.write().expect("survived").written >= end);
                } else {
                    assert!(log.sync().expect("survived").durable >= end);
                }
            }
        })
    };
    (0..threads).map(commit).collect()
}

#[test]
fn every_commit_has_its_records_on_the_device() {
    check(|| {
        let (_, log) = open();
        commit(&log, 3).into_iter().for_each(|writer| writer.join().expect("no panic"));
        assert_eq!(log.watermarks().written, 12);
        assert_eq!(read_all(&*log, 0).expect("readable").len(), 12);
    });
}

#[test]
fn a_failed_sync_or_write_is_survived_by_all() {
    check(|| {
        for operation in [Operation::Sync, Operation::Write] {
            let (storage, log) = open();
            storage.fail_operation(operation, ErrorKind::Other, 1);
            commit(&log, 3).into_iter().for_each(|writer| writer.join().expect("no panic"));
            assert_eq!(log.sync().expect("the disk works").durable, 12);
            assert_eq!(read_all(&*log, 0).expect("readable").len(), 12);
        }
    });
}

#[test]
fn when_the_log_fails_everybody_is_told() {
    check(|| {
        let (storage, log) = open();
        storage.fail_operation(Operation::Sync, ErrorKind::Other, u64::MAX);
        let syncing: Vec<_> = (0..3)
            .map(|_| {
                let log = log.clone();
                thread::spawn(move || {
                    let _ = log.append(&[b"x"], 0);
                    assert!(log.sync().expect_err("the disk is gone").is_failed());
                })
            })
            .collect();
        syncing.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn committing_goes_on_while_the_house_is_kept() {
    check(|| {
        let (_, log) = open();
        let consumer = log.consumer("reader", Start::Oldest).expect("created");
        let writers = commit(&log, 2);
        for _ in 0..2 {
            let written = log.watermarks().written;
            log.acknowledge(consumer, 0..written).expect("written");
            log.release(0).expect("the disk works");
            log.prepare().expect("the disk works");
        }
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    });
}

#[test]
fn a_reader_sees_all_that_is_written_and_nothing_else() {
    check(|| {
        let (_, log) = open();
        let consumer = log.consumer("reader", Start::Oldest).expect("created");
        let writers = commit(&log, 2);
        let mut next = 0;
        while next < 8 {
            let written = log.watermarks().written;
            let items = read_all(&*log, next).expect("readable");
            let end = items.last().map_or(next, alloy_wal::Item::next);
            assert!(end >= written, "{written} were written, {end} are read");
            assert!(end <= log.watermarks().written && items.len() as u64 == end - next);
            assert!(items.iter().all(|item| matches!(item, alloy_wal::Item::Record(_))));
            log.acknowledge(consumer, next..end).expect("written");
            log.note_cursors().expect("the disk works");
            next = end;
            thread::yield_now();
        }
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        assert_eq!(log.cursor(consumer).expect("known").acknowledged, 8);
    });
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_waiter_is_woken_for_every_change() {
    check(|| {
        let (_, log) = open();
        let waiter = {
            let log = log.clone();
            thread::spawn(move || {
                let waker = Waker::from(Arc::new(Unpark(thread::current())));
                let mut seen = log.watermarks();
                while seen.durable < 4 {
                    match log.poll_watermarks(&mut Context::from_waker(&waker), &seen) {
                        Poll::Ready(now) => seen = now,
                        Poll::Pending => thread::park(),
                    }
                }
            })
        };
        for _ in 0..4 {
            log.append(&[b"x"], 0).expect("room");
            log.sync().expect("the disk works");
        }
        waiter.join().expect("woken");
    });
}
