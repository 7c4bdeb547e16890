//! [`Handover`]: what the caller puts in and takes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::loans::Loan;
use super::outbox::Outbox;
use super::replicas::Replicas;
use super::types::{Activity, Event, HandoverOptions, HandoverStats, KeyStatus, STATE_BYTES_MAX, Version};
use super::wire::{Copy, Message};
use crate::{Key, NodeName, Phase, Rank, Sharder, View};

/// How exactly deadlines of claims are kept, and how often they are looked at while there are any.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How often the owner of a key that acts here is reminded of it.
pub(super) const REMIND_INTERVAL: Duration = Duration::from_secs(2);
/// How often states of keys that nobody wants are looked through.
const FORGET_TICK: Duration = Duration::from_secs(30);

/// Moves the keys of one group, with their states, between the nodes of a cluster. One instance per node and
/// group; all nodes have the same group, sharder and options. See the module's table for a key's life.
///
/// # Promises
/// 1. While the views agree and messages arrive, no two nodes act on one key.
/// 2. A key that moves between living nodes starts with exactly the state its owner before stopped with.
/// 3. After a crash a key starts with a copy that is at most one replicate interval and one message old.
/// 4. An owner that does not answer costs at most `claim_timeout`; one that answers but does not let go, at most
///    `claim_patience`. During a partition both sides may act; after it the owner keeps the newer state.
///
/// Memory: about 250 bytes and the state (at most 64 KiB) for each key of the set and for at most
/// `unknown_keys_max` beyond it.
pub struct Handover {
    pub(super) me: NodeName,
    pub(super) options: HandoverOptions,
    pub(super) sharder: Arc<dyn Sharder>,
    pub(super) view: Arc<View>,
    /// Boxed: a map of large values is half empty, and there are tens of thousands.
    pub(super) entries: BTreeMap<Key, Box<Entry>>,
    pub(super) outbox: Outbox,
    pub(super) replicas: Replicas,
    pub(super) events: VecDeque<Event>,
    pub(super) claiming: BTreeSet<Key>,
    pub(super) misplaced: BTreeSet<Key>,
    pub(super) asked: BTreeSet<Key>,
    pub(super) stats: HandoverStats,
    pub(super) tick_at: Option<Instant>,
    pub(super) remind_at: Option<Instant>,
    unknown: usize,
    forget_at: Option<Instant>,
}

/// What is known about one key.
pub(super) struct Entry {
    pub(super) wanted: bool,
    pub(super) owner: Option<NodeName>,
    pub(super) successor: Option<NodeName>,
    pub(super) role: Role,
    pub(super) loan: Loan,
    pub(super) since: Instant,
    pub(super) copy: Option<Held>,
    /// A newer state than ours of another node that acted on the key too; taken up once we have stopped.
    pub(super) incoming: Option<Box<Held>>,
    /// Who claimed it too early: before this node's view said so.
    pub(super) wanted_by: Option<NodeName>,
    pub(super) misplaced_since: Option<Instant>,
}

pub(super) enum Role {
    Idle,
    /// Boxed: few are.
    Claiming(Box<super::claims::Claim>),
    Acting,
    Stopping {
        claimants: Vec<NodeName>,
    },
}

/// A state with where it came from.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) copy: Copy,
    pub(super) source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Written here, or offered from this node's disk.
    Own,
    /// From the writer itself, which does not act any more.
    Writer,
    /// Sent out by the writer while it acted.
    Replica { heard: Option<Instant> },
}

impl Entry {
    fn new(now: Instant) -> Self {
        Entry {
            wanted: false,
            owner: None,
            successor: None,
            role: Role::Idle,
            loan: Loan::None,
            since: now,
            copy: None,
            incoming: None,
            wanted_by: None,
            misplaced_since: None,
        }
    }

    /// Who keeps the copy while `me` acts: the successor; an owner that has not claimed the key yet, if `me` is that.
    pub(super) fn keeper(&self, me: &NodeName) -> Option<&NodeName> {
        [&self.successor, &self.owner].into_iter().flatten().find(|name| *name != me)
    }

