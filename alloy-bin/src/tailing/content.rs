//! The bytes of a file, or of what was compressed into it; and all files that a position may be in.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::disk::{self, Age, Seen};
use super::packed::{Format, Packed};
use super::{Fingerprint, Position};

/// From this many bytes on a fingerprint alone (on another inode) says that a path still holds the same file.
/// Shorter heads may be the same in all files of a program; reading few bytes twice is better than leaving some out.
const FINGERPRINT_ALONE_BYTES: u32 = 256;

/// Files are renamed while we look at them. A folder that never rests is looked at so often, and then again later.
const LOOKS_MAX: usize = 8;

/// How many rotated files are held open in line. Those behind them are found when these are read.
const LINE_MAX: usize = 64;

/// How long it may take from the last write to a copy until its original is truncated.
const COPY_MAX: Duration = Duration::from_secs(2);

/// What is read of an open file.
#[derive(Debug)]
pub(super) enum Content {
    /// The file itself.
    Plain(File),
    /// What it holds, decompressed.
    Packed(Box<Packed>),
}

impl Content {
    /// How the file looks.
    pub(super) fn look(&self) -> io::Result<Seen> {
        match self {
            Content::Plain(file) => disk::look_open(file),
            Content::Packed(packed) => disk::look_open(packed.file()),
        }
    }

    /// How much there is in a file that looks like this; more, while the end of a compressed one was not seen.
    pub(super) fn size(&self, seen: &Seen) -> u64 {
        match self {
            Content::Plain(_) => seen.size,
            Content::Packed(packed) => packed.size(),
        }
    }

    /// Reads the range, or less if the content ends before.
    pub(super) fn read(&mut self, range: Range<u64>) -> io::Result<Bytes> {
        match self {
            Content::Plain(file) => disk::read_range(file, range),
            Content::Packed(packed) => packed.read(range),
        }
    }

    /// Reads what a fingerprint covers.
    pub(super) fn read_head(&mut self) -> io::Result<Bytes> {
        self.read(0..Fingerprint::BYTES_MAX as u64)
    }

    /// Where the last line begins that has no end yet, looking back at most `bytes_max`.
    pub(super) fn last_line_begin(&self, seen: &Seen, bytes_max: usize) -> io::Result<u64> {
        match self {
            Content::Plain(file) => disk::last_line_begin(file, seen.size, bytes_max),
            // To find its end is to read all of it. It is one of the few that are asked for by name: from the beginning.
            Content::Packed(_) => Ok(0),
        }
    }

    /// The file has changed since it was read.
    pub(super) fn handle_change(&mut self) -> io::Result<()> {
        match self {
            Content::Plain(_) => Ok(()),
            Content::Packed(packed) => packed.rewind(),
        }
    }

    /// Whether it is read to an end behind which nothing follows.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Content::Packed(packed) if packed.is_complete())
    }

    /// Whether a compressed file ends too early.
    pub(super) fn is_torn(&self) -> bool {
        matches!(self, Content::Packed(packed) if !packed.is_complete())
    }

    /// What is wrong with a compressed file, once.
    pub(super) fn poll_trouble(&mut self) -> Option<String> {
        match self {
            Content::Plain(_) => None,
            Content::Packed(packed) => packed.poll_trouble(),
        }
    }
}

/// A file that was opened to see what it is.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) content: Content,
    pub(super) seen: Seen,
    /// The first bytes, as many as a fingerprint covers.
    pub(super) head: Bytes,
}

impl Opened {
    pub(super) fn open(path: &Path, format: Option<Format>) -> io::Result<Self> {
        let (file, seen) = disk::open(path)?;
        let mut content = match format {
            None => Content::Plain(file),
            Some(format) => Content::Packed(Box::new(Packed::new(file, format)?)),
        };
        let head = content.read_head()?;
        Ok(Opened { path: path.to_owned(), content, seen, head })
    }

    /// Whether this may be a copy of that one which is being made, or whose original is not truncated yet.
    fn may_become_copy_of(&self, original: &Opened) -> bool {
        let length = self.head.len().min(original.head.len());
        let is_young = self.seen.modified.elapsed().is_ok_and(|age| age < COPY_MAX);
        is_young && !original.head.is_empty() && self.head[..length] == original.head[..length]
    }

