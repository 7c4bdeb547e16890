//! What the machine can do: memory, and the disk without a log on it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use memmap2::MmapMut;

use super::{Candidate, Case, Subject};

/// Bytes of hot pages: as many as a log with four spare segments writes to in turn. The pages are in memory, but no more of them
/// than of a log's are in the processor's caches.
const AREA_BYTES: usize = 320 << 20;
/// Bytes of a prepared file: a segment's.
const FILE_BYTES: usize = 64 << 20;

/// `memcpy` into mapped pages that are in memory already, under a lock. With `checksum`, its CRC-32 too.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Compute the same checksum as the log.
    pub checksum: bool,
}

impl Candidate for Memory {
    fn name(&self) -> String {
        if self.checksum { "memcpy + CRC into hot pages" } else { "memcpy into hot pages" }.into()
    }

    fn can(&self, case: &Case) -> bool {
        case.mode.is_without_sync()
    }

    fn open(&self, _directory: &Path, _case: &Case) -> Box<dyn Subject> {
        let mut area = MmapMut::map_anon(AREA_BYTES).expect("memory");
        area.fill(1);
        Box::new(MemoryArea { area: Mutex::new((area, 0, 0)), checksum: self.checksum })
    }
}

struct MemoryArea {
    /// The pages, the offset of the next record, the sum of all checksums.
    area: Mutex<(MmapMut, usize, u32)>,
    checksum: bool,
}

impl Subject for MemoryArea {
    fn append(&self, _writer: usize, batch: &[&[u8]]) {
        let mut locked = self.area.lock().unwrap_or_else(PoisonError::into_inner);
        let (area, offset, sum) = &mut *locked;
        for record in batch {
            if *offset + record.len() > area.len() {
                *offset = 0;
            }
            area[*offset..*offset + record.len()].copy_from_slice(record);
            if self.checksum {
                *sum ^= crc32fast::hash(&area[*offset..*offset + record.len()]);
            }
            *offset += record.len();
        }
    }

    fn write(&self, _writer: usize) {}
    fn sync(&self, _writer: usize) {}
}

/// One `pwrite` and one `fdatasync`, into a file of its own for each writer, whose blocks are written and synced before. Without a sync
/// the `pwrite` alone: what the kernel takes for a copy into its page cache.
#[derive(Debug, Clone, Copy)]
pub struct RawDisk;

impl Candidate for RawDisk {
    fn name(&self) -> String {
        "pwrite, and fdatasync if it is synced".into()
    }

    fn open(&self, directory: &Path, case: &Case) -> Box<dyn Subject> {
        let prepare = |writer: usize| {
            let path = directory.join(format!("raw-{writer}"));
            let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
            let file = file.expect("a file");
            let zeros = vec![0; 1 << 20];
            for offset in (0..FILE_BYTES as u64).step_by(zeros.len()) {
                file.write_all_at(&zeros, offset).expect("space on the disk");
            }
            file.sync_all().expect("a disk that syncs");
            Mutex::new(RawFile { file, staged: Vec::with_capacity(2 << 20), offset: 0 })
        };
        Box::new(RawFiles { writers: (0..case.mode.writers()).map(prepare).collect() })
    }
}

struct RawFile {
    file: File,
    staged: Vec<u8>,
    offset: u64,
}

struct RawFiles {
    writers: Vec<Mutex<RawFile>>,
}

impl RawFiles {
    fn put_away(&self, writer: usize, sync: bool) {
        let mut locked = self.writers[writer].lock().unwrap_or_else(PoisonError::into_inner);
        let raw = &mut *locked;
        if raw.offset + raw.staged.len() as u64 > FILE_BYTES as u64 {
            raw.offset = 0;
        }
        raw.file.write_all_at(&raw.staged, raw.offset).expect("a disk that writes");
        if sync {
            raw.file.sync_data().expect("a disk that syncs");
        }
        raw.offset += raw.staged.len() as u64;
        raw.staged.clear();
    }
}

impl Subject for RawFiles {
    fn append(&self, writer: usize, batch: &[&[u8]]) {
        let mut raw = self.writers[writer].lock().unwrap_or_else(PoisonError::into_inner);
        batch.iter().for_each(|record| raw.staged.extend_from_slice(record));
    }

    fn write(&self, writer: usize) {
        self.put_away(writer, false);
    }

    fn sync(&self, writer: usize) {
        self.put_away(writer, true);
    }

    fn rest(&self) {
        (0..self.writers.len()).for_each(|writer| self.put_away(writer, true));
    }
}
