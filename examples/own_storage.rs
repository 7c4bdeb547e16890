//! A storage of one's own: the log asks it for files that are written at offsets, synced, renamed and removed, and for nothing
//! else. This one wraps the file system and counts what the log does to it; another might be a raw device or a test.
//!
//! `cargo run -p examples --example own_storage`

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alloy_wal::{FileStorage, Fill, Log, Options, Result, SegmentFile, Start, Storage, Wal};

/// Counts, shared by the storage and its files.
#[derive(Default)]
struct Counts {
    writes: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
}

/// The directory of the operating system, which also holds the lock against a second process.
struct Counting {
    inner: FileStorage,
    counts: Arc<Counts>,
}

struct CountingFile {
    inner: Box<dyn SegmentFile>,
    counts: Arc<Counts>,
}

impl Counting {
    fn file(&self, inner: Box<dyn SegmentFile>) -> Box<dyn SegmentFile> {
        Box::new(CountingFile { inner, counts: self.counts.clone() })
    }
}

// The trait's docs have the contract in numbered lines. What this storage hands on, the inner one keeps.
impl Storage for Counting {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn create(&self, name: &str, bytes: u64, fill: Fill) -> io::Result<Box<dyn SegmentFile>> {
        Ok(self.file(self.inner.create(name, bytes, fill)?))
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        Ok(self.file(self.inner.open(name)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_directory()
    }
    fn salt(&self) -> u64 {
        self.inner.salt()
    }
}

impl SegmentFile for CountingFile {
    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.inner.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync()
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.inner.truncate(bytes)
    }
    // `window` and `has_windows` keep their defaults: reads copy.
}

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("own_storage-{}", std::process::id()));
    let counts = Arc::new(Counts::default());
    let storage = Counting { inner: FileStorage::open(&directory)?, counts: counts.clone() };
    let log = Log::open_on(Arc::new(storage), Options::default())?;
    log.consumer("nobody", Start::Oldest)?;
    for batch in 0..10u64 {
        let records = [[batch as u8; 100]; 10];
        log.append(&records.each_ref().map(|record| &record[..]), 0)?;
    }
    log.sync()?; // A hundred records, ten batches: one write and one sync of the file, one of the directory.
    log.close()?;
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let [writes, bytes, syncs] = [&counts.writes, &counts.bytes, &counts.syncs].map(read);
    println!(
        "100 records of 100 bytes: {writes} writes, {bytes} bytes, {syncs} syncs, headers and cursors included"
    );
    // Only this example's own files are in it. That they could not be removed harms nobody.
    let _ = std::fs::remove_dir_all(&directory);
    Ok(())
}
