//! Copies of the state on the successor: sent in bulk, acknowledged, sent again if not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::machine::{Handover, Held, Role, Source};
use super::types::Version;
use super::wire::{AnswerKind, Copy, MESSAGE_BYTES, Message};
use crate::{Key, NodeName};

/// A batch that is not acknowledged after this is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// Batches in flight whose acknowledgement is awaited; of older ones the keys are simply sent again.
const BATCHES_MAX: usize = 256;

/// Which keys' states the successors do not have yet.
#[derive(Default)]
pub(super) struct Replicas {
    changed: BTreeSet<Key>,
    sent: BTreeMap<Key, (Version, Instant)>,
    acknowledged: BTreeMap<Key, Version>,
    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
    flushed_at: Option<Instant>,
    pub(super) flush_at: Option<Instant>,
}

struct Batch {
    to: NodeName,
    versions: Vec<(Key, Version)>,
}

impl Replicas {
    /// The newest version of the key's state that its successor has.
    pub(super) fn acknowledged(&self, key: Key) -> Option<Version> {
        self.acknowledged.get(&key).copied()
    }

    /// What was sent of a key does not count any more: it has another successor, or another owner.
    pub(super) fn forget_key(&mut self, key: Key) {
        self.sent.remove(&key);
        self.acknowledged.remove(&key);
    }
}

impl Replicas {
    /// Keys that are not known any more.
    pub(super) fn forget_keys(&mut self, is_gone: impl Fn(&Key) -> bool) {
        self.acknowledged.retain(|key, _| !is_gone(key));
    }
}

impl Handover {
    /// The state of a key has to go to its successor.
    pub(super) fn mark_changed(&mut self, now: Instant, key: Key) {
        let interval = self.options.replicate_interval;
        let replicas = &mut self.replicas;
        replicas.changed.insert(key);
        if replicas.flush_at.is_none() {
            let earliest = replicas.flushed_at.map_or(now, |at| at + interval);
            replicas.flush_at = Some(earliest.max(now));
        }
    }

    pub(super) fn replicate(&mut self, now: Instant) {
        if self.replicas.flush_at.is_none_or(|at| at > now) {
            return;
        }
        self.replicas.flush_at = None;
        self.replicas.flushed_at = Some(now);
        let mut outgoing: BTreeMap<NodeName, Vec<(Key, Copy)>> = BTreeMap::new();
        let entries = &self.entries;
        let sent = &mut self.replicas.sent;
        self.replicas.changed.retain(|key| {
            let Some(entry) = entries.get(key) else { return false };
            let acts = matches!(entry.role, Role::Acting | Role::Stopping { .. });
            let (Some(held), Some(keeper)) = (&entry.copy, entry.keeper(&self.me)) else { return false };
            if !acts || held.copy.state.is_none() {
                return false;
            }
            let is_in_flight = sent
                .get(key)
                .is_some_and(|(version, at)| *version == held.copy.version && now < *at + RESEND_AFTER);
            if !is_in_flight {
                sent.insert(*key, (held.copy.version, now));
                outgoing.entry(keeper.clone()).or_default().push((*key, held.copy.clone()));
            }
            true
        });
        let changed = &self.replicas.changed;
        self.replicas.sent.retain(|key, _| changed.contains(key));
        for (to, copies) in outgoing {
            self.send_batches(&to, copies);
        }
        if !self.replicas.changed.is_empty() {
            self.replicas.flush_at = Some(now + self.options.replicate_interval);
        }
    }

    fn send_batches(&mut self, to: &NodeName, copies: Vec<(Key, Copy)>) {
        let mut copies = copies.into_iter().peekable();
        while copies.peek().is_some() {
            let mut bytes = 0;
            let mut some = Vec::new();
            while bytes < MESSAGE_BYTES
                && let Some((key, copy)) = copies.next()
            {
                bytes += copy.bytes();
                some.push((key, copy));
            }
            let replicas = &mut self.replicas;
            let batch = replicas.next_batch;
            replicas.next_batch += 1;
            if replicas.batches.len() >= BATCHES_MAX {
                replicas.batches.pop_first();
            }
            let versions = some.iter().map(|(key, copy)| (*key, copy.version)).collect();
            replicas.batches.insert(batch, Batch { to: to.clone(), versions });
            self.outbox.message(to, Message::Replicate { batch, copies: some });
        }
    }

    pub(super) fn handle_replicated(&mut self, from: &NodeName, batch: u64) {
        let Some(batch) = self.replicas.batches.remove(&batch).filter(|batch| batch.to == *from) else {
            return;
        };
        for (key, version) in batch.versions {
            let Some(entry) = self.entries.get(&key) else { continue };
            // An answer to a batch of an earlier term of ours says nothing about this one.
            let is_of_this_term = entry.version().is_some_and(|newest| newest.term == version.term);
            if entry.keeper(&self.me) != Some(from) || !is_of_this_term {
                continue;
            }
            let newest = self.replicas.acknowledged.entry(key).or_default();
            *newest = version.max(*newest);
            if entry.version() == Some(version) {
                self.replicas.changed.remove(&key);
            }
        }
    }

    pub(super) fn handle_copies(
        &mut self,
        now: Instant,
        from: &NodeName,
        batch: u64,
        copies: Vec<(Key, Copy)>,
    ) {
        let mut are_all_kept = true;
        for (key, copy) in copies {
            let term = copy.version.term;
            let acts = self
                .entries
                .get(&key)
                .is_some_and(|entry| matches!(entry.role, Role::Acting | Role::Stopping { .. }));
            // Two act on one key: the reminder to its owner settles that, with the states at rest.
            if !acts && self.has_room_for(key) {
                let held = Held { copy, source: Source::Replica { heard: Some(now) } };
                self.keep_if_newer(now, key, held);
            }
            let kept = self.entries.get(&key).and_then(|entry| entry.copy.as_ref()).map(|held| &held.copy);
            let is_kept = !acts && kept.is_some_and(|kept| kept.version.term == term);
            are_all_kept &= is_kept;
            if let Some(newer) = kept.filter(|kept| !acts && kept.version.term > term).cloned() {
                // It acts on a state that others have left behind: it shall go on from the newer one.
                self.outbox.answer(from, key, AnswerKind::Idle, Some(newer));
            }
        }
        // IMPORTANT: the sender relies on what is confirmed. The others of the batch come again.
        if are_all_kept {
            self.outbox.message(from, Message::Replicated { batch });
        }
    }
}
