//! Which nodes' exports have changed since somebody looked.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Changes {
    nodes: Mutex<BTreeSet<usize>>,
    changed: Notify,
}

impl Changes {
    pub(super) fn note(&self, node: usize) {
        self.nodes.lock().expect("no code panics while holding it").insert(node);
        self.changed.notify_one();
    }

    /// Waits for changes and takes them all. Cancelling it loses none.
    pub(super) async fn next(&self) -> BTreeSet<usize> {
        loop {
            let nodes = self.take();
            if !nodes.is_empty() {
                return nodes;
            }
            self.changed.notified().await;
        }
    }

    pub(super) fn take(&self) -> BTreeSet<usize> {
        std::mem::take(&mut *self.nodes.lock().expect("no code panics while holding it"))
    }
}
