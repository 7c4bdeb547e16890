//! A line on its way through the stages.

use std::borrow::Cow;

use bytes::Bytes;

use crate::telemetry::Labels;

/// The line as it is now.
#[derive(Debug, Clone)]
pub(super) struct Line<'p> {
    pub(super) timestamp_ns: i64,
    /// UTF-8.
    pub(super) text: Bytes,
    pub(super) labels: Labels,
    pub(super) metadata: Option<Labels>,
    pub(super) extracted: Extracted<'p>,
    /// The first of the batch's entries that it is made of, counted over all streams.
    pub(super) from: usize,
    /// And the last.
    pub(super) to: usize,
}

/// What stages have found, by name. The labels that the line came with count as found, too.
#[derive(Debug, Clone)]
pub(super) struct Extracted<'p> {
    pairs: Vec<(Cow<'p, str>, Value)>,
    initial: Labels,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// UTF-8; mostly a slice of the line.
    Text(Bytes),
    Number(f64),
    Bool(bool),
    Null,
}

/// Something that was found, or a label.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    Value(&'a Value),
    Label(&'a str),
}

impl<'p> Extracted<'p> {
    pub(super) fn new(initial: Labels) -> Self {
        Extracted { pairs: Vec::new(), initial }
    }

    pub(super) fn get(&self, name: &str) -> Option<Found<'_>> {
        let own = self.pairs.iter().find(|(other, _)| other == name);
        own.map(|(_, value)| Found::Value(value)).or_else(|| self.initial.get(name).map(Found::Label))
    }

    /// The text of what was found. `None`: nothing was, or it has none.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name)?.text()
    }

    pub(super) fn set(&mut self, name: impl Into<Cow<'p, str>>, value: Value) {
        let name = name.into();
        match self.pairs.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((name, value)),
        }
    }

    /// The labels as they are now count as found: a pipeline inside a pipeline begins.
    pub(super) fn see(&mut self, labels: &Labels) {
        for (name, value) in labels.iter() {
            if self.text(name).as_deref() != Some(value) {
                self.set(name.to_owned(), Value::copy(value));
            }
        }
    }
}

impl Value {
    pub(super) fn copy(text: &str) -> Self {
        Value::Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl<'a> Found<'a> {
    /// As Go's `strconv` writes it. `None`: null has no text.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        Some(match self {
            Found::Label(text) => Cow::Borrowed(text),
            Found::Value(Value::Text(text)) => String::from_utf8_lossy(text),
            Found::Value(Value::Number(number)) => Cow::Owned(number.to_string()),
            Found::Value(Value::Bool(true)) => Cow::Borrowed("true"),
            Found::Value(Value::Bool(false)) => Cow::Borrowed("false"),
            Found::Value(Value::Null) => return None,
        })
    }

    /// The text, without a copy where there is one already.
    pub(super) fn bytes(self) -> Option<Bytes> {
        match self {
            Found::Value(Value::Text(text)) => Some(text.clone()),
            other => other.text().map(|text| Bytes::copy_from_slice(text.as_bytes())),
        }
    }
}

/// What a stage that reads text reads: something extracted, or the line itself.
pub(super) fn input(line: &Line<'_>, source: Option<&str>) -> Option<Bytes> {
    match source {
        None => Some(line.text.clone()),
        Some(name) => line.extracted.get(name)?.bytes(),
    }
}

/// The text of bytes that are UTF-8; whoever makes lines sees to that. Broken bytes are replaced, not trusted.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
