//! One component's keys: a hand-over core, what it wants the component to do, and names for people.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use alloy_cluster::{Event, Handover, NodeName, View};
use bytes::Bytes;
use tokio::sync::Notify;

use super::facts::Notes;
use super::intents::Intents;
use super::service::Sharing;

/// What a component has to do next.
#[derive(Debug, Clone)]
pub enum Turn {
    /// Begin with this key.
    Start {
        /// The key.
        key: u64,
        /// The state that the last owner left, in the component's own encoding; `None`: nobody had any.
        state: Option<Bytes>,
        /// Where the state is from.
        origin: Origin,
    },
    /// The owner of this key cannot work on it: see whether this node can, and say so by [`Shard::can`].
    Try {
        /// The key.
        key: u64,
    },
    /// Stop this key, flush, and answer with [`Shard::stopped`].
    Stop {
        /// The key.
        key: u64,
    },
}

/// Where a key's state is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nobody had any: the key is new.
    Fresh,
    /// The last owner stopped and handed it over: exact.
    Handed,
    /// The last owner died; this is the copy that it replicated, at most one interval old.
    Replica,
}

/// One component's keys. Dropping it forgets them.
pub struct Shard {
    pub(super) core: Arc<Core>,
}

/// A message to a member.
pub(super) type Outgoing = (NodeName, Bytes);

/// What the component and the service share.
pub(super) struct Core {
    pub(super) component: Arc<str>,
    pub(super) sharing: Sharing,
    inner: Mutex<Inner>,
    /// How keys that are running here fare.
    pub(super) notes: Notes,
    /// There is a turn for the component.
    turn: Notify,
    /// Something has changed that records wait for.
    pub(super) changed: Notify,
    /// There is a message to send, or another deadline.
    pub(super) work: Arc<Notify>,
    /// The component has dropped its shard.
    pub(super) is_gone: AtomicBool,
}

pub(super) struct Inner {
    pub(super) handover: Handover,
    /// What is on its way of files that others may have to go on with.
    pub(super) intents: Intents,
    pub(super) names: HashMap<u64, Arc<str>>,
    turns: VecDeque<Turn>,
    outgoing: Vec<Outgoing>,
}

impl Core {
    pub(super) fn new(component: &str, sharing: Sharing, handover: Handover, work: Arc<Notify>) -> Self {
        let inner = Inner {
            handover,
            intents: Intents::default(),
            names: HashMap::new(),
            turns: VecDeque::new(),
            outgoing: Vec::new(),
        };
        Core {
            component: component.into(),
            sharing,
            inner: Mutex::new(inner),
            notes: Notes::default(),
            turn: Notify::new(),
            changed: Notify::new(),
            work,
            is_gone: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while holding it")
    }

    /// Changes the hand-over core and moves out what it wants done.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Handover, Instant) -> T) -> T {
        self.change_both(|handover, _, now| change(handover, now))
    }

    /// As [`Core::change`], with what is on its way.
    pub(super) fn change_both<T>(&self, change: impl FnOnce(&mut Handover, &mut Intents, Instant) -> T) -> T {
        let result = self.look(change);
        self.changed.notify_waiters();
        result
    }

    /// As [`Core::change_both`], for who would wake itself by it.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Handover, &mut Intents, Instant) -> T) -> T {
        let mut inner = self.lock();
        let Inner { handover, intents, .. } = &mut *inner;
        let result = look(handover, intents, Instant::now());
        inner.drain();
        if !inner.turns.is_empty() {
            self.turn.notify_one();
        }
        self.work.notify_one();
        result
    }

    pub(super) fn set_view(&self, view: &Arc<View>) {
        self.change(|handover, now| handover.set_view(now, view.clone()));
    }

    pub(super) fn take_outgoing(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.lock().outgoing)
    }
}

impl Inner {
    fn drain(&mut self) {
        while let Some(event) = self.handover.poll_event() {
            let turn = match event {
                Event::Start { key, state, origin } => Turn::Start { key, state, origin: origin.into() },
                Event::Stop { key } => Turn::Stop { key },
            };
            self.turns.push_back(turn);
        }
        while let Some(key) = self.handover.poll_asked() {
            self.turns.push_back(Turn::Try { key });
        }
        while let Some(message) = self.handover.poll_message() {
            self.outgoing.push(message);
        }
    }
}

impl From<alloy_cluster::Origin> for Origin {
    fn from(origin: alloy_cluster::Origin) -> Self {
        match origin {
            alloy_cluster::Origin::Handed { .. } => Origin::Handed,
            alloy_cluster::Origin::Replica { .. } => Origin::Replica,
            _ => Origin::Fresh,
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.core.is_gone.store(true, Ordering::Relaxed);
    }
}

impl Shard {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Shard { core }
    }

    /// Every key of the component in the whole cluster with a name for people, whoever owns it.
    pub fn set_keys<N: Into<Arc<str>>>(&self, keys: Vec<(u64, N)>) {
        let names = keys.into_iter().map(|(key, name)| (key, name.into()));
        let names: HashMap<u64, Arc<str>> = names.collect();
        let mut keys: Vec<u64> = names.keys().copied().collect();
        keys.sort_unstable();
        self.core.lock().names = names;
        self.core.change(|handover, now| handover.set_keys(now, keys));
    }

    /// What to do next. Cancelling it is safe.
    pub async fn next(&self) -> Turn {
        loop {
            if let Some(turn) = self.core.lock().turns.pop_front() {
                return turn;
            }
            self.core.turn.notified().await;
        }
    }

    /// The key is stopped and flushed; this is its last state.
    pub fn stopped(&self, key: u64, state: Option<Bytes>) {
        self.core.forget_notes(key);
        self.core.change(|handover, now| handover.handle_stopped(now, key, state));
    }

    /// The newest state of a key that is running here, for its successor.
    pub fn update_state(&self, key: u64, state: Bytes) {
        self.keeper().update_state(key, state);
    }

    /// This node has tried a key that it does not act on, its own or another's, and can work on it. True: it takes the key over.
    pub fn can(&self, key: u64) -> bool {
        self.core.change(|handover, now| handover.can(now, key))
    }

    /// The keys of this node on which others act for it.
    pub fn lent(&self) -> Vec<u64> {
        self.core.lock().handover.lent().collect()
    }

    /// A handle for a key's own task.
    pub fn keeper(&self) -> Keeper {
        Keeper { core: self.core.clone() }
    }
}

/// Keeps the state of running keys up to date. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    pub(super) core: Arc<Core>,
}

impl Keeper {
    /// The newest state of a key that is running here, for its successor.
    pub fn update_state(&self, key: u64, state: Bytes) {
        self.core.change(|handover, now| handover.update_state(now, key, state));
    }

    /// This node works on the key and gets nowhere: for the so-manieth time another member is asked whether it can; a key that is
    /// another's is given back. Says who is asked.
    pub fn cannot(&self, key: u64, attempt: usize) -> Option<String> {
        let asked = self.core.change(|handover, now| handover.cannot(now, key, attempt));
        asked.map(|name| name.to_string())
    }
}
