//! The stages that set labels and what is said of a line: `labels`, `static_labels`, `label_drop`, `label_keep`,
//! `structured_metadata`, `tenant`.

use std::collections::BTreeMap;

use super::label_sets::LabelSets;
use super::line::Line;
use crate::telemetry::Labels;

/// Which label gets which value.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping(Vec<(String, String)>);

/// Where a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelSource {
    /// Among the extracted values.
    #[default]
    Extracted,
    /// In the line's structured metadata.
    StructuredMetadata,
}

impl Mapping {
    /// Label -> name of the value; an empty one is the label's own. The error is for people.
    pub fn new(values: BTreeMap<String, Option<String>>) -> Result<Self, String> {
        let mut pairs = Vec::new();
        for (label, source) in values {
            if !is_label_name(&label) {
                return Err(format!("invalid label name: {label:?}"));
            }
            let source = source.filter(|source| !source.is_empty()).unwrap_or_else(|| label.clone());
            pairs.push((label, source));
        }
        Ok(Mapping(pairs))
    }

    pub(super) fn set_labels(&self, line: &mut Line<'_>, from: LabelSource, sets: &mut LabelSets) {
        for (label, source) in &self.0 {
            let value = match from {
                LabelSource::Extracted => line.extracted.text(source),
                LabelSource::StructuredMetadata => {
                    line.metadata.as_ref().and_then(|metadata| metadata.get(source)).map(Into::into)
                }
            };
            if let Some(value) = value {
                line.labels = sets.with(&line.labels, label, &value);
            }
        }
    }

    /// Labels that are moved are no longer labels.
    pub(super) fn set_metadata(&self, line: &mut Line<'_>, sets: &mut LabelSets) {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, source) in &self.0 {
            let value = line.extracted.text(source).filter(|value| !value.is_empty());
            found.extend(value.map(|value| (name.clone(), value.into_owned())));
        }
        let moved = self.0.iter().filter_map(|(name, source)| Some((name, line.labels.get(source)?)));
        found.extend(moved.map(|(name, value)| (name.clone(), value.to_owned())));
        if found.is_empty() {
            return;
        }
        let before = line.metadata.iter().flat_map(Labels::iter);
        let all = before.map(|(name, value)| (name.to_owned(), value.to_owned())).chain(found);
        line.metadata = Some(Labels::new(all));
        let is_moved = |label: &str| self.0.iter().any(|(_, source)| source == label);
        line.labels = sets.retain(&line.labels, |label| !is_moved(label));
    }
}

/// In the classic sense: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub(super) fn is_label_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_word) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}
