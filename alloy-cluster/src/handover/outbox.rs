//! What waits for each peer, gathered into bulk messages: one claim per pair of nodes, not one per key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::wire::{Answer, AnswerKind, Copy, MESSAGE_BYTES, Message};
use crate::{Key, NodeName};

/// Bounded by the keys: each of them is in each set at most once, and answers are given once per asked key.
#[derive(Default)]
pub(super) struct Outbox {
    peers: BTreeMap<NodeName, Waiting>,
}

#[derive(Default)]
struct Waiting {
    claims: BTreeSet<Key>,
    acting: BTreeSet<Key>,
    offers: BTreeSet<Key>,
    answers: BTreeMap<Key, (AnswerKind, Option<Copy>)>,
    messages: Vec<Message>,
}

impl Outbox {
    pub(super) fn claim(&mut self, to: &NodeName, key: Key) {
        self.waiting(to).claims.insert(key);
    }

    pub(super) fn acting(&mut self, to: &NodeName, key: Key) {
        self.waiting(to).acting.insert(key);
    }

    pub(super) fn offer(&mut self, to: &NodeName, key: Key) {
        self.waiting(to).offers.insert(key);
    }

    /// The last answer to a key is the one that is sent: it is the newest. But a claim sent twice must not turn
    /// "stopped" into "idle", which says less.
    pub(super) fn answer(&mut self, to: &NodeName, key: Key, kind: AnswerKind, copy: Option<Copy>) {
        let answers = &mut self.waiting(to).answers;
        let says_less = kind == AnswerKind::Idle
            && answers.get(&key).is_some_and(|(waiting, _)| *waiting == AnswerKind::Stopped);
        if !says_less {
            answers.insert(key, (kind, copy));
        }
    }

    pub(super) fn message(&mut self, to: &NodeName, message: Message) {
        self.waiting(to).messages.push(message);
    }

    /// Nobody is there to receive what waits for them.
    pub(super) fn retain(&mut self, is_member: impl Fn(&NodeName) -> bool) {
        self.peers.retain(|name, _| is_member(name));
    }

    pub(super) fn pop(&mut self) -> Option<(NodeName, Bytes)> {
        loop {
            let mut first = self.peers.first_entry()?;
            match first.get_mut().pop() {
                Some(message) => return Some((first.key().clone(), message.encode())),
                None => drop(first.remove()),
            }
        }
    }

    fn waiting(&mut self, peer: &NodeName) -> &mut Waiting {
        if !self.peers.contains_key(peer) {
            self.peers.insert(peer.clone(), Waiting::default());
        }
        self.peers.get_mut(peer).expect("it was inserted if it was not there")
    }
}

impl Waiting {
    /// Answers go first: somebody waits for them with nobody acting.
    fn pop(&mut self) -> Option<Message> {
        if !self.answers.is_empty() {
            let mut answers = Vec::new();
            let mut bytes = 0;
            while bytes < MESSAGE_BYTES
                && let Some((key, (kind, copy))) = self.answers.pop_first()
            {
                bytes += 16 + copy.as_ref().map_or(0, Copy::bytes);
                answers.push(Answer { key, kind, copy });
            }
            return Some(Message::Answer(answers));
        }
        if !self.claims.is_empty() {
            return Some(Message::Claim(take_some(&mut self.claims)));
        }
        if !self.acting.is_empty() {
            return Some(Message::Acting(take_some(&mut self.acting)));
        }
        if !self.offers.is_empty() {
            return Some(Message::Offer(take_some(&mut self.offers)));
        }
        if self.messages.is_empty() { None } else { Some(self.messages.remove(0)) }
    }
}

fn take_some(keys: &mut BTreeSet<Key>) -> Vec<Key> {
    let mut some = Vec::new();
    while some.len() < MESSAGE_BYTES / 8
        && let Some(key) = keys.pop_first()
    {
        some.push(key);
    }
    some
}
