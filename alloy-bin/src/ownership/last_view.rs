//! Who was there when this node last looked, kept over a restart: a node that finds none of them waits before it takes everything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_cluster::{Hint, Membership};

/// Between two writes: while a thousand boot, the view changes all the time.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The file of the last view.
pub(super) struct LastView {
    path: PathBuf,
}

impl LastView {
    pub(super) fn new(path: PathBuf) -> Self {
        LastView { path }
    }

    /// Nobody, if there is no file or it is damaged.
    pub(super) fn read(&self) -> Hint {
        Hint::decode(&std::fs::read(&self.path).unwrap_or_default())
    }

    /// Writes it whenever the members have changed.
    pub(super) async fn follow(self, membership: &dyn Membership) {
        let mut written = self.read();
        let mut view = membership.view();
        loop {
            let hint = Hint::of(&view, membership.me());
            // Whoever is alone keeps what it knew: all others may be back before this node is.
            if hint != written && !hint.members().is_empty() {
                let (path, bytes) = (self.path.clone(), hint.encode());
                let wrote = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
                match wrote {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(file = %self.path.display(), %error, "cannot write down who is in the cluster")
                    }
                    Err(_ended) => return,
                }
                written = hint;
                tokio::time::sleep(WRITE_INTERVAL).await;
            }
            view = membership.changed(view.epoch()).await;
        }
    }
}

/// Not synced: after a power loss a hint of nobody is as good as none.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("next");
    std::fs::write(&next, bytes)?;
    std::fs::rename(&next, path)
}
