//! How a key changes hands: who is asked, who answers what, when to start without an answer.
//!
//! Who is asked: the owner before, if it lives. If it is gone, its successor, which holds the copy (if that is
//! this node: nobody). If nobody is known to have owned the key (this node is new, or the key is), everybody; and
//! also if the owner before says that it does not act, since it may have passed the key on in a view that this
//! node has not seen. A node that owns nothing of the kind answers at once, so asking everybody is one round trip.

use std::time::Instant;

use super::machine::{Handover, Held, REMIND_INTERVAL, Role, Source, TICK};
use super::types::{Event, Origin, Trust, Version};
use super::wire::{Answer, AnswerKind, Copy};
use crate::{Key, NodeName, Phase};

/// A claim that waits for answers.
pub(super) struct Claim {
    pub(super) waiting: Vec<NodeName>,
    /// All that have been asked.
    told: Vec<NodeName>,
    asked: Asked,
    deadline: Instant,
    give_up: Instant,
    resend_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The owner before; if it is idle, the others are asked.
    OwnerBefore,
    /// The one that holds the copy of an owner that is gone.
    Successor,
    Everybody,
}

/// Whether all who could know of a state have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    Certain,
    Uncertain,
}

impl Handover {
    /// Looks at one key under the current view and set of keys.
    pub(super) fn place(&mut self, now: Instant, key: Key) {
        let (owner, successor) = self.placed(key);
        let phase = self.phase();
        let me = self.me.clone();
        let entry = self.entry(now, key);
        let keeper_before = entry.keeper(&me).cloned();
        let owner_before = std::mem::replace(&mut entry.owner, owner.clone());
        let successor_before = std::mem::replace(&mut entry.successor, successor);
        let keeper_changed = entry.keeper(&me) != keeper_before.as_ref();
        let is_mine = entry.wanted && phase == Phase::Active && owner.as_ref() == Some(&me);
        match &entry.role {
            Role::Acting => {
                if !entry.wanted || phase == Phase::Joining {
                    self.stop(now, key, None);
                } else if is_mine {
                    entry.misplaced_since = None;
                    self.misplaced.remove(&key);
                } else {
                    self.misplace(now, key);
                }
                if keeper_changed {
                    self.replicas.forget_key(key);
                    self.mark_changed(now, key);
                }
            }
            Role::Stopping { .. } => {}
            Role::Claiming(_) if is_mine => self.follow_view(now, key),
            Role::Claiming(_) => {
                self.set_role(now, key, Role::Idle);
                self.answer_early_claim(key);
            }
            Role::Idle if is_mine => self.begin(now, key, owner_before, successor_before),
            Role::Idle => self.answer_early_claim(key),
        }
    }

    /// This node acts on a key that is another's now: it goes on until that one asks.
    fn misplace(&mut self, now: Instant, key: Key) {
        let entry = self.entry(now, key);
        entry.misplaced_since.get_or_insert(now);
        let owner = entry.owner.clone();
        let early = entry.wanted_by.take();
        self.misplaced.insert(key);
        if early.is_some() && early == owner {
            self.stop(now, key, early);
            return;
        }
        if let Some(owner) = owner {
            self.outbox.acting(&owner, key);
        }
        self.remind_at.get_or_insert(now + REMIND_INTERVAL);
    }

    pub(super) fn remind_owners(&mut self, now: Instant) {
        for key in &self.misplaced {
            if let Some(owner) = &self.entries[key].owner {
                self.outbox.acting(owner, *key);
            }
        }
        if !self.misplaced.is_empty() {
            self.remind_at = Some(now + REMIND_INTERVAL);
        }
    }

