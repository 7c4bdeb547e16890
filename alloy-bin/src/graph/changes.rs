//! What has happened to components since the graph last looked, by their full ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Changes {
    news: Mutex<News>,
    changed: Notify,
}

/// Whom something has happened to.
#[derive(Default, PartialEq)]
pub(super) struct News {
    /// Their exports are others than before.
    pub(super) exports: BTreeSet<Arc<str>>,
    /// They work no more although nobody has told them to stop.
    pub(super) ended: BTreeSet<Arc<str>>,
    /// They have waited long enough to be made again.
    pub(super) due: BTreeSet<Arc<str>>,
    /// What `import.http` blocks have read that is another text than before.
    pub(super) imports: BTreeMap<String, String>,
}

impl Changes {
    pub(super) fn note(&self, write: impl FnOnce(&mut News)) {
        write(&mut self.news.lock().expect("no code panics while holding it"));
        self.changed.notify_one();
    }

    /// Waits for news and takes all. Cancelling it loses none.
    pub(super) async fn next(&self) -> News {
        loop {
            let news = std::mem::take(&mut *self.news.lock().expect("no code panics while holding it"));
            if news != News::default() {
                return news;
            }
            self.changed.notified().await;
        }
    }
}
