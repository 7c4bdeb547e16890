//! A label set as one packed, sorted allocation: `varint length, name, varint length, value`, pair after pair.

use std::fmt;
use std::sync::Arc;

/// An owned label set: sorted by name, no name twice, no empty value. Cheap to clone, hash and compare.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[u8]>);

impl Labels {
    /// Packs the pairs, in any order. Of one name the last value counts; an empty value means no label.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut owned: Vec<(N, V)> = pairs.into_iter().collect();
        owned.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let mut packed = Vec::new();
        for (index, (name, value)) in owned.iter().enumerate() {
            let repeated = owned.get(index + 1).is_some_and(|next| next.0.as_ref() == name.as_ref());
            if !repeated && !value.as_ref().is_empty() {
                push_pair(&mut packed, name.as_ref(), value.as_ref());
            }
        }
        Labels(packed.into())
    }

    /// Borrows the set.
    pub fn as_ref(&self) -> LabelsRef<'_> {
        LabelsRef(&self.0)
    }

    /// The pairs, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.as_ref().iter()
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.as_ref().get(name)
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), formatter)
    }
}

/// A borrowed label set in packed form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LabelsRef<'a>(&'a [u8]);

impl<'a> LabelsRef<'a> {
    /// A set that was packed by [`push_pair`] in the order of names.
    pub(super) fn from_packed(packed: &'a [u8]) -> Self {
        LabelsRef(packed)
    }

    pub(super) fn packed(self) -> &'a [u8] {
        self.0
    }

    /// The pairs, sorted by name.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            Some((take_text(&mut rest), take_text(&mut rest)))
        })
    }

    /// The same as bytes: encoders that only copy them need not look at each character again.
    pub fn iter_bytes(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            Some((take_bytes(&mut rest), take_bytes(&mut rest)))
        })
    }

    /// The value of that name.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// A hash of the whole set, the same on every machine.
    pub fn fingerprint(self) -> u64 {
        twox_hash::XxHash3_64::oneshot(self.0)
    }

    /// An owned copy.
    pub fn to_owned(self) -> Labels {
        Labels(self.0.into())
    }
}

/// As Prometheus prints it: `{a="1", b="2"}`.
impl fmt::Display for LabelsRef<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{")?;
        for (index, (name, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(formatter, "{comma}{name}={value:?}")?;
        }
        formatter.write_str("}")
    }
}

impl fmt::Debug for LabelsRef<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Appends a pair in packed form.
pub(super) fn push_pair(packed: &mut Vec<u8>, name: &str, value: &str) {
    for text in [name, value] {
        let mut length = text.len();
        while length >= 0x80 {
            packed.push(length as u8 | 0x80);
            length >>= 7;
        }
        packed.push(length as u8);
        packed.extend_from_slice(text.as_bytes());
    }
}

fn take_text<'a>(rest: &mut &'a [u8]) -> &'a str {
    std::str::from_utf8(take_bytes(rest)).expect("push_pair packs str only")
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let mut length = 0;
    for shift in (0..).step_by(7) {
        let (byte, tail) = rest.split_first().expect("only push_pair writes packed labels");
        *rest = tail;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (text, tail) = rest.split_at(length);
    *rest = tail;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_without_doubles_and_without_empty_values() {
        let long = "v".repeat(300);
        let labels = Labels::new([("b", "1"), ("a", long.as_str()), ("c", ""), ("b", "2")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", long.as_str()), ("b", "2")]);
        assert_eq!(labels.get("b"), Some("2"));
        assert_eq!(labels.get("c"), None);
    }
}
