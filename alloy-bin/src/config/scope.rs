//! Names -> values. A name may be dotted: a component's exports are found under its id,
//! `prometheus.remote_write.default`.

use super::suggest::did_you_mean;
use super::value::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A name has no more parts: a component's is four at most, and a namespace may stand before it.
pub(super) const PARTS_MAX: usize = 8;

/// What expressions see: own names, then those of the enclosing scope.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    parent: Option<Arc<Scope>>,
    values: BTreeMap<String, Value>,
}

impl Scope {
    /// An empty scope inside another.
    pub fn inside(parent: Arc<Scope>) -> Scope {
        Scope { parent: Some(parent), values: BTreeMap::new() }
    }

    /// Sets a name: one word, or a component's dotted id.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.values.insert(name.into(), value);
    }

    /// Forgets a name.
    pub fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// The value with the longest name that begins `path`, and how many parts that name has. Of equally long names the
    /// innermost wins.
    pub fn resolve(&self, path: &[&str]) -> Option<(usize, &Value)> {
        (1..=path.len().min(PARTS_MAX)).rev().find_map(|parts| {
            let name = path[..parts].join(".");
            self.chain().find_map(|scope| scope.values.get(&name)).map(|value| (parts, value))
        })
    }

    /// A hint for a path that was not found.
    pub(super) fn suggest(&self, path: &[&str]) -> Option<String> {
        let names = self.chain().flat_map(|scope| scope.values.keys());
        let parts = |name: &str| name.split('.').count();
        // A path names a component and an export; only its first parts compare to the component's id.
        (1..=path.len().min(PARTS_MAX)).rev().find_map(|length| {
            let same_length = names.clone().filter(|name| parts(name) == length).map(String::as_str);
            did_you_mean(&path[..length].join("."), same_length)
        })
    }

    fn chain(&self) -> impl Iterator<Item = &Scope> + Clone {
        std::iter::successors(Some(self), |scope| scope.parent.as_deref())
    }
}