    /// Begins to own a key: asks whoever may act on it or hold its state.
    fn begin(&mut self, now: Instant, key: Key, owner: Option<NodeName>, successor: Option<NodeName>) {
        let lives = |name: &NodeName| self.view.member(name).is_some();
        let (waiting, asked) = match (owner, successor) {
            (Some(owner), _) if owner != self.me && lives(&owner) => (vec![owner], Asked::OwnerBefore),
            (Some(owner), Some(successor)) if owner != self.me && self.options.trust == Trust::Copy => {
                if successor == self.me {
                    return self.start(now, key, Knowledge::Uncertain);
                }
                match lives(&successor) {
                    true => (vec![successor], Asked::Successor),
                    false => (self.others(), Asked::Everybody),
                }
            }
            _ => (self.others(), Asked::Everybody),
        };
        self.claim(now, key, waiting, asked);
    }

    fn others(&self) -> Vec<NodeName> {
        let names = self.view.members().iter().map(|member| &member.node.name);
        names.filter(|name| **name != self.me).cloned().collect()
    }

    fn claim(&mut self, now: Instant, key: Key, waiting: Vec<NodeName>, asked: Asked) {
        if waiting.is_empty() {
            return self.start(now, key, Knowledge::Certain);
        }
        for name in &waiting {
            self.outbox.claim(name, key);
        }
        let claim = Claim {
            told: waiting.clone(),
            waiting,
            asked,
            deadline: now + self.options.claim_timeout,
            give_up: now + self.options.claim_patience,
            resend_at: now + self.options.resend_interval,
        };
        self.set_role(now, key, Role::Claiming(Box::new(claim)));
        self.tick_at.get_or_insert(now + TICK);
    }

    /// Those who are gone from the view do not answer any more, and those who came may act on the key.
    fn follow_view(&mut self, now: Instant, key: Key) {
        let view = self.view.clone();
        let others = self.others();
        let Some(claim) = self.claim_of(key) else { return };
        let before = claim.waiting.len();
        claim.waiting.retain(|name| view.member(name).is_some());
        let nobody_left = claim.waiting.is_empty() && before > 0;
        if claim.asked == Asked::Everybody {
            let came: Vec<NodeName> = others.into_iter().filter(|name| !claim.told.contains(name)).collect();
            claim.waiting.extend(came.iter().cloned());
            claim.told.extend(came.iter().cloned());
            for name in &came {
                self.outbox.claim(name, key);
            }
            if !came.is_empty() {
                return;
            }
        }
        if nobody_left {
            // The owner before has died with our question: whoever has its copy shall tell.
            self.conclude(now, key, Knowledge::Uncertain);
        }
    }

    /// Nobody is left to wait for.
    fn conclude(&mut self, now: Instant, key: Key, knowledge: Knowledge) {
        let Some(claim) = self.claim_of(key) else { return };
        if claim.asked == Asked::OwnerBefore {
            let others = self.others();
            self.claim(now, key, others, Asked::Everybody);
        } else {
            self.start(now, key, knowledge);
        }
    }

    fn start(&mut self, now: Instant, key: Key, knowledge: Knowledge) {
        let me = self.me.clone();
        let view = self.view.clone();
        let entry = self.entry(now, key);
        let held = entry.copy.take();
        let term = match (&held, knowledge) {
            (Some(held), _) => held.copy.version.term + 1,
            (None, Knowledge::Certain) => 1,
            (None, Knowledge::Uncertain) => 0,
        };
        let (state, origin) = match held {
            None => (None, Origin::Fresh),
            Some(Held { copy, source }) => {
                let origin = match source {
                    _ if copy.state.is_none() => Origin::Fresh,
                    Source::Own => Origin::Restored,
                    Source::Writer => Origin::Handed { from: copy.writer },
                    Source::Replica { heard } => Origin::Replica { of: copy.writer, last_heard: heard },
                };
                (copy.state, origin)
            }
        };
        let version = Version { term, sequence: 0 };
        entry.copy =
            Some(Held { copy: Copy { version, writer: me, state: state.clone() }, source: Source::Own });
        let counter = match origin {
            Origin::Fresh => &mut self.stats.started_fresh,
            Origin::Handed { .. } => &mut self.stats.started_handed,
            Origin::Replica { .. } => &mut self.stats.started_replica,
            Origin::Restored => &mut self.stats.started_restored,
        };
        *counter += 1;
        debug_assert!(view.member(&self.me).is_some(), "only an active member starts");
        self.set_role(now, key, Role::Acting);
        self.events.push_back(Event::Start { key, state, origin });
        self.replicas.forget_key(key);
        self.mark_changed(now, key);
    }

