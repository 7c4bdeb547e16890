//! `stage.drop`: lines that meet all of its conditions go no further.

use std::time::Duration;

use super::line::{Line, text};
use crate::relabel::go_regex;

/// The stage's arguments.
#[derive(Debug, Clone, Default)]
pub struct Drop {
    sources: Vec<String>,
    separator: String,
    regex: Option<::regex::Regex>,
    older_than: Option<Duration>,
    longer_than: Option<usize>,
}

impl Drop {
    /// `source`: names with commas between them. The error is for people.
    pub fn new(
        source: &str,
        separator: &str,
        (expression, value): (&str, &str),
        older_than: Option<Duration>,
        longer_than: Option<usize>,
    ) -> Result<Self, String> {
        if source.is_empty() && expression.is_empty() && older_than.is_none() && longer_than.is_none() {
            return Err(
                "at least one of source, expression, older_than and longer_than must be set".to_owned()
            );
        }
        if !value.is_empty() && source.is_empty() {
            return Err("value needs a source".to_owned());
        }
        if !value.is_empty() && !expression.is_empty() {
            return Err("only one of value and expression may be set".to_owned());
        }
        let regex = match (expression, value) {
            ("", "") => None,
            ("", value) => Some(go_regex(&format!("^{}$", ::regex::escape(value)))?),
            (expression, _) => Some(go_regex(expression)?),
        };
        let sources = source.split(',').map(|name| name.trim().to_owned());
        Ok(Drop {
            sources: if source.is_empty() { Vec::new() } else { sources.collect() },
            separator: separator.to_owned(),
            regex,
            older_than,
            longer_than,
        })
    }

    pub(super) fn drops(&self, line: &Line<'_>, now_ns: i64) -> bool {
        if self.longer_than.is_some_and(|max| line.text.len() <= max) {
            return false;
        }
        let is_young = |age: Duration| {
            let age_ns = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            line.timestamp_ns >= now_ns.saturating_sub(age_ns)
        };
        if self.older_than.is_some_and(is_young) {
            return false;
        }
        match (&self.regex, self.sources.is_empty()) {
            (None, _) => self.sources.iter().all(|name| line.extracted.get(name).is_some()),
            (Some(regex), true) => regex.is_match(&text(&line.text)),
            (Some(regex), false) => {
                let found = self.sources.iter().filter_map(|name| line.extracted.get(name));
                let texts: Option<Vec<_>> = found.map(|found| found.text()).collect();
                texts.is_some_and(|texts| regex.is_match(&texts.join(&self.separator)))
            }
        }
    }

    pub(super) fn reads_extracted(&self) -> bool {
        !self.sources.is_empty()
    }
}
