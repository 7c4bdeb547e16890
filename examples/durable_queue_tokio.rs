//! A durable queue for async code: the log knows no runtime, so this is the bridge. Producers wait for room and for
//! durability, the consumer has several records in flight and acknowledges them as they finish, in any order.
//!
//! `cargo run -p examples --example durable_queue_tokio`

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_wal::{Item, Log, Options, Policy, Position, Read, Result, Start, Wal};
use tokio::task::{JoinSet, spawn_blocking};

const RECORDS: u64 = 200;
const IN_FLIGHT: usize = 8;

/// What any number of tasks share.
#[derive(Clone)]
struct Queue {
    log: Arc<Log>,
}

impl Queue {
    /// Returns when the record is durable. A full log is waited for: this is `Policy::Block`, for async code.
    async fn push(&self, record: Vec<u8>) -> Result<Position> {
        loop {
            let seen = self.log.watermarks();
            // Appending only copies memory, so it may run on the executor.
            match self.log.append(&[&record], now_ms()) {
                Ok(position) => {
                    self.durable(position.end).await?;
                    return Ok(position.start);
                }
                Err(error) if error.is_full() => {
                    poll_fn(|context| self.log.poll_watermarks(context, &seen)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until everything below `end` is on the device. Those who wait at the same time share one sync.
    async fn durable(&self, end: Position) -> Result<()> {
        while self.log.watermarks().durable < end {
            let log = self.log.clone();
            // Syncing waits for the disk: on a thread that may.
            spawn_blocking(move || log.sync()).await.expect("sync does not panic")?;
        }
        Ok(())
    }

    /// The next items from a position on; waits until there are any.
    async fn pull(&self, from: Position) -> Result<Vec<Item>> {
        loop {
            let seen = self.log.watermarks();
            let log = self.log.clone();
            let limit = Read { items: IN_FLIGHT, bytes: 1 << 20 };
            let items = spawn_blocking(move || log.read(from, limit)).await.expect("read does not panic")?;
            if !items.is_empty() {
                return Ok(items);
            }
            poll_fn(|context| self.log.poll_watermarks(context, &seen)).await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("durable_queue_tokio-{}", std::process::id()));
    let options = Options { policy: Policy::Refuse, ..Options::default() };
    let queue = Queue { log: Arc::new(Log::open(&directory, options)?) };
    let consumer = queue.log.consumer("worker", Start::Oldest)?;

    let mut producers = JoinSet::new();
    for producer in 0..4 {
        let queue = queue.clone();
        producers.spawn(async move {
            for number in 0..RECORDS / 4 {
                queue.push(format!("job {number} of producer {producer}").into_bytes()).await?;
            }
            Ok::<_, alloy_wal::Error>(())
        });
    }

    let mut next = queue.log.next_unacknowledged(consumer, 0)?;
    while next < RECORDS {
        let mut jobs = JoinSet::new();
        for item in queue.pull(next).await? {
            let (log, positions) = (queue.log.clone(), next..item.next());
            next = item.next();
            jobs.spawn(async move {
                // The work. Jobs finish out of order; a crash before the acknowledgement is saved repeats the job.
                tokio::time::sleep(Duration::from_micros(positions.start % 7 * 100)).await;
                log.acknowledge(consumer, positions)
            });
        }
        while let Some(job) = jobs.join_next().await {
            job.expect("no job panics")?;
        }
    }
    while let Some(producer) = producers.join_next().await {
        producer.expect("no producer panics")?;
    }

    let log = queue.log.clone();
    spawn_blocking(move || log.release(now_ms())).await.expect("release does not panic")?;
    println!("{} jobs done, {:?}", RECORDS, queue.log.cursor(consumer)?);
    println!("{} syncs made them durable", queue.log.stats().syncs);
    // Only this example's own files are in it. That they could not be removed harms nobody.
    let _ = std::fs::remove_dir_all(&directory);
    Ok(())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
