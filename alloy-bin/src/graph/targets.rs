//! Targets as values: what discovery exports, and what those who take it hold. There are tens of thousands, and of them a change
//! touches few.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::{ConversionError, FromValue, Object, Value};
use crate::telemetry::Target;

impl From<&Target> for Value {
    fn from(target: &Target) -> Self {
        Value::Object(Arc::new(fields(target)))
    }
}

fn fields(target: &Target) -> Object {
    target.0.iter().map(|(name, value)| (name, value.as_str().into())).collect()
}

impl FromValue for Target {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        BTreeMap::from_value(value).map(Target)
    }
}

/// A target that is not read before somebody has to: the same value is the same target.
#[derive(Clone)]
pub struct SharedTarget(Arc<Object>);

impl SharedTarget {
    /// Reads it.
    pub fn target(&self) -> Target {
        let value = Value::Object(self.0.clone());
        Target::from_value(&value).expect("it was one when it was made")
    }
}

impl From<Target> for SharedTarget {
    fn from(target: Target) -> Self {
        SharedTarget(Arc::new(fields(&target)))
    }
}

impl FromValue for SharedTarget {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        match value {
            Value::Object(fields)
                if fields.values().all(|value| matches!(value, Value::String(_) | Value::Number(_))) =>
            {
                Ok(SharedTarget(fields.clone()))
            }
            // It says what is wrong.
            other => Err(Target::from_value(other)
                .err()
                .unwrap_or_else(|| ConversionError::expected("object", other))),
        }
    }
}

/// What was made of each target, so that only new ones cost anything.
pub struct MadeOf<T>(HashMap<usize, (SharedTarget, T)>);

impl<T> Default for MadeOf<T> {
    fn default() -> Self {
        MadeOf(HashMap::new())
    }
}

impl<T: Clone> MadeOf<T> {
    /// Makes it of each target, in their order, but for those of which `before` has it. What the targets share is held, so
    /// that no other target can come to lie in its place.
    pub fn new(targets: &[SharedTarget], before: &Self, make: impl Fn(&Target) -> T) -> (Self, Vec<T>) {
        let mut known = HashMap::with_capacity(targets.len());
        let all = targets.iter().map(|target| {
            let place = Arc::as_ptr(&target.0).addr();
            let before = before.0.get(&place).map(|(_, made)| made.clone());
            let made = before.unwrap_or_else(|| make(&target.target()));
            known.insert(place, (target.clone(), made.clone()));
            made
        });
        let all = all.collect();
        (MadeOf(known), all)
    }
}

/// The values of these targets; of those that were there before, the same values, so that others need not look into them.
/// Both are sorted.
pub fn target_values<'a>(targets: impl IntoIterator<Item = &'a Target>, before: &[Value]) -> Vec<Value> {
    let mut before = before.iter().peekable();
    let value = |target: &Target| {
        while before.next_if(|old| order(old, target).is_lt()).is_some() {}
        before.next_if(|old| order(old, target).is_eq()).cloned().unwrap_or_else(|| target.into())
    };
    targets.into_iter().map(value).collect()
}

/// The value of a target beside another target.
fn order(value: &Value, target: &Target) -> Ordering {
    let Value::Object(fields) = value else { return Ordering::Less };
    let pairs = fields.iter().map(|(name, value)| match value {
        Value::String(value) => (name, &**value),
        _ => (name, ""),
    });
    pairs.cmp(target.0.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_stays_is_the_same_value() {
        let target = |address: &str, more: &[&str]| {
            let names = ["__address__", "a", "b"].into_iter().zip(std::iter::once(&address).chain(more));
            Target(names.map(|(name, value)| (name.to_owned(), (*value).to_owned())).collect())
        };
        let mut before =
            vec![target("1", &[]), target("2", &["x"]), target("2", &["x", "y"]), target("4", &[])];
        let mut now = vec![
            target("0", &[]),
            target("2", &["x"]),
            target("2", &["z"]),
            target("4", &[]),
            target("5", &[]),
        ];
        before.sort_unstable();
        now.sort_unstable();
        let before = target_values(&before, &[]);
        let values = target_values(&now, &before);
        assert_eq!(values, now.iter().map(Value::from).collect::<Vec<_>>());
        let is_shared = |value: &&Value| {
            let Value::Object(value) = value else { panic!("targets are objects") };
            before.iter().any(|old| matches!(old, Value::Object(old) if Arc::ptr_eq(old, value)))
        };
        let kept: Vec<&Value> = values.iter().filter(is_shared).collect();
        assert_eq!(kept, [&Value::from(&target("2", &["x"])), &Value::from(&target("4", &[]))]);
    }
}
