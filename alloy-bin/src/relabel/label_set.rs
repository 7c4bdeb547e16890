//! Labels while rules work on them.

use std::borrow::Cow;

/// Names with values that are not empty: an empty value means no label.
///
/// Rules that look at all labels see them in Prometheus' order, which decides who wins when two are mapped to one name:
/// those that nobody has touched by name, then those that were set, in the order in which they first were.
#[derive(Debug, Clone, Default)]
pub struct LabelSet<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    untouched: usize,
}

impl<'a> LabelSet<'a> {
    /// These labels; no name twice.
    pub fn new(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let present = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        let mut pairs: Vec<_> = present.map(|(name, value)| (name.into(), value.into())).collect();
        pairs.sort_unstable();
        LabelSet { untouched: pairs.len(), pairs }
    }

    /// The value, or an empty text.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |index| &self.pairs[index].1)
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (name.into(), value.into());
        match self.find(&name) {
            Some(index) if index >= self.untouched && !value.is_empty() => self.pairs[index].1 = value,
            found => {
                if let Some(index) = found {
                    self.take(index);
                }
                if !value.is_empty() {
                    self.pairs.push((name, value));
                }
            }
        }
    }

    /// Keeps the labels whose name is wanted.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        for index in (0..self.pairs.len()).rev() {
            if !wanted(&self.pairs[index].0) {
                self.take(index);
            }
        }
    }

    /// The labels in Prometheus' order.
    pub(super) fn pairs(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.pairs
    }

    /// The values of these labels with the separator between them. One value costs no copy.
    pub(super) fn join(&self, names: &[String], separator: &str) -> Cow<'a, str> {
        match names {
            [] => Cow::Borrowed(""),
            [name] => self.find(name).map_or(Cow::Borrowed(""), |index| self.pairs[index].1.clone()),
            names => {
                let values: Vec<&str> = names.iter().map(|name| self.get(name)).collect();
                Cow::Owned(values.join(separator))
            }
        }
    }

    /// The labels, sorted by name.
    pub fn into_pairs(mut self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        self.pairs.sort_unstable();
        self.pairs
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.pairs.iter().position(|(other, _)| other == name)
    }

    fn take(&mut self, index: usize) {
        self.untouched -= usize::from(index < self.untouched);
        self.pairs.remove(index);
    }
}
