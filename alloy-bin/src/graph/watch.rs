//! Notices that the configuration, or a file that it imports, is another one, and has it loaded.
//!
//! What is compared is the content: a mounted ConfigMap is swapped by turning a symbolic link, editors rename a new file over
//! the old one, inode numbers are used again. The kernel's notices about the folders are only a hint to look at once;
//! on file systems that give none (NFS, some container mounts) a slow look now and then finds the change.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;

use super::load;
use super::running::Graph;

/// How often files are looked at without a hint.
pub const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Whoever writes is given so long to go on: two looks that far apart must agree.
const SETTLE: Duration = Duration::from_millis(250);
/// How often the kernel is asked for notices: a system call that waits for nothing. Others may write in the same folder all
/// the time; files are not looked at more often than this.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Watches for as long as it is polled. `hints` false: only looks now and then.
pub async fn watch(graph: &Graph, look_every: Duration, hints: Hints) {
    let hints = match hints {
        Hints::Kernel => Kernel::new(),
        Hints::None => None,
    };
    loop {
        let files = graph.files();
        if let Some(hints) = &hints {
            hints.watch(files.keys());
        }
        // After the folders are watched, so that no change falls in between.
        if let Some(found) = look(&files).await.filter(|found| *found != files) {
            tokio::time::sleep(SETTLE).await;
            // Somebody may have asked for a reload in between.
            if look(&files).await.as_ref() == Some(&found) && graph.files() != found {
                // The graph says how it went.
                let _ = graph.reload().await;
            }
            continue;
        }
        let hint = async {
            match &hints {
                Some(hints) => hints.next().await,
                None => std::future::pending().await,
            }
        };
        let _ = tokio::time::timeout(look_every, hint).await;
    }
}

/// What tells when to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hints {
    /// The kernel, if it does.
    Kernel,
    /// Nothing.
    None,
}

/// The hashes of what the files hold; `None` while one of them cannot be read, as in the middle of a swap.
async fn look(files: &BTreeMap<PathBuf, String>) -> Option<BTreeMap<PathBuf, String>> {
    let paths: Vec<PathBuf> = files.keys().cloned().collect();
    let look = move || {
        let hash = |path: PathBuf| load::read(&path).ok().map(|texts| (path, load::hash(&texts)));
        paths.into_iter().map(hash).collect()
    };
    tokio::task::spawn_blocking(look).await.ok().flatten()
}

/// The kernel's notices about folders.
struct Kernel {
    inotify: OwnedFd,
}

impl Kernel {
    fn new() -> Option<Self> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        match inotify::init(flags) {
            Ok(inotify) => Some(Kernel { inotify }),
            Err(error) => {
                tracing::warn!(%error, every = ?LOOK_EVERY, "no notices about files; the configuration is looked at now and then");
                None
            }
        }
    }

    /// Watches the folders of these files, those behind symbolic links, too. Watching one again changes nothing.
    fn watch<'a>(&self, files: impl Iterator<Item = &'a PathBuf>) {
        use inotify::WatchFlags as Flags;
        let flags = Flags::ONLYDIR
            | Flags::CREATE
            | Flags::CLOSE_WRITE
            | Flags::MOVED_TO
            | Flags::MOVED_FROM
            | Flags::DELETE;
        for file in files {
            let real = std::fs::canonicalize(file).ok();
            for path in [Some(file.clone()), real].into_iter().flatten() {
                // One of the two is no folder or has none; a folder that is gone is found by a look.
                let _ = inotify::add_watch(&self.inotify, &path, flags);
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let _ = inotify::add_watch(&self.inotify, parent.unwrap_or(Path::new(".")), flags);
            }
        }
    }

    /// Waits for a notice and forgets all that there are: which one it is does not matter.
    async fn next(&self) {
        let mut buffer = [0; 4096];
        let mut is_any = false;
        while !is_any {
            tokio::time::sleep(ASK_EVERY).await;
            while rustix::io::read(&self.inotify, &mut buffer).is_ok_and(|read| read > 0) {
                is_any = true;
            }
        }
    }
}
