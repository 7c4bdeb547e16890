//! A label set as one packed, sorted allocation, pair after pair:
//!
//! ```text
//! 0x0a, varint length of the pair, 0x0a, varint length, name, 0x12, varint length, value
//! ```
//!
//! It costs three or four bytes more than the lengths alone. For that, a set is what most receivers of metrics want to read
//! (the labels of a protobuf series), and whoever encodes for them copies it: a label is put into bytes once on its way.

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

    /// Where the set is: the same for clones, and for no other set that lives.
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
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

    /// The whole set in packed form.
    pub fn packed(self) -> &'a [u8] {
        self.0
    }

    /// The pairs in packed form, each with its name before it, sorted by that.
    pub fn packed_pairs(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let pair = rest;
            let (name, _) = take_pair(&mut rest)?;
            Some((name, &pair[..pair.len() - rest.len()]))
        })
    }

    /// The pairs, sorted by name.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        let text = |bytes| std::str::from_utf8(bytes).expect("only str is packed");
        std::iter::from_fn(move || take_pair(&mut rest).map(|(name, value)| (text(name), text(value))))
    }

    /// The same as bytes: encoders that only copy them need not look at each character again.
    pub fn iter_bytes(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || take_pair(&mut rest))
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

/// A label's name, ready for many values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelName(Box<[u8]>);

impl LabelName {
    /// Prepares the name.
    pub fn new(name: &str) -> Self {
        let mut packed = vec![NAME];
        push_length(&mut packed, name.len());
        packed.extend_from_slice(name.as_bytes());
        LabelName(packed.into())
    }

    /// Appends a pair in packed form.
    pub(super) fn push_pair(&self, packed: &mut Vec<u8>, value: &str) {
        packed.push(PAIR);
        push_length(packed, self.0.len() + 1 + length_len(value.len()) + value.len());
        packed.extend_from_slice(&self.0);
        packed.push(VALUE);
        push_length(packed, value.len());
        packed.extend_from_slice(value.as_bytes());
    }
}

/// What a pair, its name and its value begin with: a protobuf's tags of the fields 1, 1 and 2.
const PAIR: u8 = 0x0a;
const NAME: u8 = 0x0a;
const VALUE: u8 = 0x12;

/// Appends a pair in packed form.
pub(super) fn push_pair(packed: &mut Vec<u8>, name: &str, value: &str) {
    let of = |text: &str| 1 + length_len(text.len()) + text.len();
    packed.push(PAIR);
    push_length(packed, of(name) + of(value));
    for (tag, text) in [(NAME, name), (VALUE, value)] {
        packed.push(tag);
        push_length(packed, text.len());
        packed.extend_from_slice(text.as_bytes());
    }
}

/// How many bytes [`push_length`] writes.
fn length_len(length: usize) -> usize {
    (usize::BITS - (length | 1).leading_zeros()).div_ceil(7) as usize
}

fn push_length(packed: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        packed.push(length as u8 | 0x80);
        length >>= 7;
    }
    packed.push(length as u8);
}

/// Takes a pair's name and value. Only what this file has packed is ever read.
fn take_pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    if rest.is_empty() {
        return None;
    }
    take_length(rest);
    Some((take_bytes(rest), take_bytes(rest)))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let length = take_length(rest);
    let (bytes, tail) = rest.split_at(length);
    *rest = tail;
    bytes
}

/// Takes a tag and the length behind it.
fn take_length(rest: &mut &[u8]) -> usize {
    let mut length = 0;
    for (index, byte) in rest[1..].iter().enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 2..];
            return length;
        }
    }
    unreachable!("a length ends")
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

    #[test]
    fn a_prepared_name_gives_the_same_bytes() {
        for length in [0, 1, 100, 127, 128, 16_000, 17_000] {
            let (name, value) = ("n".repeat(length.max(1)), "v".repeat(length));
            let (mut at_once, mut prepared) = (Vec::new(), Vec::new());
            push_pair(&mut at_once, &name, &value);
            LabelName::new(&name).push_pair(&mut prepared, &value);
            assert!(at_once == prepared, "{length}");
            let set = LabelsRef::from_packed(&at_once);
            assert_eq!(set.iter().collect::<Vec<_>>(), [(name.as_str(), value.as_str())]);
            assert_eq!(set.packed_pairs().collect::<Vec<_>>(), [(name.as_bytes(), at_once.as_slice())]);
        }
    }
}
