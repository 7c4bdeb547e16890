//! Label sets made once for all lines of a batch that have them: the same set is always the same allocation.

use std::collections::{HashMap, HashSet};

use twox_hash::XxHash3_64;

use crate::telemetry::Labels;

/// The sets of one batch.
#[derive(Default)]
pub(super) struct LabelSets {
    known: HashSet<Labels>,
    /// What a change makes of a set, by the hash of both. The old set is kept, so that its address stays its own.
    changes: HashMap<u64, Change>,
}

struct Change {
    before: Labels,
    name: Box<str>,
    value: Box<str>,
    after: Labels,
}

impl LabelSets {
    /// The set, in the allocation that stands for all like it.
    pub(super) fn known(&mut self, labels: &Labels) -> Labels {
        if let Some(known) = self.known.get(labels) {
            return known.clone();
        }
        self.known.insert(labels.clone());
        labels.clone()
    }

    /// The set with that label; without it if the value is empty.
    pub(super) fn with(&mut self, before: &Labels, name: &str, value: &str) -> Labels {
        let key = (before.address() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ XxHash3_64::oneshot(name.as_bytes()).rotate_left(1)
            ^ XxHash3_64::oneshot(value.as_bytes());
        let change = self.changes.get(&key);
        let is_it = |change: &&Change| {
            change.before.address() == before.address() && *change.name == *name && *change.value == *value
        };
        if let Some(change) = change.filter(is_it) {
            return change.after.clone();
        }
        let changed = Labels::new(before.iter().chain([(name, value)]));
        let after = self.known(&changed);
        let (before, name, value) = (before.clone(), name.into(), value.into());
        self.changes.insert(key, Change { before, name, value, after: after.clone() });
        after
    }

    /// The set with those labels alone whose names are wanted.
    pub(super) fn retain(&mut self, before: &Labels, wanted: impl Fn(&str) -> bool) -> Labels {
        if before.iter().all(|(name, _)| wanted(name)) {
            return before.clone();
        }
        let kept = Labels::new(before.iter().filter(|(name, _)| wanted(name)));
        self.known(&kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_that_are_alike_are_one_allocation_whichever_way_they_were_made() {
        let mut sets = LabelSets::default();
        let empty = sets.known(&Labels::new::<&str, &str>([]));
        let a = sets.with(&empty, "a", "1");
        let (ab, b) = (sets.with(&a, "b", "2"), sets.with(&empty, "b", "2"));
        let ba = sets.with(&b, "a", "1");
        assert_eq!(ab, Labels::new([("a", "1"), ("b", "2")]));
        assert_eq!(ab.address(), ba.address());
        assert_eq!(sets.with(&ab, "b", "").address(), a.address());
        assert_eq!(sets.retain(&ab, |name| name == "b").address(), b.address());
        assert_eq!(sets.with(&ab, "b", "3").get("b"), Some("3"));
    }
}
