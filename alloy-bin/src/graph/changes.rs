//! What has happened to components since the graph last looked, by their full ids.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Changes {
    news: Mutex<News>,
    changed: Notify,
}

/// Whom something has happened to.
#[derive(Default)]
pub(super) struct News {
    /// Their exports are others than before.
    pub(super) exports: BTreeSet<Arc<str>>,
    /// They work no more although nobody has told them to stop.
    pub(super) ended: BTreeSet<Arc<str>>,
    /// They have waited long enough to be made again.
    pub(super) due: BTreeSet<Arc<str>>,
    /// A source of a module is to be looked at again.
    pub(super) imports: bool,
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
            if !(news.exports.is_empty() && news.ended.is_empty() && news.due.is_empty() && !news.imports) {
                return news;
            }
            self.changed.notified().await;
        }
    }
}
