//! A log and nothing else: append, crash in miniature, open again, go on where the consumer was.
//!
//! `cargo run -p examples --example wal_only`

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_wal::{Item, Log, Options, Read, Result, Start, Wal};

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("wal_only-{}", std::process::id()));
    first_process(&directory)?;
    second_process(&directory)?;
    // Only this example's own files are in it. That they could not be removed harms nobody.
    let _ = std::fs::remove_dir_all(&directory);
    Ok(())
}

/// The library reads no clock: the caller says what time it is.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn first_process(directory: &Path) -> Result<()> {
    let log = Log::open(directory, Options::default())?;
    let sender = log.consumer("sender", Start::Oldest)?;
    for number in 0..5 {
        log.append(&[format!("record {number}").as_bytes()], now_ms())?;
    }
    log.sync()?; // Durable: it survives power loss.
    log.acknowledge(sender, 0..2)?;
    log.save_cursors()?; // So does this.
    log.append(&[b"written, not synced"], now_ms())?;
    log.write()?; // It survives the death of the process.
    log.append(&[b"staged only"], now_ms())?; // It does not.
    println!("first process:  {:?}", log.watermarks());
    Ok(()) // The log is dropped as if the process had died: nothing more is written.
}

fn second_process(directory: &Path) -> Result<()> {
    let log = Log::open(directory, Options::default())?;
    println!("second process: {:?}", log.watermarks());
    println!("recovery found: {:?}", log.recovery());
    let sender = log.consumer("sender", Start::Oldest)?;
    let mut next = log.next_unacknowledged(sender, 0)?;
    println!("the sender goes on at {next}");
    for item in log.read(next, Read::default())? {
        match &item {
            Item::Record(record) => {
                println!("  {}: {}", record.position, String::from_utf8_lossy(&record.payload));
            }
            Item::Gap(gap) => println!("  {:?} are gone: {:?}", gap.positions, gap.reason),
        }
        log.acknowledge(sender, next..item.next())?;
        next = item.next();
    }
    log.release(now_ms())?;
    println!("and stands at   {:?}", log.cursor(sender)?);
    log.close()
}
