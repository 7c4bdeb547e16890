//! The trait [`Membership`], and [`Solo`], the cluster of one.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use async_trait::async_trait;

use crate::swim::check_metadata;
use crate::{Error, Member, NodeName, Phase, View};

/// Who is alive, as seen from this node.
///
/// # Contract
/// 1. `view` always contains this node, until `leave` has returned.
/// 2. `view` never waits; its epoch never goes back, and two views of one epoch are equal.
/// 3. `changed(seen)` returns as soon as the epoch differs from `seen`; it may skip epochs. Cancelling it is safe.
/// 4. `set_phase` returns once this node's own view has the phase; the others follow by gossip.
/// 5. `set_metadata` returns once this node's own view has it; more than 512 bytes are an error and change nothing.
/// 6. After `leave` has returned, the others have been told, as far as the network lets them know.
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

    /// Tells the cluster other metadata of this node. Who owns what does not depend on it.
    async fn set_metadata(&self, metadata: &[u8]) -> Result<(), Error>;

    /// Tells the cluster that this node goes, and waits until that is sent.
    async fn leave(&self);
}

/// The cluster of one: no network, this node owns everything once it is active.
pub struct Solo {
    name: NodeName,
    state: Mutex<SoloState>,
}

struct SoloState {
    view: Arc<View>,
    /// Who waits in `changed`; emptied with each change, so it is bounded by the number of waiting tasks
    /// times their polls between two changes, and a task registers once (`will_wake`).
    wakers: Vec<Waker>,
}

impl Solo {
    /// A cluster that has this member only.
    pub fn new(me: Member) -> Self {
        let name = me.node.name.clone();
        let view = Arc::new(View::new(1, vec![me]));
        Solo { name, state: Mutex::new(SoloState { view, wakers: Vec::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, SoloState> {
        self.state.lock().expect("no code panics while holding it")
    }

    fn change(&self, change: impl Fn(&mut Member)) {
        self.replace(|members| {
            let mut members = members.to_vec();
            members.iter_mut().for_each(change);
            members
        });
    }

    fn replace(&self, next: impl FnOnce(&[Member]) -> Vec<Member>) {
        let mut state = self.state();
        let members = next(state.view.members());
        if state.view.members() == members {
            return;
        }
        state.view = Arc::new(View::new(state.view.epoch() + 1, members));
        for waker in state.wakers.drain(..) {
            waker.wake();
        }
    }
}

#[async_trait]
impl Membership for Solo {
    fn me(&self) -> &NodeName {
        &self.name
    }

    fn view(&self) -> Arc<View> {
        self.state().view.clone()
    }

    async fn changed(&self, seen: u64) -> Arc<View> {
        let wait = pin!(std::future::poll_fn(|context| {
            let mut state = self.state();
            if state.view.epoch() != seen {
                return Poll::Ready(state.view.clone());
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                state.wakers.push(context.waker().clone());
            }
            Poll::Pending
        }));
        wait.await
    }

    async fn set_phase(&self, phase: Phase) {
        self.change(|me| me.phase = phase);
    }

    async fn set_metadata(&self, metadata: &[u8]) -> Result<(), Error> {
        check_metadata(metadata)?;
        self.change(|me| me.metadata = metadata.into());
        Ok(())
    }

    async fn leave(&self) {
        self.replace(|_| Vec::new());
    }
}