    fn likeness(&self, position: &Position) -> Likeness {
        let is_alike =
            self.content.size(&self.seen) >= position.offset && position.fingerprint.matches(&self.head);
        let is_same_inode = self.seen.identity.inode == position.identity.inode;
        match (is_alike, is_same_inode) {
            (true, true) => Likeness::Same,
            (true, false) if position.fingerprint.bytes > 0 => Likeness::Similar,
            _ => Likeness::Other,
        }
    }
}

/// How much a file is like the one of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    /// The same inode, long enough, the same first bytes.
    Same,
    /// Another inode, long enough, the same first bytes: a copy, what it was compressed to, or the file as seen from elsewhere.
    Similar,
    /// Another file.
    Other,
}

/// Where a position goes on, and what comes behind it.
#[derive(Debug)]
pub(super) struct Located {
    /// The file of the position; `None`: it is gone.
    pub(super) file: Option<Opened>,
    /// The files that were rotated after it, oldest first, then what is at the path.
    pub(super) newer: VecDeque<Opened>,
}

/// Finds the file of a position: at the path, or rotated away. All that is found is open, so that it does not matter what is
/// renamed, compressed or removed afterwards.
///
/// # Errors
/// What the system says of the path or its folder. A path that does not exist is none, as long as there is something else to read.
pub(super) fn locate(path: &Path, format: Option<Format>, position: &Position) -> io::Result<Located> {
    for _ in 0..LOOKS_MAX {
        if let Some(located) = try_locate(path, format, position)? {
            return Ok(located);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "files are renamed faster than they can be found"))
}

/// `None`: something was renamed meanwhile.
fn try_locate(path: &Path, format: Option<Format>, position: &Position) -> io::Result<Option<Located>> {
    // IMPORTANT: before the folder is listed. What takes this one's place afterwards is found when this one is read.
    let at_path = match Opened::open(path, format) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    let likeness = at_path.as_ref().map_or(Likeness::Other, |opened| opened.likeness(position));
    if likeness == Likeness::Same {
        return Ok(Some(Located { file: at_path, newer: VecDeque::new() }));
    }
    let Some(rotated) = open_rotated(path)? else { return Ok(None) };
    let like = |wanted| rotated.iter().position(|(_, opened)| opened.likeness(position) == wanted);
    let same = like(Likeness::Same);
    let may_be_alone = position.fingerprint.bytes >= FINGERPRINT_ALONE_BYTES && same.is_none();
    if likeness == Likeness::Similar && may_be_alone {
        return Ok(Some(Located { file: at_path, newer: VecDeque::new() }));
    }
    // Of several that begin like it, the newest.
    let similar = || rotated.iter().rposition(|(_, opened)| opened.likeness(position) == Likeness::Similar);
    let found = same.or_else(similar);
    let mut newer = VecDeque::new();
    let mut file = None;
    if let Some(found) = found {
        let age = rotated[found].0.clone();
        for (index, (other, opened)) in rotated.into_iter().enumerate() {
            let is_at_path = at_path.as_ref().is_some_and(|path| path.seen.identity == opened.seen.identity);
            let is_newer = other.is_newer_than(&age) && !is_at_path;
            if is_newer && at_path.as_ref().is_some_and(|path| opened.may_become_copy_of(path)) {
                // Both would be read.
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "it may be copied and truncated just now",
                ));
            }
            if index == found {
                file = Some(opened);
            } else if is_newer && newer.len() < LINE_MAX {
                newer.push_back(opened);
            }
        }
    }
    // A full line has more behind it, which come before what is at the path.
    newer.extend(at_path.filter(|_| newer.len() < LINE_MAX));
    if file.is_none() && newer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no such file, and none that was rotated from it",
        ));
    }
    Ok(Some(Located { file, newer }))
}

/// The rotated siblings; `None` if one was renamed while they were opened.
fn open_rotated(path: &Path) -> io::Result<Option<Vec<(Age, Opened)>>> {
    let mut rotated = Vec::new();
    let siblings = disk::rotated_siblings(path)?;
    for sibling in siblings.iter().cloned() {
        match Opened::open(&sibling.path, sibling.format) {
            Ok(opened) if opened.seen.identity.inode == sibling.inode => rotated.push((sibling.age, opened)),
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // It may not be ours to read, or be no file: it does not matter for the others.
            Err(error) => {
                tracing::debug!(path = %sibling.path.display(), %error, "cannot look into rotated file")
            }
        }
    }
    // A name that was changed while the folder was listed may have been in no list.
    Ok((disk::rotated_siblings(path)? == siblings).then_some(rotated))
}
