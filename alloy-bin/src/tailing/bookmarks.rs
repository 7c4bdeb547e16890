//! The positions of one component in one file, `bookmarks.json`: versioned, checksummed, replaced atomically.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use twox_hash::XxHash64;

use super::journal::path_hash;
use super::{Fingerprint, Identity, Intent, Noted, Position};

/// The file's name in the component's folder.
const FILE: &str = "bookmarks.json";

/// The version that is written and read.
const VERSION: u32 = 1;

/// How long the position of a file is kept that nobody follows here: it may come back, or its labels have changed.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many positions of the journal are kept although nobody follows their files: half of its slots, so that there always
/// is room for those who do.
const RECOVERED_MAX: usize = 1 << 17;

/// How far one file is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmark {
    /// The path it was found at.
    pub path: Arc<str>,
    /// How far.
    pub position: Position,
    /// When it was last followed, seconds since the Unix epoch.
    pub followed_s: u64,
}

/// The positions of one component, by the keys of its targets.
#[derive(Debug, Default)]
pub struct Bookmarks {
    files: BTreeMap<u64, Bookmark>,
    /// What the last process noted after its last save, of files that this one has not followed yet.
    recovered: BTreeMap<u64, Noted>,
    /// There was nothing to load.
    is_new: bool,
    is_changed: bool,
}

/// Why there are no bookmarks although there were. The file is left aside as `bookmarks.json.damaged`; files that have
/// no other position are begun as `on_positions_file_error` says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file can't be read.
    #[error("cannot read {FILE}: {0}")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("{FILE} is damaged: {0}")]
    Damaged(String),
    /// It was written by another version of the agent.
    #[error("{FILE} has version {0}, known is {VERSION}")]
    Version(u32),
}

impl Bookmarks {
    /// Reads what is in the folder. No file is no error: there are no bookmarks yet.
    ///
    /// # Errors
    /// See [`LoadError`]; the agent goes on with none.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join(FILE);
        let result = match fs::read(&path) {
            Ok(text) => parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Bookmarks { is_new: true, ..Bookmarks::default() });
            }
            Err(error) => Err(error.into()),
        };
        if result.is_err() {
            // For people to look at. If it can't be moved, the next save replaces it.
            let _ = fs::rename(&path, folder.join(format!("{FILE}.damaged")));
        }
        Ok(Bookmarks { files: result?, ..Bookmarks::default() })
    }

    /// Whether none were ever saved here.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Adds what the last process noted after its last save.
    ///
    /// A file's times only grow, also when it is rotated or truncated, so they tell which is newer. A journal that is older
    /// than the bookmarks is one that could not be written any more.
    pub fn recover(&mut self, noted: Vec<Noted>) {
        let is_news = |noted: &Noted| match self.files.get(&noted.key) {
            Some(saved) if path_hash(&saved.path) == noted.path_hash => {
                noted.position != saved.position && noted.position.last_ns >= saved.position.last_ns
            }
            _ => true,
        };
        let mut news: Vec<Noted> = noted.into_iter().filter(is_news).collect();
        news.sort_by_key(|noted| std::cmp::Reverse(noted.position.last_ns));
        news.truncate(RECOVERED_MAX);
        self.recovered = news.into_iter().map(|noted| (noted.key, noted)).collect();
    }

    /// What was added by [`Bookmarks::recover`] and is not replaced yet.
    pub fn recovered(&self) -> impl ExactSizeIterator<Item = Noted> {
        self.recovered.values().copied()
    }

    /// The position of that target, or else the newest one of that path: labels may have changed, the file has not.
    pub fn find(&self, key: u64, path: &str) -> Option<Position> {
        let hash = path_hash(path);
        let saved = self.files.get(&key).filter(|own| *own.path == *path);
        let noted = self.recovered.get(&key).filter(|own| own.path_hash == hash);
        if saved.is_some() || noted.is_some() {
            return newer(saved, noted);
        }
        let saved = self.files.values().filter(|bookmark| *bookmark.path == *path);
        let noted = self.recovered.values().filter(|noted| noted.path_hash == hash);
        newer(
            saved.max_by_key(|bookmark| (bookmark.followed_s, bookmark.position.offset)),
            noted.max_by_key(|noted| noted.position.last_ns),
        )
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Bookmark)> {
        self.files.iter().map(|(key, bookmark)| (*key, bookmark))
    }

    /// Notes a position. It must be in custody; it is saved only after it is durable.
    pub fn set(&mut self, key: u64, bookmark: Bookmark) {
        self.recovered.remove(&key);
        self.is_changed |= self.files.get(&key).is_none_or(|old| old.position != bookmark.position);
        self.files.insert(key, bookmark);
    }

    /// What to save, if anything has changed since the last call. Positions that nobody followed for a week are dropped.
    pub fn poll_save(&mut self, now_s: u64) -> Option<Snapshot> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        self.files.retain(|_, bookmark| bookmark.followed_s + KEPT.as_secs() > now_s);
        Some(Snapshot(self.files.clone()))
    }

    /// The snapshot could not be saved: the next one holds its positions too.
    pub fn handle_failed_save(&mut self) {
        self.is_changed = true;
    }
}