    pub(super) fn version(&self) -> Option<Version> {
        self.copy.as_ref().map(|held| held.copy.version)
    }
}

impl Handover {
    /// Knows no keys and nobody.
    pub fn new(me: NodeName, options: HandoverOptions, sharder: Arc<dyn Sharder>) -> Self {
        Handover {
            me,
            options,
            sharder,
            view: Arc::new(View::new(0, Vec::new())),
            entries: BTreeMap::new(),
            outbox: Outbox::default(),
            replicas: Replicas::default(),
            events: VecDeque::new(),
            claiming: BTreeSet::new(),
            misplaced: BTreeSet::new(),
            asked: BTreeSet::new(),
            stats: HandoverStats::default(),
            tick_at: None,
            remind_at: None,
            unknown: 0,
            forget_at: None,
        }
    }

    /// Sets every key of the group in the whole cluster, as this node knows them. Keys that are gone are stopped,
    /// and their states kept for `forget_after`.
    pub fn set_keys(&mut self, now: Instant, keys: impl IntoIterator<Item = Key>) {
        let keys: BTreeSet<Key> = keys.into_iter().collect();
        let gone: Vec<Key> = self
            .entries
            .iter()
            .filter(|(key, entry)| entry.wanted && !keys.contains(key))
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.entry(now, key).wanted = false;
            self.unknown += 1;
            self.place(now, key);
        }
        for key in keys {
            let is_known = self.entries.contains_key(&key);
            let entry = self.entry(now, key);
            if !entry.wanted {
                entry.wanted = true;
                self.unknown -= usize::from(is_known);
                self.place(now, key);
            }
        }
        self.schedule_forgetting(now);
    }

    /// Sets who is there.
    pub fn set_view(&mut self, now: Instant, view: Arc<View>) {
        let is_same = view.digest() == self.view.digest();
        let restarted = self.view.members().iter().filter_map(|old| {
            let new = view.member(&old.node.name)?;
            (new.node.incarnation != old.node.incarnation).then(|| old.node.name.clone())
        });
        let restarted: BTreeSet<NodeName> = restarted.collect();
        let before = std::mem::replace(&mut self.view, view);
        if is_same {
            return;
        }
        let view = self.view.clone();
        self.outbox.retain(|name| view.member(name).is_some());
        for key in self.affected(&before) {
            self.place(now, key);
        }
        if !restarted.is_empty() {
            self.loans_forgotten(now, &restarted);
            // A successor that restarted has lost its copies.
            let lost = |entry: &Entry| entry.keeper(&self.me).is_some_and(|name| restarted.contains(name));
            let again: Vec<Key> =
                self.entries.iter().filter(|(_, entry)| lost(entry)).map(|(key, _)| *key).collect();
            for key in again {
                self.replicas.forget_key(key);
                self.mark_changed(now, key);
            }
        }
    }

    /// The newest state of a key this node acts on; ignored for any other key, and if it is longer than
    /// [`STATE_BYTES_MAX`] (then counted). It reaches the successor within a replicate interval.
    pub fn update_state(&mut self, now: Instant, key: Key, state: Bytes) {
        if state.len() > STATE_BYTES_MAX {
            self.stats.states_refused += 1;
            return;
        }
        let me = self.me.clone();
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if !matches!(entry.role, Role::Acting | Role::Stopping { .. }) {
            return;
        }
        entry.write(me, state);
        self.mark_changed(now, key);
    }

    /// A state that this node has on its own disk from an earlier life, with the version it had. Used if nothing
    /// newer is known anywhere when the key starts.
    pub fn offer_state(&mut self, now: Instant, key: Key, state: Bytes, version: Version) {
        if state.len() > STATE_BYTES_MAX {
            self.stats.states_refused += 1;
            return;
        }
        let copy = Copy { version, writer: self.me.clone(), state: Some(state) };
        if self.has_room_for(key) {
            self.keep_if_newer(now, key, Held { copy, source: Source::Own });
        }
    }

    /// Drops what is known about the state of a key that this node does not act on.
    pub fn forget_state(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key)
            && !matches!(entry.role, Role::Acting | Role::Stopping { .. })
        {
            entry.copy = None;
        }
    }

    /// The caller has stopped and flushed a key after [`Event::Stop`]; `None` keeps the state of the last update.
    pub fn handle_stopped(&mut self, now: Instant, key: Key, state: Option<Bytes>) {
        self.stopped(now, key, state.filter(|state| state.len() <= STATE_BYTES_MAX));
    }

    /// Takes in what a peer's [`poll_message`](Handover::poll_message) gave out. Late, doubled, reordered and
    /// broken messages are safe, and so are those from nodes that are not in the view: they are ignored.
    pub fn handle_message(&mut self, now: Instant, from: &NodeName, message: &[u8]) {
        let is_member = *from != self.me && self.view.member(from).is_some();
        let message = if is_member { Message::decode(message).ok() } else { None };
        match message {
            Some(Message::Claim(keys)) => keys.into_iter().for_each(|key| self.handle_claim(now, from, key)),
            Some(Message::Acting(keys)) => {
                keys.into_iter().for_each(|key| self.handle_acting(now, from, key));
            }
            Some(Message::Answer(answers)) => {
                answers.into_iter().for_each(|answer| self.handle_answer(now, from, answer));
            }
            Some(Message::Offer(keys)) => keys.into_iter().for_each(|key| self.handle_offer(from, key)),
            Some(Message::Replicate { batch, copies }) => self.handle_copies(now, from, batch, copies),
            Some(Message::Replicated { batch }) => self.handle_replicated(from, batch),
            None => self.stats.messages_refused += 1,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.tick_at.is_some_and(|at| at <= now) {
            self.tick_at = None;
            self.check_claims(now);
        }
        if self.remind_at.is_some_and(|at| at <= now) {
            self.remind_at = None;
            self.remind_owners(now);
        }
        self.replicate(now);
        if self.forget_at.is_some_and(|at| at <= now) {
            self.forget_at = None;
            self.forget(now);
        }
    }

    /// When [`handle_timeout`](Handover::handle_timeout) is due.
    pub fn poll_deadline(&self) -> Option<Instant> {
        [self.tick_at, self.remind_at, self.replicas.flush_at, self.forget_at].into_iter().flatten().min()
    }

    /// What the caller has to do next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next message to send, and to whom.
    pub fn poll_message(&mut self) -> Option<(NodeName, Bytes)> {
        self.outbox.pop()
    }

    /// What is known about a key.
    pub fn status(&self, key: Key) -> Option<KeyStatus> {
        self.entries.get(&key).map(|entry| self.status_of(key, entry))
    }

    /// What is known about every key, in the order of the keys.
    pub fn statuses(&self) -> impl Iterator<Item = KeyStatus> {
        self.entries.iter().map(|(key, entry)| self.status_of(*key, entry))
    }

    fn status_of(&self, key: Key, entry: &Entry) -> KeyStatus {
        let acts = matches!(entry.role, Role::Acting | Role::Stopping { .. });
        let activity = match &entry.role {
            Role::Idle => Activity::Idle,
            Role::Claiming(_) => Activity::Claiming,
            Role::Acting => Activity::Acting,
            Role::Stopping { .. } => Activity::Stopping,
        };
        KeyStatus {
            key,
            owner: entry.owner.clone(),
            successor: entry.successor.clone(),
            activity,
            stands_in_for: Self::stands_in_for(&entry.loan, activity),
            since: entry.since,
            misplaced_since: entry.misplaced_since,
            replicated: if acts { self.replicas.acknowledged(key) } else { None },
            waiting_for: match &entry.role {
                Role::Claiming(claim) => claim.waiting.clone(),
                Role::Idle | Role::Acting | Role::Stopping { .. } => Vec::new(),
            },
            version: entry.version(),
        }
    }

    /// The newest state known here, with its version: what to write to disk for
    /// [`offer_state`](Handover::offer_state) in the next life.
    pub fn state(&self, key: Key) -> Option<(Version, Bytes)> {
        let held = self.entries.get(&key)?.copy.as_ref()?;
        Some((held.copy.version, held.copy.state.clone()?))
    }

    /// Whether the successor has that version of the key's state, or a newer one; `None`: there is no successor.
    pub fn is_replicated(&self, key: Key, version: Version) -> Option<bool> {
        self.entries.get(&key)?.keeper(&self.me)?;
        Some(self.replicas.acknowledged(key).is_some_and(|has| has.term == version.term && has >= version))
    }

    /// How many keys this node acts on.
    pub fn acting(&self) -> usize {
        self.stats.acting
    }

    /// What has been counted.
    pub fn stats(&self, now: Instant) -> HandoverStats {
        let is_overdue = |key: &&Key| {
            let since = self.entries[*key].misplaced_since;
            since.is_some_and(|since| now >= since + self.options.unclaimed_after)
        };
        let (lent, borrowed) = self.loans();
        HandoverStats {
            lent,
            borrowed,
            keys: self.entries.len(),
            claiming: self.claiming.len(),
            misplaced: self.misplaced.len(),
            unclaimed: self.misplaced.iter().filter(is_overdue).count(),
            ..self.stats
        }
    }

    /// Nothing acts, stops or is claimed here: a leaving node may go.
    pub fn is_drained(&self) -> bool {
        self.stats.acting == 0 && self.stats.stopping == 0 && self.claiming.is_empty()
    }

    /// What this node is ready for, in its own view.
    pub(super) fn phase(&self) -> Phase {
        self.view.member(&self.me).map_or(Phase::Joining, |member| member.phase)
    }

    /// Owner and successor under the view.
    pub(super) fn ranked(&self, key: Key) -> (Option<NodeName>, Option<NodeName>) {
        let mut rank = Rank::new();
        self.sharder.rank(key, &self.view, 2, &mut rank);
        let mut names = rank.into_iter().map(|index| self.view.members()[index].node.name.clone());
        (names.next(), names.next())
    }

    pub(super) fn entry(&mut self, now: Instant, key: Key) -> &mut Entry {
        self.entries.entry(key).or_insert_with(|| Box::new(Entry::new(now)))
    }

    pub(super) fn has_room_for(&self, key: Key) -> bool {
        self.entries.contains_key(&key) || self.unknown < self.options.unknown_keys_max
    }

    /// Keeps a state that came from elsewhere, if it is newer than what is here.
    pub(super) fn keep_if_newer(&mut self, now: Instant, key: Key, held: Held) {
        let is_known = self.entries.contains_key(&key);
        let entry = self.entry(now, key);
        if entry.version().is_none_or(|version| held.copy.version > version) {
            entry.copy = Some(held);
        }
        if !is_known {
            self.unknown += 1;
            self.schedule_forgetting(now);
        }
    }

    fn schedule_forgetting(&mut self, now: Instant) {
        if self.unknown > 0 && self.forget_at.is_none() {
            self.forget_at = Some(now + FORGET_TICK);
        }
    }

    fn forget(&mut self, now: Instant) {
        let forget_after = self.options.forget_after;
        self.entries.retain(|_, entry| {
            let is_idle = matches!(entry.role, Role::Idle);
            entry.wanted || !is_idle || now < entry.since + forget_after
        });
        let entries = &self.entries;
        self.replicas.forget_keys(|key| !entries.contains_key(key));
        self.unknown = self.entries.values().filter(|entry| !entry.wanted).count();
        self.schedule_forgetting(now);
    }
}

impl Entry {
    /// The owner's next state.
    pub(super) fn write(&mut self, me: NodeName, state: Bytes) {
        let mut version = self.version().unwrap_or_default();
        version.sequence += 1;
        let copy = Copy { version, writer: me, state: Some(state) };
        self.copy = Some(Held { copy, source: Source::Own });
    }
}
