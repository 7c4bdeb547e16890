//! When a target is scraped: a pure function of its key and its interval, the same on every node.
//!
//! The slots of a target are the moments `k * interval + offset` of Unix time, with `offset = mix(key) % interval`.
//! Whoever owns the target scrapes it in its slots and gives the samples the slot's time: an owner that takes over
//! goes on exactly one interval behind the last one, and two owners of one slot write one point.

/// The slots of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    interval_ms: i64,
    offset_ms: i64,
}

impl Slots {
    /// The slots of that key. `interval_ms` is at least 1.
    pub fn new(key: u64, interval_ms: i64) -> Self {
        let interval_ms = interval_ms.max(1);
        // The key is mixed once more, so that a cluster's split of the keys and the slots do not depend on each other.
        let mixed = twox_hash::XxHash64::oneshot(SLOT_SEED, &key.to_le_bytes());
        Slots { interval_ms, offset_ms: (mixed % interval_ms as u64) as i64 }
    }

    /// The first slot after `time_ms`.
    pub fn after(self, time_ms: i64) -> i64 {
        self.last(time_ms) + self.interval_ms
    }

    /// The last slot at or before `time_ms`.
    pub fn last(self, time_ms: i64) -> i64 {
        (time_ms - self.offset_ms).div_euclid(self.interval_ms) * self.interval_ms + self.offset_ms
    }

    /// The slot with which an owner begins, and how many slots nobody took.
    ///
    /// `done_ms` is the last slot that somebody has taken, as far as it is known. Unknown: the target is new and
    /// begins with its next slot. Known: goes on behind it; of the slots that have passed since then, the latest is
    /// caught up at once (its values are at most one interval late), the ones before it are missed.
    pub fn begin(self, done_ms: Option<i64>, now_ms: i64) -> Begin {
        let next = self.after(now_ms);
        let Some(done_ms) = done_ms else { return Begin { slot_ms: next, missed: 0 } };
        let latest = self.last(now_ms);
        if self.after(done_ms) > latest {
            // Nothing has passed. A clock that went back must not take a slot twice.
            return Begin { slot_ms: next.max(self.after(done_ms)).min(next + self.interval_ms), missed: 0 };
        }
        Begin { slot_ms: latest, missed: (latest - self.after(done_ms)) / self.interval_ms }
    }
}

/// Where an owner begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The first slot to take; in the past: at once.
    pub slot_ms: i64,
    /// Slots before it that nobody took.
    pub missed: i64,
}

const SLOT_SEED: u64 = 0x51_0735;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_depend_on_the_key_alone_and_are_one_interval_apart() {
        for key in [0, 1, u64::MAX, 0x1234_5678] {
            let slots = Slots::new(key, 15_000);
            let first = slots.after(1_700_000_000_123);
            assert!(first > 1_700_000_000_123 && first <= 1_700_000_015_123);
            assert_eq!(slots.after(first), first + 15_000);
            assert_eq!(slots.last(first), first);
            assert_eq!(slots.last(first - 1), first - 15_000);
            assert_eq!(slots.after(-1) - slots.last(-1), 15_000);
        }
    }

    #[test]
    fn the_slots_of_many_keys_fill_the_interval_evenly() {
        let mut tenths = [0; 10];
        (0..10_000).for_each(|key| tenths[(Slots::new(key, 10_000).offset_ms / 1000) as usize] += 1);
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn an_owner_goes_on_where_the_last_one_stopped() {
        let slots = Slots::new(3, 1000);
        let slot = slots.after(1_000_000);
        let begin = |done, now| {
            let begin = slots.begin(done, now);
            ((begin.slot_ms - slot) / 1000, begin.missed)
        };
        assert_eq!(begin(None, slot + 300), (1, 0), "a new target waits for its slot");
        assert_eq!(begin(Some(slot), slot + 300), (1, 0), "nothing has passed");
        assert_eq!(begin(Some(slot - 1000), slot + 300), (0, 0), "one slot has passed: caught up");
        assert_eq!(begin(Some(slot - 4000), slot + 300), (0, 3), "the latest is caught up, three are missed");
        assert_eq!(
            begin(Some(slot + 1000), slot + 300),
            (2, 0),
            "the other one's clock is ahead: its slot is not taken again"
        );
        assert_eq!(
            begin(Some(slot + 90_000), slot + 300),
            (2, 0),
            "a clock that is far off does not stop the target"
        );
    }
}
