//! Keys that their owner cannot work on though another member can: it lends them, and takes them back.
//!
//! ```text
//!   owner                                          another member
//!   cannot(key): Offered   ---- offer ---->        Asked: poll_asked, the caller tries
//!   Lent: stops            <--- claim -----        can(key): Borrowed
//!                          ---- stopped, state ->  acts, with the owner as its successor
//!   can(key): its own again ---- claim ---->       stops, hands the state back
//!   its own again          <--- acting -----       cannot(key): gives it back
//! ```
//! The key changes hands by claim and release as after a change of the view, so that while messages arrive no two act on it. Only
//! the two know of a loan; it is void as soon as the owner is not the owner any more, or one of the two is not active.
//! Another member that comes to own the key then asks everybody, as for any key whose owner before is idle.

use std::collections::BTreeSet;
use std::time::Instant;

use super::machine::{Handover, Role};
use super::types::Activity;
use crate::{Key, NodeName, Phase, Rank};

/// Where a key stands between its owner and who may stand in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Loan {
    #[default]
    None,
    /// This node owns the key, and has asked that one whether it can.
    Offered(NodeName),
    /// This node owns the key, and that one acts on it.
    Lent(NodeName),
    /// That one owns the key, and has asked whether this node can.
    Asked(NodeName),
    /// That one owns the key, and this node acts on it.
    Borrowed(NodeName),
}

impl Handover {
    /// This node acts on the key and gets nowhere with it. Its own key is offered to another member: `attempt` 0 is the next in
    /// rank, 1 the one behind it, and so on, round and round; says to whom. A borrowed key is given back.
    pub fn cannot(&mut self, now: Instant, key: Key, attempt: usize) -> Option<NodeName> {
        let mut rank = Rank::new();
        self.sharder.rank(key, &self.view, self.view.members().len(), &mut rank);
        let names = rank.into_iter().map(|index| &self.view.members()[index].node.name);
        let others: Vec<NodeName> = names.filter(|name| **name != self.me).cloned().collect();
        let entry = self.entries.get_mut(&key)?;
        if !matches!(entry.role, Role::Acting) {
            return None;
        }
        match &entry.loan {
            Loan::None | Loan::Offered(_) if entry.owner.as_ref() == Some(&self.me) => {
                let to = others.get(attempt % others.len().max(1))?.clone();
                entry.loan = Loan::Offered(to.clone());
                self.outbox.offer(&to, key);
                Some(to)
            }
            Loan::Borrowed(_) => {
                entry.loan = Loan::None;
                // Not this node's any more: its owner is reminded, and claims it.
                self.place(now, key);
                None
            }
            Loan::None | Loan::Offered(_) | Loan::Lent(_) | Loan::Asked(_) => None,
        }
    }

    /// This node has tried a key that it does not act on, and can work on it: an offered key is borrowed, a lent one taken back. True:
    /// one of the two happens.
    pub fn can(&mut self, now: Instant, key: Key) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        if !matches!(entry.role, Role::Idle) {
            return false;
        }
        entry.loan = match std::mem::take(&mut entry.loan) {
            Loan::Asked(from) => Loan::Borrowed(from),
            Loan::Lent(_) => Loan::None,
            other => {
                entry.loan = other;
                return false;
            }
        };
        self.place(now, key);
        true
    }

    /// A key that another member cannot work on: the caller shall try, and say so if this node [`can`](Handover::can).
    pub fn poll_asked(&mut self) -> Option<Key> {
        self.asked.pop_first()
    }

    /// The keys of this node on which others act for it.
    pub fn lent(&self) -> impl Iterator<Item = Key> {
        let lent = self.entries.iter().filter(|(_, entry)| matches!(entry.loan, Loan::Lent(_)));
        lent.map(|(key, _)| *key)
    }

    /// How many keys are lent, and how many borrowed.
    pub(super) fn loans(&self) -> (usize, usize) {
        let count = |is: fn(&Loan) -> bool| self.entries.values().filter(|entry| is(&entry.loan)).count();
        (count(|loan| matches!(loan, Loan::Lent(_))), count(|loan| matches!(loan, Loan::Borrowed(_))))
    }

    /// Owner and successor under the view and the key's loan. A loan that the view has made void is forgotten.
    pub(super) fn placed(&mut self, key: Key) -> (Option<NodeName>, Option<NodeName>) {
        let (owner, successor) = self.ranked(key);
        let (view, me) = (self.view.clone(), self.me.clone());
        let Some(entry) = self.entries.get_mut(&key) else { return (owner, successor) };
        let is_active =
            |name: &NodeName| view.member(name).is_some_and(|member| member.phase == Phase::Active);
        let stays = entry.wanted
            && match &entry.loan {
                Loan::None => false,
                Loan::Offered(to) | Loan::Lent(to) => owner.as_ref() == Some(&me) && is_active(to),
                Loan::Asked(from) | Loan::Borrowed(from) => owner.as_ref() == Some(from) && is_active(&me),
            };
        if !stays {
            entry.loan = Loan::None;
        }
        match &entry.loan {
            Loan::Lent(to) => (Some(to.clone()), owner),
            Loan::Borrowed(_) => (Some(me), owner),
            Loan::None | Loan::Offered(_) | Loan::Asked(_) => (owner, successor),
        }
    }

    pub(super) fn handle_offer(&mut self, from: &NodeName, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let is_idle = matches!(entry.role, Role::Idle) && matches!(entry.loan, Loan::None | Loan::Asked(_));
        if entry.wanted && is_idle && entry.owner.as_ref() == Some(from) {
            entry.loan = Loan::Asked(from.clone());
            self.asked.insert(key);
        }
    }

    /// A claim is how an offer is taken up, and how a loan ends.
    pub(super) fn loan_claimed(&mut self, now: Instant, from: &NodeName, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.loan = match &entry.loan {
            Loan::Offered(to) if to == from && matches!(entry.role, Role::Acting) => Loan::Lent(to.clone()),
            Loan::Borrowed(owner) if owner == from => Loan::None,
            _ => return,
        };
        self.place(now, key);
    }

    /// Who borrowed a key reminds its owner of it: it gives it back.
    pub(super) fn loan_returned(&mut self, now: Instant, from: &NodeName, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if matches!(entry.role, Role::Idle) && entry.loan == Loan::Lent(from.clone()) {
            entry.loan = Loan::None;
            self.place(now, key);
        }
    }

    /// Who restarts does not know what it has borrowed.
    pub(super) fn loans_forgotten(&mut self, now: Instant, restarted: &BTreeSet<NodeName>) {
        let is_lost =
            |loan: &Loan| matches!(loan, Loan::Lent(to) | Loan::Offered(to) if restarted.contains(to));
        let lost = self.entries.iter().filter(|(_, entry)| is_lost(&entry.loan)).map(|(key, _)| *key);
        for key in lost.collect::<Vec<Key>>() {
            self.entry(now, key).loan = Loan::None;
            self.place(now, key);
        }
    }

    /// For whom this node acts on the key.
    pub(super) fn stands_in_for(loan: &Loan, activity: Activity) -> Option<NodeName> {
        match loan {
            Loan::Borrowed(from) if activity == Activity::Acting => Some(from.clone()),
            _ => None,
        }
    }
}