    fn stop(&mut self, now: Instant, key: Key, claimant: Option<NodeName>) {
        self.set_role(now, key, Role::Stopping { claimants: claimant.into_iter().collect() });
        self.events.push_back(Event::Stop { key });
    }

    pub(super) fn stopped(&mut self, now: Instant, key: Key, state: Option<bytes::Bytes>) {
        let me = self.me.clone();
        let is_active = self.phase() == Phase::Active;
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Role::Stopping { claimants } = &mut entry.role else { return };
        let claimants = std::mem::take(claimants);
        if let Some(state) = state {
            entry.write(me.clone(), state);
        }
        if let Some(incoming) = entry.incoming.take()
            && entry.version().is_none_or(|version| incoming.copy.version > version)
        {
            entry.copy = Some(*incoming);
        }
        let copy = entry.copy.as_ref().map(|held| held.copy.clone());
        let owner = entry.owner.clone();
        let wanted = entry.wanted;
        self.set_role(now, key, Role::Idle);
        if wanted && is_active && owner.as_ref() == Some(&me) {
            return self.start(now, key, Knowledge::Certain);
        }
        for claimant in claimants {
            // Another owner has come up since: the claimant will see it, and that one will ask.
            if !wanted || owner.as_ref() == Some(&claimant) {
                self.outbox.answer(&claimant, key, AnswerKind::Stopped, copy.clone());
            }
        }
        self.answer_early_claim(key);
    }

    /// A claim that came before our view agreed is due, and this node does not act.
    fn answer_early_claim(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Some(claimant) = entry.wanted_by.take() {
            let copy = entry.copy.as_ref().map(|held| held.copy.clone());
            self.outbox.answer(&claimant, key, AnswerKind::Idle, copy);
        }
    }

    pub(super) fn handle_claim(&mut self, now: Instant, from: &NodeName, key: Key) {
        self.loan_claimed(now, from, key);
        let Some(entry) = self.entries.get_mut(&key) else {
            self.outbox.answer(from, key, AnswerKind::Idle, None);
            return;
        };
        let is_theirs = !entry.wanted || entry.owner.as_ref() == Some(from);
        match &mut entry.role {
            Role::Idle => {
                let copy = entry.copy.as_ref().map(|held| held.copy.clone());
                self.outbox.answer(from, key, AnswerKind::Idle, copy);
                return;
            }
            Role::Acting if is_theirs => self.stop(now, key, Some(from.clone())),
            Role::Stopping { claimants } if is_theirs => {
                if !claimants.contains(from) {
                    claimants.push(from.clone());
                }
            }
            Role::Acting | Role::Claiming(_) | Role::Stopping { .. } => entry.wanted_by = Some(from.clone()),
        }
        self.outbox.answer(from, key, AnswerKind::Wait, None);
    }

    /// Another node acts on a key that this one owns: ask it to stop, whatever we thought who did.
    pub(super) fn handle_acting(&mut self, now: Instant, from: &NodeName, key: Key) {
        self.loan_returned(now, from, key);
        let is_active = self.phase() == Phase::Active;
        let me = self.me.clone();
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if !(entry.wanted && is_active && entry.owner.as_ref() == Some(&me)) {
            return;
        }
        match &mut entry.role {
            Role::Idle => self.claim(now, key, vec![from.clone()], Asked::OwnerBefore),
            Role::Claiming(claim) => {
                if !claim.waiting.contains(from) {
                    claim.waiting.push(from.clone());
                    self.outbox.claim(from, key);
                }
            }
            Role::Acting => self.outbox.claim(from, key),
            Role::Stopping { .. } => {}
        }
    }

