//! A log between plain threads: writers that wait until their records are durable, a consumer that sleeps until there is
//! something to read, and one thread that keeps the house. No async runtime, and no thread that the caller has not started.
//!
//! `cargo run -p examples --example threads_no_tokio`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_wal::{Item, Log, Options, Read, Result, Start, Wal, Watermarks};

const WRITERS: u64 = 4;
const RECORDS: u64 = 250;

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("threads_no_tokio-{}", std::process::id()));
    let log = Arc::new(Log::open(&directory, Options::default())?);
    let done = Arc::new(AtomicBool::new(false));

    let keeper = thread::spawn({
        let (log, done) = (log.clone(), done.clone());
        move || keep_house(&log, &done)
    });
    let consumer = thread::spawn({
        let log = log.clone();
        move || consume(&log)
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let log = log.clone();
            thread::spawn(move || write(&log, writer))
        })
        .collect();

    for writer in writers {
        writer.join().expect("no writer panics")?;
    }
    let bytes = consumer.join().expect("the consumer does not panic")?;
    done.store(true, Ordering::Relaxed);
    keeper.thread().unpark();
    keeper.join().expect("the keeper does not panic")?;

    let stats = log.stats();
    println!("{} records, {bytes} bytes read, {} syncs", stats.appended_records, stats.syncs);
    // Only this example's own files are in it. That they could not be removed harms nobody.
    let _ = std::fs::remove_dir_all(&directory);
    Ok(())
}

/// Every record is durable before the next one is made. Writers that wait at the same time share one sync.
fn write(log: &Log, writer: u64) -> Result<()> {
    for number in 0..RECORDS {
        let record = format!("record {number} of writer {writer}");
        log.append(&[record.as_bytes()], now_ms())?;
        log.sync()?;
    }
    Ok(())
}

/// Reads everything once, in order, and acknowledges it.
fn consume(log: &Log) -> Result<usize> {
    let consumer = log.consumer("consumer", Start::Oldest)?;
    let mut next = log.next_unacknowledged(consumer, 0)?;
    let mut bytes = 0;
    while next < WRITERS * RECORDS {
        let seen = log.watermarks();
        for item in log.read(next, Read::default())? {
            if let Item::Record(record) = &item {
                bytes += record.payload.len();
            }
            log.acknowledge(consumer, next..item.next())?;
            next = item.next();
        }
        if next >= seen.written && next < WRITERS * RECORDS {
            wait_for_news(log, seen);
        }
    }
    Ok(bytes)
}

/// Parks this thread until the watermarks differ from `seen`: what an executor does, in ten lines.
fn wait_for_news(log: &Log, seen: Watermarks) {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    while log.poll_watermarks(&mut Context::from_waker(&waker), &seen).is_pending() {
        thread::park();
    }
}

/// What may wait for the disk and is in nobody's way: saving cursors, freeing segments, preparing the next one.
fn keep_house(log: &Log, done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        log.prepare()?;
        log.release(now_ms())?;
        thread::park_timeout(Duration::from_millis(200));
    }
    log.save_cursors()
}

/// The library reads no clock: the caller says what time it is.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
