//! A log's directory on a file system: `pwrite`, `fdatasync`, `fallocate`, and a lock against a second process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Fill, SegmentFile, Storage};
use crate::{Error, Result};

/// The file that is locked while a log is open.
pub(crate) const LOCK: &str = "LOCK";
/// Bytes of zeros per write when a file is prepared: large enough that the call itself does not count.
const ZEROS_BYTES: usize = 1 << 20;

/// A directory of the operating system, locked against other logs as long as this value lives.
pub struct FileStorage {
    directory: PathBuf,
    /// Held open for syncing names.
    handle: File,
    /// The lock is released when it is closed. None if the directory is only looked at.
    lock: Option<File>,
}

impl FileStorage {
    /// Creates the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// [`Error::Locked`] if another log has it open; [`Error::Io`] if it cannot be created or written.
    pub fn open(directory: impl AsRef<Path>) -> Result<FileStorage> {
        let directory = directory.as_ref().to_path_buf();
        let shown = directory.display().to_string();
        fs::create_dir_all(&directory)
            .map_err(|error| Error::io("create the log directory", &shown, error))?;
        let path = directory.join(LOCK);
        let lock =
            OpenOptions::new().create(true).write(true).truncate(false).open(&path).map_err(|error| {
                Error::io("open for writing the lock file", path.display().to_string(), error)
            })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { directory: shown }),
            Err(TryLockError::Error(error)) => {
                return Err(Error::io("lock", path.display().to_string(), error));
            }
        }
        let handle =
            File::open(&directory).map_err(|error| Error::io("open the log directory", &shown, error))?;
        Ok(FileStorage { directory, handle, lock: Some(lock) })
    }

    /// A directory to be looked at, whether a log has it open or not: takes no lock, creates nothing, and every call that would
    /// change something is refused.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such directory.
    pub fn open_read_only(directory: impl AsRef<Path>) -> Result<FileStorage> {
        let directory = directory.as_ref().to_path_buf();
        let handle = File::open(&directory)
            .map_err(|error| Error::io("open the log directory", directory.display().to_string(), error))?;
        Ok(FileStorage { directory, handle, lock: None })
    }

    fn check_writable(&self) -> io::Result<()> {
        self.lock.as_ref().map(drop).ok_or_else(|| io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl Storage for FileStorage {
    fn location(&self) -> String {
        self.directory.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64, fill: Fill) -> io::Result<Box<dyn SegmentFile>> {
        self.check_writable()?;
        let path = self.directory.join(name);
        let created = create(&path, bytes, fill);
        if created.is_err() {
            // Half a file would keep the space that is missing. That removing fails too changes nothing.
            let _ = fs::remove_file(&path);
        }
        created.map(|file| Box::new(OpenFile::new(file)) as Box<dyn SegmentFile>)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        let file =
            OpenOptions::new().read(true).write(self.lock.is_some()).open(self.directory.join(name))?;
        Ok(Box::new(OpenFile::new(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.check_writable()?;
        self.handle.sync_all()
    }

    fn salt(&self) -> u64 {
        // Every RandomState is keyed from the operating system's randomness and differs from the last one.
        RandomState::new().hash_one(0u8)
    }
}

fn create(path: &Path, bytes: u64, fill: Fill) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    reserve(&file, bytes)?;
    if fill == Fill::Zeros {
        let zeros = vec![0; ZEROS_BYTES];
        let mut offset = 0;
        while offset < bytes {
            let count = (bytes - offset).min(ZEROS_BYTES as u64);
            file.write_all_at(&zeros[..count as usize], offset)?;
            offset += count;
        }
    }
    Ok(file)
}

/// Takes the space now, so that a full disk is an error here and not at some later write. File systems that cannot are
/// written to instead: a sparse file is never used.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let count = (bytes - offset).min(ZEROS_BYTES as u64);
        file.write_all_at(&zeros[..count as usize], offset)?;
        offset += count;
    }
    Ok(())
}

struct OpenFile {
    file: File,
    #[cfg(feature = "mmap")]
    windows: super::mmap::Windows,
}

impl OpenFile {
    fn new(file: File) -> OpenFile {
        OpenFile {
            file,
            #[cfg(feature = "mmap")]
            windows: super::mmap::Windows::default(),
        }
    }
}

impl SegmentFile for OpenFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    #[cfg(feature = "mmap")]
    fn window(&self, range: Range<u64>) -> Option<Bytes> {
        self.windows.map(&self.file, range)
    }

    #[cfg(not(feature = "mmap"))]
    fn window(&self, _range: Range<u64>) -> Option<Bytes> {
        None
    }

    #[cfg(feature = "mmap")]
    fn has_windows(&self) -> bool {
        self.windows.alive()
    }
}
