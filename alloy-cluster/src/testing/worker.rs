//! What each simulated node does with its keys: it counts, and the count is the state. Every count that is lost or
//! done twice shows at the next start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{Event, Handover, Key, NodeName, Origin};

/// How often a key's count grows.
const STEP: Duration = Duration::from_millis(50);

/// A start of a key, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// When.
    pub at: Instant,
    /// Where.
    pub node: NodeName,
    /// Which key.
    pub key: Key,
    /// The count it went on from.
    pub count: u64,
    /// Where the count came from.
    pub origin: Origin,
}

/// The keys of one node.
pub(super) struct Worker {
    me: NodeName,
    counts: BTreeMap<Key, u64>,
    stopping: BTreeMap<Key, Instant>,
    next_step: Instant,
}

impl Worker {
    pub(super) fn new(me: NodeName, now: Instant) -> Self {
        Worker { me, counts: BTreeMap::new(), stopping: BTreeMap::new(), next_step: now + STEP }
    }

    /// The keys between their start and the end of their stop.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.counts.keys().copied()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.stopping.values().min().map_or(self.next_step, |at| self.next_step.min(*at))
    }

    /// Counts, and finishes what has been stopping for long enough. Tells every count to `wrote`.
    pub(super) fn work(&mut self, now: Instant, handover: &mut Handover, mut wrote: impl FnMut(Key, u64)) {
        let due: Vec<Key> = self.stopping.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for key in due {
            self.stopping.remove(&key);
            let count = self.counts.remove(&key).map(|count| count + 1);
            if let Some(count) = count {
                wrote(key, count);
            }
            handover.handle_stopped(now, key, count.map(to_state));
        }
        if self.next_step > now {
            return;
        }
        self.next_step = now + STEP;
        for (key, count) in &mut self.counts {
            *count += 1;
            wrote(*key, *count);
            handover.update_state(now, *key, to_state(*count));
        }
    }

    pub(super) fn handle_event(
        &mut self,
        now: Instant,
        event: Event,
        stop_takes: Duration,
    ) -> Option<Started> {
        match event {
            Event::Start { key, state, origin } => {
                let count = state.map_or(0, |state| from_state(&state));
                let before = self.counts.insert(key, count);
                assert!(before.is_none(), "{}: key {key} was started twice", self.me);
                Some(Started { at: now, node: self.me.clone(), key, count, origin })
            }
            Event::Stop { key } => {
                assert!(self.counts.contains_key(&key), "{}: key {key} was stopped and not started", self.me);
                self.stopping.insert(key, now + stop_takes);
                None
            }
        }
    }
}

fn to_state(count: u64) -> Bytes {
    Bytes::copy_from_slice(&count.to_le_bytes())
}

fn from_state(state: &[u8]) -> u64 {
    u64::from_le_bytes(state.try_into().expect("the worker writes eight bytes"))
}
