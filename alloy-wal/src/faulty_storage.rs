//! A disk in memory that does what real ones do on a bad day, by seed: it loses what was not synced, keeps any subset of it, tears
//! writes, fills up, fails calls, forgets after a failed sync, and flips bits.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::sync::{Mutex, MutexGuard};

use crate::segment::lock;
use crate::storage::{Fill, SegmentFile, Storage};

/// What a device writes or loses as a whole.
const BLOCK_BYTES: usize = 512;

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the machine goes on, so everything written is there.
    Process,
    /// Power fails: of what was not synced, any blocks and any first part of the changes of names survive.
    Power,
}

/// Calls that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Creating a file.
    Create,
    /// Opening, listing, measuring or reading.
    Read,
    /// Writing to a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Renaming or removing.
    Name,
    /// Syncing the directory.
    SyncDirectory,
}

/// A [`Storage`] in memory with faults. Clones are the same disk; [`restart`](FaultyStorage::restart) makes a
/// new process on it, and the handles of the old one are dead.
#[derive(Clone)]
pub struct FaultyStorage {
    disk: Arc<Mutex<Disk>>,
    epoch: u64,
}

#[derive(Default)]
struct Disk {
    random: u64,
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
    epoch: u64,
    dead: bool,
    calls: u64,
    salts: u64,
    capacity: Option<u64>,
    crash_at: Option<u64>,
    fail_at: Option<(u64, io::ErrorKind)>,
    fail_every: Option<(u64, io::ErrorKind)>,
    fail_operation: Option<(Operation, io::ErrorKind, u64)>,
    bad_sectors: Option<(String, Range<u64>)>,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

enum NameChange {
    Link(String, usize),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl FaultyStorage {
    /// An empty disk; everything it does follows from the seed.
    pub fn new(seed: u64) -> FaultyStorage {
        let disk = Disk { random: seed, ..Disk::default() };
        FaultyStorage { disk: Arc::new(Mutex::new(disk)), epoch: 0 }
    }

    /// Ends the running process and starts another one on what is left. Faults are healed.
    pub fn restart(&self, crash: Crash) -> FaultyStorage {
        let mut disk = self.lock();
        disk.epoch += 1;
        disk.heal();
        if crash == Crash::Power {
            disk.lose_power();
        }
        FaultyStorage { disk: self.disk.clone(), epoch: disk.epoch }
    }

    /// From the `call`-th call on (0 is the next one) nothing works any more, as if the process had died in it.
    pub fn crash_at(&self, call: u64) {
        let mut disk = self.lock();
        disk.crash_at = Some(disk.calls + call);
    }

    /// The `call`-th call from now on (0 is the next one) fails, once.
    pub fn fail_call(&self, call: u64, kind: io::ErrorKind) {
        let mut disk = self.lock();
        disk.fail_at = Some((disk.calls + call, kind));
    }

    /// Every `nth` call fails.
    pub fn fail_every(&self, nth: u64, kind: io::ErrorKind) {
        self.lock().fail_every = Some((nth.max(1), kind));
    }

    /// The next `times` calls of this sort fail.
    pub fn fail_operation(&self, operation: Operation, kind: io::ErrorKind, times: u64) {
        self.lock().fail_operation = Some((operation, kind, times));
    }

    /// Reads of these bytes of a file fail until [`heal`](FaultyStorage::heal).
    pub fn fail_reads(&self, name: &str, bytes: Range<u64>) {
        self.lock().bad_sectors = Some((name.into(), bytes));
    }

    /// Files cannot take more than this together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Nothing fails any more; what was lost stays lost.
    pub fn heal(&self) {
        self.lock().heal();
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Names and lengths of all files.
    pub fn files(&self) -> Vec<(String, u64)> {
        let disk = self.lock();
        disk.names.iter().map(|(name, &file)| (name.clone(), disk.files[file].now.len() as u64)).collect()
    }

    /// The bytes of a file.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.lock();
        disk.names.get(name).map(|&file| disk.files[file].now.clone())
    }

    /// Replaces the bytes of a file, on the device too; creates it if it is missing.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.lock();
        let file = disk.files.len();
        disk.files.push(Content { now: bytes.clone(), durable: bytes, dirty: BTreeSet::new() });
        disk.names.insert(name.into(), file);
        disk.durable_names.insert(name.into(), file);
    }

    /// Flips one bit of a file, on the device too. False if there is no such byte.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut disk = self.lock();
        let Some(&file) = disk.names.get(name) else { return false };
        let content = &mut disk.files[file];
        let at = offset as usize;
        if let Some(byte) = content.durable.get_mut(at) {
            *byte ^= 1 << (bit % 8);
        }
        content.now.get_mut(at).map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    fn call(&self, operation: Operation) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.lock();
        disk.call(operation, self.epoch)?;
        Ok(disk)
    }

    fn file(&self, file: usize) -> Box<dyn SegmentFile> {
        Box::new(FaultyFile { storage: self.clone(), file })
    }
}