/// The newer of a saved and a noted position.
fn newer(saved: Option<&Bookmark>, noted: Option<&Noted>) -> Option<Position> {
    let (saved, noted) = (saved.map(|saved| saved.position), noted.map(|noted| noted.position));
    noted.filter(|noted| saved.is_none_or(|saved| saved.last_ns <= noted.last_ns)).or(saved)
}

/// Positions to save.
#[derive(Debug)]
pub struct Snapshot(BTreeMap<u64, Bookmark>);

impl Snapshot {
    /// Replaces the file: after a crash at any point there is the old one or the new one. Blocks.
    ///
    /// # Errors
    /// What the system says; the old file is as it was.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let temporary = folder.join(format!("{FILE}.new"));
        let mut file = BufWriter::new(File::create(&temporary)?);
        write(&mut file, &self.0)?;
        file.into_inner()?.sync_all()?;
        fs::rename(&temporary, folder.join(FILE))?;
        // The new name is durable only when its folder is.
        File::open(folder)?.sync_all()
    }
}

#[derive(Serialize, Deserialize)]
struct Document<F> {
    version: u32,
    checksum: String,
    files: F,
}

/// Written one by one: there may be a hundred thousand.
struct Files<'a>(&'a BTreeMap<u64, Bookmark>);

impl Serialize for Files<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(key, bookmark)| Entry::of(*key, bookmark)))
    }
}

#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    key: String,
    path: Cow<'a, str>,
    device: u64,
    inode: u64,
    fingerprint: String,
    fingerprint_bytes: u32,
    offset: u64,
    last_ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intent: Option<(u64, i64)>,
    followed_s: u64,
}

fn write(to: impl Write, files: &BTreeMap<u64, Bookmark>) -> io::Result<()> {
    let files = Files(files);
    let document = Document { version: VERSION, checksum: checksum(&files), files };
    Ok(serde_json::to_writer_pretty(to, &document)?)
}

fn parse(text: &[u8]) -> Result<BTreeMap<u64, Bookmark>, LoadError> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let damaged = |error: serde_json::Error| LoadError::Damaged(error.to_string());
    let Head { version } = serde_json::from_slice(text).map_err(damaged)?;
    if version != VERSION {
        return Err(LoadError::Version(version));
    }
    let document: Document<Vec<Entry<'_>>> = serde_json::from_slice(text).map_err(damaged)?;
    if document.checksum != checksum(&document.files) {
        return Err(LoadError::Damaged("the checksum is wrong".to_owned()));
    }
    let unsound = || LoadError::Damaged("a position makes no sense".to_owned());
    document.files.into_iter().map(|entry| entry.bookmark().ok_or_else(unsound)).collect()
}

/// Over the files as they are written without white space, so that the text may be shown and moved by tools.
fn checksum(files: &impl Serialize) -> String {
    struct Hashed(XxHash64);
    impl Write for Hashed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashed = Hashed(XxHash64::with_seed(0));
    serde_json::to_writer(&mut hashed, files).expect("numbers and text are always JSON");
    hex(hashed.0.finish())
}

/// Keys and hashes are text: many JSON tools round large numbers.
fn hex(number: u64) -> String {
    format!("{number:016x}")
}

impl<'a> Entry<'a> {
    fn of(key: u64, bookmark: &'a Bookmark) -> Self {
        let position = bookmark.position;
        Entry {
            key: hex(key),
            path: Cow::Borrowed(&bookmark.path),
            device: position.identity.device,
            inode: position.identity.inode,
            fingerprint: hex(position.fingerprint.hash),
            fingerprint_bytes: position.fingerprint.bytes,
            offset: position.offset,
            last_ns: position.last_ns,
            intent: position.intent.map(|intent| (intent.to, intent.base_ns)),
            followed_s: bookmark.followed_s,
        }
    }

