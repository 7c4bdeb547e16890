//! Those who wait for the watermarks to move.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};

/// More than this many are not kept but woken at once: they look and come back.
const WAKERS_MAX: usize = 1024;

/// Wakers to be woken at the next change. Woken outside of the log's lock, since a waker may run foreign code.
#[derive(Default)]
pub(crate) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(crate) fn register(&mut self, context: &Context<'_>) {
        if self.0.iter().any(|known| known.will_wake(context.waker())) {
            return;
        }
        if self.0.len() >= WAKERS_MAX {
            context.waker().wake_by_ref();
            return;
        }
        self.0.push(context.waker().clone());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes them out, to be woken with [`wake`] after unlocking.
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.0)
    }
}

pub(crate) fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Unparks this thread.
pub(crate) fn thread_waker() -> Waker {
    Arc::new(Unpark(thread::current())).into()
}
