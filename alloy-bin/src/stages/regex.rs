//! `stage.regex`: the named groups of a regular expression in Go's syntax -> extracted values.

use bytes::Bytes;

use super::label_sets::LabelSets;
use super::labels::is_label_name;
use super::line::{Line, Value, input, text};
use crate::relabel::go_regex;

/// The stage's arguments.
#[derive(Debug, Clone)]
pub struct Regex {
    regex: ::regex::Regex,
    source: Option<String>,
    labels_from_groups: bool,
}

impl Regex {
    /// Compiles the expression. The error is for people.
    pub fn new(expression: &str, source: Option<String>, labels_from_groups: bool) -> Result<Self, String> {
        if expression.is_empty() {
            return Err("the expression must not be empty".to_owned());
        }
        let regex = go_regex(expression)?;
        if labels_from_groups
            && let Some(name) = regex.capture_names().flatten().find(|name| !is_label_name(name))
        {
            return Err(format!("{name:?} is not a label's name"));
        }
        Ok(Regex { regex, source, labels_from_groups })
    }

    pub(super) fn apply<'p>(&'p self, line: &mut Line<'p>, sets: &mut LabelSets) {
        let Some(input) = input(line, self.source.as_deref()) else { return };
        let whole = text(&input);
        let Some(found) = self.regex.captures(&whole) else { return };
        for (index, name) in self.regex.capture_names().enumerate() {
            let Some(name) = name else { continue };
            let range = found.get(index).map_or(0..0, |group| group.range());
            if self.labels_from_groups {
                line.labels = sets.with(&line.labels, name, &whole[range.clone()]);
            }
            line.extracted.set(name, Value::Text(slice(&input, &whole, range)));
        }
    }
}

/// A part of the text: of the bytes that it was read from, unless those had to be repaired.
pub(super) fn slice(bytes: &Bytes, text: &str, range: std::ops::Range<usize>) -> Bytes {
    if std::ptr::eq(bytes.as_ptr(), text.as_ptr()) {
        bytes.slice(range)
    } else {
        Bytes::copy_from_slice(&text.as_bytes()[range])
    }
}
