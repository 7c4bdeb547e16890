//! The thin edge to the disk. Everything here may block: it runs on the runtime's blocking threads.

use std::cmp::Reverse;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;

use super::Identity;
use super::packed::Format;

/// What a look at a file shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) identity: Identity,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// Looks at a path. Anything but a regular file is an error: reading a pipe or a device would take its data away from
/// others or block for ever.
pub(super) fn look(path: &Path) -> io::Result<Seen> {
    seen(&std::fs::metadata(path)?)
}

/// Looks at an open file.
pub(super) fn look_open(file: &File) -> io::Result<Seen> {
    seen(&file.metadata()?)
}

fn seen(metadata: &Metadata) -> io::Result<Seen> {
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a directory" } else { "a pipe, a socket or a device" };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, not a regular file")));
    }
    let identity = Identity { device: metadata.dev(), inode: metadata.ino() };
    Ok(Seen { identity, size: metadata.len(), modified: metadata.modified()? })
}

/// Opens a regular file.
pub(super) fn open(path: &Path) -> io::Result<(File, Seen)> {
    // Opening a pipe blocks until somebody writes to it, so the look comes first.
    look(path)?;
    let file = File::open(path)?;
    let seen = look_open(&file)?;
    Ok((file, seen))
}

/// Reads the range, or less if the file ends before.
pub(super) fn read_range(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let length = range.end - range.start;
    let mut block = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let mut file = file;
    file.seek(SeekFrom::Start(range.start))?;
    file.take(length).read_to_end(&mut block)?;
    Ok(Bytes::from(block))
}

/// Where the last line begins that has no end yet, looking back at most `bytes_max`; the size if there is none.
pub(super) fn last_line_begin(file: &File, size: u64, bytes_max: usize) -> io::Result<u64> {
    let from = size.saturating_sub(bytes_max as u64);
    let tail = read_range(file, from..size)?;
    Ok(match memchr::memrchr(b'\n', &tail) {
        Some(end) => from + end as u64 + 1,
        None if from == 0 => 0,
        None => size,
    })
}

/// A file that was moved away from a path by rotation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rotated {
    pub(super) path: PathBuf,
    pub(super) inode: u64,
    pub(super) age: Age,
    /// How it was compressed.
    pub(super) format: Option<Format>,
}

/// Which of two rotated files is older: they are sorted oldest first. Files of different schemes are not compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    /// `app.log.2` is older than `app.log.1`; where numbers go up, as log4j2's, they are turned round.
    Counter(Reverse<u32>),
    /// `app.log-20260101` is older than `app.log-20260102`.
    Date(String),
}

impl Age {
    /// Whether this one was rotated after the other, by the same scheme.
    pub(super) fn is_newer_than(&self, other: &Age) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self > other
    }
}

/// The rotated siblings of a path, oldest first. While one is being compressed there are two of it: the one that is not.
pub(super) fn rotated_siblings(path: &Path) -> io::Result<Vec<Rotated>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut siblings = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name_and_age = entry.file_name().to_str().and_then(|other| rotation_age(name, other));
        if let Some((age, format)) = name_and_age {
            siblings.push(Rotated { path: entry.path(), inode: entry.ino(), age, format });
        }
    }
    if counts_up(&siblings) {
        for sibling in &mut siblings {
            if let Age::Counter(Reverse(counter)) = &mut sibling.age {
                *counter = u32::MAX - *counter;
            }
        }
    }
    siblings.sort_by(|a, b| (&a.age, a.format.is_some()).cmp(&(&b.age, b.format.is_some())));
    siblings.dedup_by(|later, first| later.age == first.age);
    Ok(siblings)
}

/// Whether the file with the largest number was written last. Where some are compressed, it is the others that tell: compressing may
/// count as writing.
fn counts_up(siblings: &[Rotated]) -> bool {
    let are_packed = siblings.iter().all(|sibling| sibling.format.is_some());
    let tells = |sibling: &&Rotated| are_packed || sibling.format.is_none();
    let counter = |sibling: &Rotated| match sibling.age {
        Age::Counter(Reverse(counter)) => {
            Some((counter, std::fs::metadata(&sibling.path).and_then(|file| file.modified()).ok()?))
        }
        Age::Date(_) => None,
    };
    let mut counters: Vec<_> = siblings.iter().filter(tells).filter_map(counter).collect();
    counters.sort_unstable();
    matches!(counters.as_slice(), [(_, least), .., (_, most)] if most > least)
}

/// The age of `other` if its name says that it was rotated from `name`: a suffix of digits (and what separates
/// them in dates), or the same in front of the extension (`app-20260101.log`); behind it how it was compressed.
fn rotation_age(name: &str, other: &str) -> Option<(Age, Option<Format>)> {
    let (other, format) = Format::strip(other);
    let (stem, extension) = name.rfind('.').map_or((name, ""), |dot| name.split_at(dot));
    let suffix = other
        .strip_prefix(name)
        .or_else(|| other.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension)))?;
    let suffix = suffix.strip_prefix(['.', '-', '_'])?;
    let is_date = |c: char| c.is_ascii_digit() || "-_.:TZ".contains(c);
    if !suffix.starts_with(|c: char| c.is_ascii_digit()) || !suffix.chars().all(is_date) {
        return None;
    }
    // A counter has few digits; a date in digits only has at least six.
    let age = match suffix.parse() {
        Ok(counter) if suffix.len() < 6 => Age::Counter(Reverse(counter)),
        _ => Age::Date(suffix.to_owned()),
    };
    Some((age, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_are_known_by_their_names() {
        let counter = |n| Some(Age::Counter(Reverse(n)));
        let date = |text: &str| Some(Age::Date(text.to_owned()));
        let check = |other: &str, expected: Option<Age>| {
            assert_eq!(rotation_age("app.log", other), expected.map(|age| (age, None)), "{other}");
        };
        check("app.log", None);
        check("app.log.1", counter(1));
        check("app.log.12", counter(12));
        check("app.1.log", counter(1));
        check("app.log-20260101", date("20260101"));
        check("app-2026-01-01T10:00.log", date("2026-01-01T10:00"));
        check("app.log.1.xz", None);
        check("app.log.gz", None);
        let packed = |other: &str| rotation_age("app.log", other);
        assert_eq!(packed("app.log.2.gz"), Some((Age::Counter(Reverse(2)), Some(Format::Gzip))));
        assert_eq!(packed("app-20260101.log.zst"), Some((Age::Date("20260101".into()), Some(Format::Zstd))));
        check("app.log.err", None);
        check("app.log.", None);
        check("app2.log", None);
        check("other.log.1", None);
        assert!(counter(1).unwrap().is_newer_than(&counter(2).unwrap()));
        assert!(date("20260102").unwrap().is_newer_than(&date("20260101").unwrap()));
        assert!(!date("20260102").unwrap().is_newer_than(&counter(1).unwrap()));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("directory"), "{error}");
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(open(&socket).unwrap_err().to_string().contains("not a regular file"));
    }
}