    pub(super) fn handle_answer(&mut self, now: Instant, from: &NodeName, answer: Answer) {
        let Answer { key, kind, copy } = answer;
        let claim_timeout = self.options.claim_timeout;
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Some(copy) = copy {
            let is_writers = copy.writer == *from && kind != AnswerKind::Wait;
            let source = if is_writers { Source::Writer } else { Source::Replica { heard: None } };
            if is_writers
                && let Some(held) = entry.copy.as_mut().filter(|held| held.copy == copy)
                && held.source != Source::Own
            {
                // The copy that is here already turns out to be the last word.
                held.source = Source::Writer;
            }
            if entry.version().is_none_or(|version| copy.version > version) {
                let held = Held { copy, source };
                match &entry.role {
                    Role::Idle | Role::Claiming(_) => entry.copy = Some(held),
                    Role::Acting => {
                        entry.incoming = Some(Box::new(held));
                        self.stats.conflicts += 1;
                        return self.stop(now, key, None);
                    }
                    Role::Stopping { .. } => entry.incoming = Some(Box::new(held)),
                }
            }
        }
        let Some(claim) = self.claim_of(key) else { return };
        match kind {
            AnswerKind::Stopped => self.start(now, key, Knowledge::Certain),
            AnswerKind::Wait => {
                if claim.waiting.contains(from) {
                    claim.deadline = (now + claim_timeout).min(claim.give_up);
                }
            }
            AnswerKind::Idle => {
                let before = claim.waiting.len();
                claim.waiting.retain(|name| name != from);
                if claim.waiting.is_empty() && before > 0 {
                    self.conclude(now, key, Knowledge::Certain);
                }
            }
        }
    }

    /// Sends claims again, and gives up those whose time is over.
    pub(super) fn check_claims(&mut self, now: Instant) {
        let resend_interval = self.options.resend_interval;
        let mut expired = Vec::new();
        for key in &self.claiming {
            let entry = self.entries.get_mut(key).expect("a claimed key has its entry");
            let Role::Claiming(claim) = &mut entry.role else { continue };
            if claim.deadline <= now {
                expired.push(*key);
            } else if claim.resend_at <= now {
                claim.resend_at = now + resend_interval;
                for name in &claim.waiting {
                    self.outbox.claim(name, *key);
                }
            }
        }
        for key in expired {
            self.stats.claims_expired += 1;
            self.start(now, key, Knowledge::Uncertain);
        }
        if !self.claiming.is_empty() {
            self.tick_at = Some(now + TICK);
        }
    }

    fn claim_of(&mut self, key: Key) -> Option<&mut Claim> {
        match &mut self.entries.get_mut(&key)?.role {
            Role::Claiming(claim) => Some(claim),
            Role::Idle | Role::Acting | Role::Stopping { .. } => None,
        }
    }

    /// The only place where a role changes: the counts and indexes follow it.
    fn set_role(&mut self, now: Instant, key: Key, role: Role) {
        let entry = self.entries.get_mut(&key).expect("only a known key changes its role");
        let is_claiming = matches!(role, Role::Claiming(_));
        let is_acting = matches!(role, Role::Acting);
        let is_stopping = matches!(role, Role::Stopping { .. });
        let before = std::mem::replace(&mut entry.role, role);
        entry.since = now;
        self.stats.acting -= usize::from(matches!(before, Role::Acting));
        self.stats.stopping -= usize::from(matches!(before, Role::Stopping { .. }));
        self.stats.acting += usize::from(is_acting);
        self.stats.stopping += usize::from(is_stopping);
        if is_claiming {
            self.claiming.insert(key);
        } else {
            self.claiming.remove(&key);
        }
        if !is_acting {
            entry.misplaced_since = None;
            self.misplaced.remove(&key);
        }
    }
}
