//! Who is suspected since when. A suspect is told so directly, again and again until the last moment, so that a
//! living one can object even if gossip does not reach it.
//!
//! NOTE: foca's own timer for this is not used: it tells the suspect that it is down even if the suspect has
//! objected in the meantime, and so makes a healthy node change its identity.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::NodeName;
use crate::node::Identity;

/// Between two accusations of one suspect: several fit into the shortest sensible suspicion.
const ACCUSE_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub(super) struct Suspicion {
    pub(super) identity: Identity,
    pub(super) incarnation: u16,
    deadline: Instant,
    accuse_at: Instant,
}

/// What is due for a suspect.
pub(super) enum Due {
    /// Tell it.
    Accuse(Suspicion),
    /// Its time is over.
    Declare(Suspicion),
}

/// At most one suspicion per member.
#[derive(Default)]
pub(super) struct Suspicions {
    by_name: BTreeMap<NodeName, Suspicion>,
}

impl Suspicions {
    /// Begins to suspect; a suspicion of the same life that is already there goes on as it is.
    pub(super) fn raise(
        &mut self,
        now: Instant,
        identity: Identity,
        incarnation: u16,
        patience: Duration,
    ) -> bool {
        let known = self.by_name.get(&identity.name);
        if known.is_some_and(|known| known.identity == identity && known.incarnation == incarnation) {
            return false;
        }
        let name = identity.name.clone();
        let suspicion = Suspicion { identity, incarnation, deadline: now + patience, accuse_at: now };
        self.by_name.insert(name, suspicion);
        true
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_name.values().map(|suspicion| suspicion.deadline.min(suspicion.accuse_at)).min()
    }

    /// Whatever this node missed until now is not the suspects' fault: they have this long more.
    pub(super) fn grant(&mut self, now: Instant, patience: Duration) {
        for suspicion in self.by_name.values_mut() {
            suspicion.accuse_at = now;
            suspicion.deadline = now + patience;
        }
    }

    /// The least time that a suspect is granted after this node was stalled: two questions.
    pub(super) fn grant_after_stall(&mut self, now: Instant) {
        for suspicion in self.by_name.values_mut() {
            suspicion.accuse_at = now;
            suspicion.deadline = suspicion.deadline.max(now + 2 * ACCUSE_INTERVAL);
        }
    }

    /// Judges a suspect later than it was due.
    pub(super) fn postpone(&mut self, suspicion: Suspicion, deadline: Instant) {
        let accuse_at = suspicion.deadline + ACCUSE_INTERVAL;
        self.by_name.insert(suspicion.identity.name.clone(), Suspicion { deadline, accuse_at, ..suspicion });
    }

    /// What is due; suspicions that no longer stand are dropped.
    pub(super) fn take_due(&mut self, now: Instant, stands: impl Fn(&Suspicion) -> bool) -> Vec<Due> {
        let mut due = Vec::new();
        self.by_name.retain(|_, suspicion| {
            if suspicion.deadline.min(suspicion.accuse_at) > now {
                return true;
            }
            if !stands(suspicion) {
                return false;
            }
            if suspicion.deadline <= now {
                due.push(Due::Declare(suspicion.clone()));
                return false;
            }
            suspicion.accuse_at = now + ACCUSE_INTERVAL;
            due.push(Due::Accuse(suspicion.clone()));
            true
        });
        due
    }
}
