//! Targets x view -> mine: who owns what in this cluster, and what a component has to start and stop.

use std::sync::Arc;

use bytes::Bytes;

/// The agent's share in its cluster. Cheap to clone.
#[derive(Clone)]
pub struct Ownership(Arc<()>);

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
    /// Stop this key, flush, and answer with [`Shard::stopped`].
    Stop {
        /// The key.
        key: u64,
    },
}

/// Where a key's state is from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Nobody had any: the key is new.
    Fresh,
    /// The last owner stopped and handed it over: exact.
    Handed,
    /// The last owner died; this is the copy that it replicated, at most one interval old. The last sign of life of
    /// the dead owner, in milliseconds since the Unix epoch, if this node knows it.
    Replica {
        /// When the dead owner was last heard.
        last_heard_ms: Option<i64>,
    },
    /// From this node's own disk.
    Restored,
}

/// One component's keys.
pub struct Shard(());

impl Shard {
    /// Every key of the component in the whole cluster with a name for people, whoever owns it.
    pub fn set_keys(&self, _keys: Vec<(u64, String)>) {}

    /// What to do next. Cancelling it is safe.
    pub async fn next(&mut self) -> Turn {
        std::future::pending().await
    }

    /// The key is stopped and flushed; this is its last state.
    pub fn stopped(&self, _key: u64, _state: Option<Bytes>) {}

    /// The newest state of a key that is running here, for its successor.
    pub fn update_state(&self, _key: u64, _state: Bytes) {}

    /// State that this component's own disk has of a key, from an earlier life; `version` as it was saved.
    pub fn offer_state(&self, _key: u64, _state: Bytes) {}
}

impl Ownership {
    /// The keys of one component, shared with the others of the cluster if `clustered`.
    pub fn shard(&self, _component: &str, _sharing: Sharing) -> Shard {
        Shard(())
    }
}

/// Whether a component's keys are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Every node works on all keys.
    Alone,
    /// The cluster's members split the keys.
    Clustered,
}
