//! What foca was last told of each name.
//!
//! Foca looks through all its members for each piece of news, and in a cluster of 1,000 most of what comes is no
//! news. States only ever move on (alive, suspect, down, and then a newer life), so whatever is not ahead of what was
//! applied last would change nothing and need not be looked up.

use foca::{Member, State};

use super::by_name::{ByName, Named};
use crate::NodeName;
use crate::node::Identity;

pub(super) struct Known {
    last: ByName<Member<Identity>>,
}

impl Named for Member<Identity> {
    fn name(&self) -> &NodeName {
        &self.id().name
    }
}

impl Known {
    pub(super) fn new(seed: u64) -> Self {
        Known { last: ByName::new(seed) }
    }

    /// Whether applying it could change anything.
    pub(super) fn is_news(&self, member: &Member<Identity>) -> bool {
        match self.last.get(&member.id().name) {
            None => true,
            Some(last) if last.id() == member.id() => is_ahead(last, member),
            Some(last) => !last.id().beats(member.id()),
        }
    }

    /// Notes what is about to be applied.
    pub(super) fn note(&mut self, member: &Member<Identity>) {
        if self.is_news(member) {
            self.last.replace(member.clone());
        }
    }

    /// The last word about this life of the name.
    pub(super) fn of(&self, identity: &Identity) -> Option<&Member<Identity>> {
        self.last.get(&identity.name).filter(|last| last.id() == identity)
    }

    /// Whether this very life of the name is over.
    pub(super) fn is_down(&self, identity: &Identity) -> bool {
        self.of(identity).is_some_and(|last| last.state() == State::Down)
    }

    /// Forgets names beyond `max`, those of the dead.
    pub(super) fn prune(&mut self, max: usize) {
        if self.last.len() >= max {
            self.last.retain(|last| last.state() != State::Down);
        }
    }
}

/// The order of states in section 4.2 of the SWIM paper, as foca applies it.
fn is_ahead(last: &Member<Identity>, next: &Member<Identity>) -> bool {
    match (last.state(), next.state()) {
        (State::Down, _) => false,
        (_, State::Down) => true,
        (State::Alive, State::Suspect) => next.incarnation() >= last.incarnation(),
        (State::Alive, State::Alive) | (State::Suspect, _) => next.incarnation() > last.incarnation(),
    }
}
