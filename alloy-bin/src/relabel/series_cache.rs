//! What became of each series, so that rules see it once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{LabelSet, Rules};
use crate::telemetry::{Labels, LabelsRef, STALE_NAN, SampleBatch};

/// Batches of different targets seldom wait for each other. A series always comes with the same target's key.
const SHARDS: usize = 16;

/// How long series are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheLimit {
    /// At most so many; those not seen for the longest time go first.
    Entries(usize),
    /// Those that were seen within about so long.
    Age(Duration),
}

/// Rules with a memory. A hit costs a hash and a look; nothing is allocated for it.
///
/// A series is known by the 64-bit hash of its labels: among a million series, the chance that any two are taken for one
/// is 3 in 10^8.
pub struct Relabeler {
    rules: Rules,
    /// Each series has these too when the rules see it, if it has none of that name.
    added: Labels,
    limit: CacheLimit,
    shards: [Mutex<Shard>; SHARDS],
    entries: AtomicUsize,
    /// What was counted.
    pub figures: Figures,
}

/// What a relabeler counts.
#[derive(Debug, Default)]
pub struct Figures {
    /// Samples that came.
    pub processed: AtomicU64,
    /// Samples that were not dropped.
    pub written: AtomicU64,
    /// Samples of a known series.
    pub hits: AtomicU64,
    /// Samples whose series had to be worked out.
    pub misses: AtomicU64,
    /// Series forgotten for their age.
    pub expired: AtomicU64,
}

/// What the rules make of a series.
enum Outcome {
    Same,
    Dropped,
    Changed(Labels),
}

/// Some of the series, as a clock: a hand goes round, passes over what was seen since its last visit, and takes what was not.
#[derive(Default)]
struct Shard {
    places: HashMap<u64, u32, BuildHasherDefault<Identity>>,
    slots: Vec<Slot>,
    hand: usize,
    swept: Option<Instant>,
}

struct Slot {
    series: u64,
    seen: bool,
    outcome: Outcome,
}

impl Relabeler {
    /// Rules with an empty memory.
    pub fn new(rules: Rules, added: Labels, limit: CacheLimit) -> Self {
        let (entries, figures) = (AtomicUsize::new(0), Figures::default());
        Relabeler { rules, added, limit, shards: Default::default(), entries, figures }
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How many series are remembered.
    pub fn remembered(&self) -> usize {
        self.entries.load(Relaxed)
    }

    /// The samples whose series are kept, with their new labels. A series without any label left is dropped. A marker that
    /// ends a series goes the series' way, and the series is forgotten.
    pub fn relabel(&self, batch: &SampleBatch, now: Instant) -> SampleBatch {
        let mut kept = SampleBatch::with_room_of(batch);
        let (mut hits, mut change) = (0, 0);
        let index = batch.lane() % SHARDS as u64;
        let mut shard = self.shards[index as usize].lock().expect("no code panics while holding it");
        if let CacheLimit::Age(age) = self.limit {
            let expired = shard.sweep(age, now);
            self.figures.expired.fetch_add(expired as u64, Relaxed);
            change -= expired as isize;
        }
        for sample in batch.iter() {
            let series = sample.labels.fingerprint();
            let place = match shard.places.get(&series) {
                Some(place) => {
                    hits += 1;
                    *place as usize
                }
                None => {
                    let others = self.entries.load(Relaxed).saturating_add_signed(change);
                    let is_full = matches!(self.limit, CacheLimit::Entries(max) if others >= max);
                    change += 1 - isize::from(is_full && shard.evict());
                    shard.insert(series, self.outcome(sample.labels))
                }
            };
            let slot = &mut shard.slots[place];
            slot.seen = true;
            match &slot.outcome {
                Outcome::Same => kept.push_as(sample.labels, &sample),
                Outcome::Changed(labels) => kept.push_as(labels.as_ref(), &sample),
                Outcome::Dropped => {}
            }
            if sample.value.to_bits() == STALE_NAN.to_bits() {
                shard.remove(place);
                change -= 1;
            }
        }
        drop(shard);
        // All shards together never go below zero: each takes back only what it has added.
        self.entries.fetch_add(change as usize, Relaxed);
        let figures = &self.figures;
        figures.processed.fetch_add(batch.len() as u64, Relaxed);
        figures.written.fetch_add(kept.len() as u64, Relaxed);
        figures.hits.fetch_add(hits, Relaxed);
        figures.misses.fetch_add(batch.len() as u64 - hits, Relaxed);
        kept
    }

    fn outcome(&self, series: LabelsRef<'_>) -> Outcome {
        let added = self.added.iter().filter(|(name, _)| series.get(name).is_none());
        let mut labels = LabelSet::new(series.iter().chain(added));
        if !self.rules.apply(&mut labels) {
            return Outcome::Dropped;
        }
        let labels = Labels::new(labels.into_pairs());
        if labels.as_ref() == series {
            Outcome::Same
        } else if labels.iter().next().is_none() {
            Outcome::Dropped
        } else {
            Outcome::Changed(labels)
        }
    }
}

impl Shard {
    fn insert(&mut self, series: u64, outcome: Outcome) -> usize {
        let place = self.slots.len();
        self.slots.push(Slot { series, seen: true, outcome });
        self.places.insert(series, u32::try_from(place).expect("four billion series do not fit into memory"));
        place
    }

    fn remove(&mut self, place: usize) {
        self.places.remove(&self.slots.swap_remove(place).series);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.series, place as u32);
        }
    }

    /// Makes room for one; false if there is nothing here that could go.
    fn evict(&mut self) -> bool {
        while !self.slots.is_empty() {
            self.hand %= self.slots.len();
            if !std::mem::take(&mut self.slots[self.hand].seen) {
                self.remove(self.hand);
                return true;
            }
            self.hand += 1;
        }
        false
    }

    /// Once in `age`, forgets what was not seen since the last time. Returns how many.
    fn sweep(&mut self, age: Duration, now: Instant) -> usize {
        let swept = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(swept) < age {
            return 0;
        }
        self.swept = Some(now);
        let before = self.slots.len();
        for place in (0..before).rev() {
            if !std::mem::take(&mut self.slots[place].seen) {
                self.remove(place);
            }
        }
        self.slots.shrink_to(self.slots.len() * 2);
        self.places.shrink_to(self.slots.len() * 2);
        before - self.slots.len()
    }
}

/// The key is a good hash already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}
