//! Equal views of simulated nodes share their members, so that 10,000 nodes fit into memory.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::View;
use crate::view::Content;

/// Dead entries are swept out once there are so many, or twice as many as live.
const SWEEP_MIN: usize = 1024;

/// The views of all nodes: those that are equal have one memory.
#[derive(Default)]
pub(super) struct SharedViews {
    by_digest: HashMap<u64, Weak<Content>>,
    room: usize,
}

impl SharedViews {
    /// The same view, sharing its members with all that are equal.
    pub(super) fn share(&mut self, view: &View) -> View {
        let known = self.by_digest.get(&view.digest()).and_then(Weak::upgrade);
        let content = known.filter(|known| **known == *view.content).unwrap_or_else(|| {
            if self.by_digest.len() >= self.room {
                self.by_digest.retain(|_, content| content.strong_count() > 0);
                self.room = SWEEP_MIN + 2 * self.by_digest.len();
            }
            self.by_digest.insert(view.digest(), Arc::downgrade(&view.content));
            view.content.clone()
        });
        View { epoch: view.epoch, content }
    }
}
