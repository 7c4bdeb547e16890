//! An object's fields: a sorted slice, and each name once in memory. A cluster's targets are fifty thousand objects with the same
//! ten names, and are held by all that pass them on.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::value::Value;

/// An object's fields, ordered by name. Made once: what changes it makes a new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Box<[(Arc<str>, Value)]>);

impl Object {
    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let place = self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(&self.0[place].1)
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// The names, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// The values, by name.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.iter().map(|(_, value)| value)
    }

    /// With these fields, too, or instead of those of the same names.
    #[must_use]
    pub fn with(&self, fields: impl IntoIterator<Item = (Arc<str>, Value)>) -> Object {
        self.0.iter().cloned().chain(fields).collect()
    }
}

impl IntoIterator for Object {
    type Item = (Arc<str>, Value);
    type IntoIter = std::vec::IntoIter<(Arc<str>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

/// Of several fields with one name the last counts.
impl<N: AsRef<str>> FromIterator<(N, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(fields: I) -> Self {
        // Before the names are locked: the values may be objects that are made now.
        let fields: Vec<_> = fields.into_iter().collect();
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let fields = fields.into_iter().map(|(name, value)| (names.shared(name.as_ref()), value));
        let mut fields: Vec<_> = fields.collect();
        drop(names);
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        // It keeps the first of each, which is made the last.
        fields.dedup_by(|later, first| {
            let is_same = later.0 == first.0;
            if is_same {
                std::mem::swap(&mut later.1, &mut first.1);
            }
            is_same
        });
        Object(fields.into_boxed_slice())
    }
}

/// The names of all objects that there are.
static NAMES: LazyLock<Mutex<Names>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Names {
    all: HashSet<Arc<str>>,
    /// How many there were when those that nobody has any more were last looked for.
    kept: usize,
}

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.all.get(name) {
            return shared.clone();
        }
        if self.all.len() > 2 * self.kept + 1024 {
            self.all.retain(|name| Arc::strong_count(name) > 1);
            self.kept = self.all.len();
        }
        let shared: Arc<str> = name.into();
        self.all.insert(shared.clone());
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_sorted_and_the_last_of_a_name_counts() {
        let object: Object = [("b", "1"), ("a", "2"), ("b", "3")]
            .map(|(name, value)| (name, value.into()))
            .into_iter()
            .collect();
        let fields: Vec<_> = object.iter().collect();
        assert_eq!(fields, [("a", &Value::from("2")), ("b", &Value::from("3"))]);
        assert_eq!((object.get("b"), object.get("c"), object.len()), (Some(&Value::from("3")), None, 2));
        let with = object.with([("0".into(), Value::Null), ("a".into(), Value::Null)]);
        let names: Vec<_> = with.keys().collect();
        assert_eq!((names, with.get("a")), (vec!["0", "a", "b"], Some(&Value::Null)));
        let nested = ["a"].into_iter().map(|name| (name, Value::object([("b", Value::Null)])));
        assert_eq!(nested.collect::<Object>().len(), 1);
    }

    #[test]
    fn names_are_shared_and_forgotten_with_the_last_object_that_has_them() {
        let mut names = Names::default();
        let kept = names.shared("kept");
        (0..10_000).for_each(|number| drop(names.shared(&number.to_string())));
        assert!(names.all.len() < 2000, "{} names", names.all.len());
        assert!(Arc::ptr_eq(&kept, &names.shared("kept")));
    }
}
