//! [`ByName`]: one thing for each name. In a cluster of 10,000 every byte of it counts 10,000 times.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};

use crate::NodeName;
use crate::rendezvous::mix;

/// What has a name.
pub(super) trait Named {
    fn name(&self) -> &NodeName;
}

/// At most one of each name. A set, because what is kept knows its name, and a map would keep that again.
pub(super) struct ByName<T> {
    entries: HashSet<Entry<T>, Seeded>,
}

impl<T: Named> ByName<T> {
    pub(super) fn new(seed: u64) -> Self {
        ByName { entries: HashSet::with_hasher(Seeded(seed)) }
    }

    pub(super) fn get(&self, name: &NodeName) -> Option<&T> {
        self.entries.get(name).map(|Entry(one)| one)
    }

    /// Takes the place of what had the name.
    pub(super) fn replace(&mut self, one: T) {
        self.entries.replace(Entry(one));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.entries.retain(|Entry(one)| keep(one));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|Entry(one)| one)
    }
}

struct Entry<T>(T);

impl<T: Named> Borrow<NodeName> for Entry<T> {
    fn borrow(&self) -> &NodeName {
        self.0.name()
    }
}

impl<T: Named> Hash for Entry<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Hash::hash(self.0.name(), state);
    }
}

impl<T: Named> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl<T: Named> Eq for Entry<T> {}

/// Names bring their hash along: it is only mixed with a seed, which no sender of names knows. The same seed gives the same
/// order on every machine, so that a simulation can be repeated.
#[derive(Clone, Copy)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = Seeded;

    fn build_hasher(&self) -> Seeded {
        *self
    }
}

impl Hasher for Seeded {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