impl Disk {
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    fn heal(&mut self) {
        self.dead = false;
        self.capacity = None;
        self.crash_at = None;
        self.fail_at = None;
        self.fail_every = None;
        self.fail_operation = None;
        self.bad_sectors = None;
    }

    fn is_alive(&self, epoch: u64) -> bool {
        !self.dead && epoch == self.epoch
    }

    fn call(&mut self, operation: Operation, epoch: u64) -> io::Result<()> {
        let call = self.calls;
        if !self.is_alive(epoch) {
            return Err(io::Error::other("this process is dead"));
        }
        self.calls += 1;
        if self.crash_at.is_some_and(|at| call >= at) {
            self.dead = true;
            return Err(io::Error::other("this process dies"));
        }
        if let Some((at, kind)) = self.fail_at
            && call == at
        {
            return Err(kind.into());
        }
        if let Some((nth, kind)) = self.fail_every
            && call.is_multiple_of(nth)
        {
            return Err(kind.into());
        }
        if let Some((failing, kind, times)) = &mut self.fail_operation
            && *failing == operation
            && *times > 0
        {
            *times -= 1;
            return Err((*kind).into());
        }
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    fn lose_power(&mut self) {
        let survivors = self.random(self.pending_names.len() as u64 + 1) as usize;
        let pending = std::mem::take(&mut self.pending_names);
        for change in &pending[..survivors] {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        // All, none, or every second block on average.
        let chance = [0, 50, 100][self.random(3) as usize];
        for index in 0..self.files.len() {
            let mut content = std::mem::take(&mut self.files[index]);
            let length = if self.random(100) < chance { content.now.len() } else { content.durable.len() };
            content.durable.resize(length, 0);
            for block in std::mem::take(&mut content.dirty) {
                if self.random(100) < chance {
                    content.keep(block);
                }
            }
            content.now = content.durable.clone();
            self.files[index] = content;
        }
    }
}

impl Content {
    /// The block reaches the device.
    fn keep(&mut self, block: usize) {
        let start = block * BLOCK_BYTES;
        let end = (start + BLOCK_BYTES).min(self.now.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.now[start..end]);
        }
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / BLOCK_BYTES..=(end - 1) / BLOCK_BYTES);
    }
}

impl Storage for FaultyStorage {
    fn location(&self) -> String {
        "a faulty disk".into()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.call(Operation::Read)?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64, _fill: Fill) -> io::Result<Box<dyn SegmentFile>> {
        let mut disk = self.call(Operation::Create)?;
        let used: u64 = disk.names.values().map(|&file| disk.files[file].now.len() as u64).sum();
        if disk.capacity.is_some_and(|capacity| used + bytes > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = disk.files.len();
        disk.files.push(Content { now: vec![0; bytes as usize], ..Content::default() });
        disk.change_name(NameChange::Link(name.into(), file));
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        let disk = self.call(Operation::Read)?;
        let file = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.call(Operation::Name)?;
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.call(Operation::Name)?;
        if !disk.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(NameChange::Remove(name.into()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.call(Operation::SyncDirectory)?;
        disk.durable_names = disk.names.clone();
        disk.pending_names.clear();
        Ok(())
    }

    fn salt(&self) -> u64 {
        let mut disk = self.lock();
        disk.salts += 1;
        disk.salts.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

struct FaultyFile {
    storage: FaultyStorage,
    file: usize,
}

impl SegmentFile for FaultyFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.storage.call(Operation::Read)?.files[self.file].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.storage.call(Operation::Read)?;
        let end = offset + buffer.len() as u64;
        if let Some((name, bad)) = &disk.bad_sectors
            && disk.names.get(name) == Some(&self.file)
            && bad.start < end
            && offset < bad.end
        {
            return Err(io::Error::other("bad sector"));
        }
        let Some(rest) = disk.files[self.file].now.get(offset as usize..) else { return Ok(0) };
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.storage.lock();
        let alive = disk.is_alive(self.storage.epoch);
        if let Err(error) = disk.call(Operation::Write, self.storage.epoch) {
            if alive {
                // A write that fails leaves any first part behind.
                let part = disk.random(bytes.len() as u64 + 1) as usize;
                disk.files[self.file].write(&bytes[..part], offset as usize);
            }
            return Err(error);
        }
        disk.files[self.file].write(bytes, offset as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.storage.lock();
        let result = disk.call(Operation::Sync, self.storage.epoch);
        if !disk.is_alive(self.storage.epoch) {
            return result;
        }
        let content = &mut disk.files[self.file];
        let length = content.now.len();
        let dirty = std::mem::take(&mut content.dirty);
        if result.is_ok() {
            content.durable.resize(length, 0);
            dirty.into_iter().for_each(|block| content.keep(block));
        }
        // After a failure the blocks count as clean: the next sync says Ok, and they are not there.
        result
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.storage.call(Operation::Write)?;
        disk.files[self.file].now.truncate(bytes as usize);
        Ok(())
    }
}