    fn bookmark(self) -> Option<(u64, Bookmark)> {
        let key = u64::from_str_radix(&self.key, 16).ok()?;
        let hash = u64::from_str_radix(&self.fingerprint, 16).ok()?;
        let position = Position {
            identity: Identity { device: self.device, inode: self.inode },
            fingerprint: Fingerprint { hash, bytes: self.fingerprint_bytes },
            offset: self.offset,
            last_ns: self.last_ns,
            intent: self.intent.map(|(to, base_ns)| Intent { to, base_ns }),
        };
        let bookmark = Bookmark { path: self.path.into(), position, followed_s: self.followed_s };
        position.is_sound().then_some((key, bookmark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bookmark(path: &str, offset: u64, followed_s: u64) -> Bookmark {
        let position = Position {
            identity: Identity { device: 1, inode: 2 },
            offset,
            intent: (offset % 2 == 1).then_some(Intent { to: offset + 5, base_ns: 9 }),
            ..Position::default()
        };
        Bookmark { path: path.into(), position, followed_s }
    }

    fn saved(folder: &Path) -> Bookmarks {
        let mut bookmarks = Bookmarks::default();
        bookmarks.set(u64::MAX, bookmark("/a", 10, 5));
        bookmarks.set(7, bookmark("/b", 11, 5));
        bookmarks.poll_save(6).expect("changed").save(folder).expect("saves");
        bookmarks
    }

    #[test]
    fn bookmarks_come_back_as_they_were_saved() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("not/there/yet");
        assert_eq!(Bookmarks::load(&nested).unwrap().iter().count(), 0);
        let mut before = saved(&nested);
        let after = Bookmarks::load(&nested).unwrap();
        assert!(before.iter().eq(after.iter()));
        assert!(before.poll_save(6).is_none(), "nothing has changed since");
    }

    #[test]
    fn a_position_is_found_by_its_path_when_the_labels_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let bookmarks = saved(folder.path());
        let offset = |key, path: &str| bookmarks.find(key, path).map(|position| position.offset);
        assert_eq!(offset(7, "/b"), Some(11));
        assert_eq!(offset(8, "/b"), Some(11));
        assert_eq!(offset(8, "/c"), None);
    }

    #[test]
    fn what_was_noted_after_the_last_save_counts_until_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let mut bookmarks = saved(folder.path());
        let noted = |key, path: &str, offset, last_ns| Noted {
            key,
            path_hash: path_hash(path),
            position: Position { last_ns, ..bookmark(path, offset, 0).position },
        };
        bookmarks.set(9, Bookmark { position: noted(9, "/c", 50, 5).position, ..bookmark("/c", 50, 5) });
        let journal = vec![
            noted(u64::MAX, "/a", 10, 0),
            noted(7, "/b", 20, 3),
            noted(8, "/b", 30, 4),
            noted(9, "/c", 40, 4),
            noted(10, "/d", 60, 0),
        ];
        bookmarks.recover(journal);
        let offset =
            |bookmarks: &Bookmarks, key, path: &str| bookmarks.find(key, path).map(|found| found.offset);
        let keys: Vec<u64> = bookmarks.recovered().map(|noted| noted.key).collect();
        assert_eq!(keys, [7, 8, 10], "what is saved, or older, is no news");
        assert_eq!(
            offset(&bookmarks, 7, "/b"),
            Some(20),
            "its own, not the one that has read more of the same path"
        );
        assert_eq!(offset(&bookmarks, 8, "/b"), Some(30));
        assert_eq!(offset(&bookmarks, 99, "/b"), Some(30), "labels have changed: the newest");
        assert_eq!(offset(&bookmarks, 9, "/c"), Some(50));
        assert_eq!(offset(&bookmarks, 10, "/d"), Some(60), "it was never saved");
        assert_eq!(offset(&bookmarks, 10, "/e"), None);
        bookmarks.set(7, bookmark("/b", 5, 6));
        assert_eq!(offset(&bookmarks, 7, "/b"), Some(5));
    }

    #[test]
    fn any_damage_is_an_error_and_never_a_wrong_position() {
        let folder = tempfile::tempdir().unwrap();
        let good = saved(folder.path()).files;
        let path = folder.path().join(FILE);
        let text = fs::read(&path).unwrap();
        for end in 0..text.len() {
            assert!(parse(&text[..end]).is_err(), "cut at {end}");
        }
        for at in 0..text.len() {
            let mut flipped = text.clone();
            flipped[at] ^= 1;
            if let Ok(files) = parse(&flipped) {
                assert_eq!(files, good, "flipped at {at}");
            }
        }
        fs::write(&path, b"{\"version\": 2, \"more\": 1}").unwrap();
        assert!(matches!(Bookmarks::load(folder.path()), Err(LoadError::Version(2))));
        assert!(!path.exists(), "it is left aside");
        assert_eq!(Bookmarks::load(folder.path()).unwrap().iter().count(), 0);
    }

    #[test]
    fn a_crash_while_saving_leaves_the_old_bookmarks() {
        let folder = tempfile::tempdir().unwrap();
        let before = saved(folder.path());
        // Power was lost while the temporary file was being written.
        fs::write(folder.path().join(format!("{FILE}.new")), b"{\"version\":1,\"chec").unwrap();
        let mut after = Bookmarks::load(folder.path()).unwrap();
        assert!(before.iter().eq(after.iter()));
        after.set(7, bookmark("/b", 20, 6));
        after.poll_save(6).unwrap().save(folder.path()).unwrap();
        assert_eq!(Bookmarks::load(folder.path()).unwrap().find(7, "/b").unwrap().offset, 20);
    }

    #[test]
    fn positions_that_nobody_follows_are_dropped_after_a_week() {
        let mut bookmarks = Bookmarks::default();
        bookmarks.set(1, bookmark("/a", 10, 0));
        bookmarks.set(2, bookmark("/b", 10, 100));
        assert!(bookmarks.poll_save(KEPT.as_secs()).is_some());
        assert_eq!(bookmarks.iter().map(|(key, _)| key).collect::<Vec<_>>(), [2]);
    }
}
