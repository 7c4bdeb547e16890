//! The trait [`Membership`], and [`Solo`], the cluster of one.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Member, NodeName, Phase, View};

/// Who is alive, as seen from this node.
///
/// # Contract
/// 1. `view` always contains this node, until `leave` has returned.
/// 2. `view` never waits; its epoch never goes back, and two views of one epoch are equal.
/// 3. `changed(seen)` returns as soon as the epoch differs from `seen`; it may skip epochs. Cancelling it is safe.
/// 4. `set_phase` returns once this node's own view has the phase; the others follow by gossip.
/// 5. After `leave` has returned, the others have been told, as far as the network lets them know.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// This node's name.
    fn me(&self) -> &NodeName;

    /// The members now.
    fn view(&self) -> Arc<View>;

    /// Waits until the epoch differs from `seen`.
    async fn changed(&self, seen: u64) -> Arc<View>;

    /// Tells the cluster what this node is ready for.
    async fn set_phase(&self, phase: Phase);

    /// Tells the cluster that this node goes, and waits until that is sent.
    async fn leave(&self);
}

/// The cluster of one: no network, this node owns everything once it is active.
pub struct Solo {
    me: Member,
    phase: std::sync::Mutex<Arc<View>>,
}

impl Solo {
    /// A cluster that has this member only.
    pub fn new(me: Member) -> Self {
        let view = Arc::new(View::new(1, vec![me.clone()]));
        Solo { me, phase: std::sync::Mutex::new(view) }
    }
}

#[async_trait]
impl Membership for Solo {
    fn me(&self) -> &NodeName {
        &self.me.node.name
    }
    fn view(&self) -> Arc<View> {
        self.phase.lock().expect("no code panics while holding it").clone()
    }
    async fn changed(&self, _seen: u64) -> Arc<View> {
        std::future::pending().await
    }
    async fn set_phase(&self, _phase: Phase) {}
    async fn leave(&self) {}
}
