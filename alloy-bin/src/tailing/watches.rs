//! Watches on idle files, so that they need not be looked at: the kernel says when one changes, once.
//!
//! A file that is written to all the time is not watched: each write would be an event, and a look four times a second is
//! cheaper. So a watch is for the first change only, and is set anew when the file is idle again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use tokio::time::{Duration, Instant};

/// File systems that tell of every change: ext, XFS, Btrfs, F2FS, ZFS, tmpfs. Those of a network do not, and overlays not of
/// all; what is written through a mapping is not told of either. So all are also looked at now and then.
const LOCAL: [u64; 6] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0x0102_1994];

/// How often the kernel is asked what has changed. To be woken for each change of a busy folder would cost more.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// The watches of one pool.
pub(super) struct Watches {
    /// Shared with the threads that set watches.
    inotify: Arc<OwnedFd>,
    /// Hardly ever more than one file each.
    keys: BTreeMap<i32, Vec<u64>>,
    /// Watches that told of a change before they were known here.
    early: BTreeSet<i32>,
    ask_at: Instant,
}

/// Sets watches. Blocks.
#[derive(Clone)]
pub(super) struct Setter(Arc<OwnedFd>);

impl Setter {
    /// Watches the file. `None`: it would not be told of all changes.
    pub(super) fn set(&self, path: &Path) -> Option<i32> {
        // A link may lead to another file tomorrow.
        let is_link = std::fs::symlink_metadata(path).ok()?.is_symlink();
        let kind = rustix::fs::statfs(path).ok()?.f_type as u64 & 0xffff_ffff;
        if is_link || !LOCAL.contains(&kind) {
            return None;
        }
        let changes =
            WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        inotify::add_watch(&self.0, path, changes | WatchFlags::ONESHOT).ok()
    }
}

impl Watches {
    /// None yet.
    ///
    /// # Errors
    /// The system has no more of them to give.
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let (keys, early) = (BTreeMap::new(), BTreeSet::new());
        Ok(Watches { inotify: Arc::new(inotify), keys, early, ask_at: Instant::now() })
    }

    pub(super) fn setter(&self) -> Setter {
        Setter(self.inotify.clone())
    }

    /// The watch is for that file. `false`: it has changed already.
    pub(super) fn add(&mut self, watch: i32, key: u64) -> bool {
        if self.early.contains(&watch) {
            return false;
        }
        let keys = self.keys.entry(watch).or_default();
        keys.retain(|other| *other != key);
        keys.reserve_exact(1);
        keys.push(key);
        true
    }

    /// The file is not idle any more, or not followed.
    pub(super) fn remove(&mut self, watch: i32, key: u64) {
        if let Some(keys) = self.keys.get_mut(&watch) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.keys.remove(&watch);
            }
        }
        if !self.keys.contains_key(&watch) {
            // It may be gone by itself.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// All watches that were set are known here.
    pub(super) fn settled(&mut self) {
        self.early.clear();
    }

    /// Waits for changes: the files that have changed, or nothing if that can't be told of all. Cancelling it is safe.
    pub(super) async fn changed(&mut self) -> Option<BTreeSet<u64>> {
        loop {
            tokio::time::sleep_until(self.ask_at).await;
            self.ask_at = Instant::now() + ASK_EVERY;
            let mut buffer = [MaybeUninit::uninit(); 16 << 10];
            let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
            let mut changed = BTreeSet::new();
            let mut are_all_told = true;
            while let Ok(event) = events.next() {
                if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                    are_all_told = false;
                } else if !event.events().contains(ReadFlags::IGNORED) {
                    match self.keys.remove(&event.wd()) {
                        Some(keys) => changed.extend(keys),
                        None => drop(self.early.insert(event.wd())),
                    }
                }
            }
            if !are_all_told {
                return None;
            }
            if !changed.is_empty() {
                return Some(changed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// What has changed, or nothing within a while.
    async fn changed(watches: &mut Watches) -> Option<BTreeSet<u64>> {
        tokio::time::timeout(Duration::from_secs(20), watches.changed()).await.expect("a change")
    }

    #[tokio::test]
    async fn the_first_change_of_a_file_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["1", "2"].map(|name| folder.path().join(name));
        let [mut first, mut second] = [&one, &two].map(|path| std::fs::File::create(path).unwrap());
        let mut watches = Watches::new().unwrap();
        let setter = watches.setter();
        let Some(watch) = setter.set(&one) else {
            eprintln!("did not run: temporary files are not on a local file system");
            return;
        };
        assert!(watches.add(watch, 1));
        assert!(watches.add(setter.set(&one).unwrap(), 11), "two may follow one file");
        first.write_all(b"x").unwrap();
        first.write_all(b"y").unwrap();
        assert_eq!(changed(&mut watches).await, Some([1, 11].into()));
        assert!(watches.add(setter.set(&two).unwrap(), 2));
        first.write_all(b"z").unwrap();
        second.write_all(b"x").unwrap();
        assert_eq!(changed(&mut watches).await, Some([2].into()), "the first one is not watched any more");
        for change in [std::fs::rename, |from: &Path, _: &Path| std::fs::remove_file(from)] {
            std::fs::write(&one, "").unwrap();
            assert!(watches.add(setter.set(&one).unwrap(), 1));
            change(&one, &two).unwrap();
            assert_eq!(changed(&mut watches).await, Some([1].into()));
        }
    }

    #[tokio::test]
    async fn a_change_before_the_watch_is_known_is_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["1", "2"].map(|name| folder.path().join(name));
        std::fs::write(&one, "").unwrap();
        std::fs::write(&two, "").unwrap();
        let mut watches = Watches::new().unwrap();
        let (Some(early), Some(known)) = (watches.setter().set(&one), watches.setter().set(&two)) else {
            eprintln!("did not run: temporary files are not on a local file system");
            return;
        };
        assert!(watches.add(known, 2));
        std::fs::write(&one, "x").unwrap();
        std::fs::write(&two, "x").unwrap();
        assert_eq!(changed(&mut watches).await, Some([2].into()));
        assert!(!watches.add(early, 1));
        watches.settled();
        watches.remove(early, 1);
    }

    #[test]
    fn what_is_not_told_of_all_changes_is_not_watched() {
        let folder = tempfile::tempdir().unwrap();
        let setter = Watches::new().unwrap().setter();
        std::fs::write(folder.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(folder.path().join("file"), folder.path().join("link")).unwrap();
        assert_eq!(setter.set(&folder.path().join("link")), None);
        assert_eq!(setter.set(&folder.path().join("missing")), None);
        assert_eq!(setter.set(Path::new("/proc/self/status")), None);
    }
}
