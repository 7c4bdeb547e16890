//! `stage.replace`: each group of a regular expression is replaced by what a template makes of it.

use std::borrow::Cow;

use bytes::Bytes;

use super::line::{Line, Value, input, text};
use super::template::Template;
use crate::relabel::go_regex;

/// The stage's arguments.
#[derive(Debug, Clone)]
pub struct Replace {
    regex: regex::Regex,
    source: Option<String>,
    template: Template,
}

impl Replace {
    /// Compiles the expression and the template. The error is for people.
    pub fn new(expression: &str, replace: &str, source: Option<String>) -> Result<Self, String> {
        if expression.is_empty() {
            return Err("the expression must not be empty".to_owned());
        }
        Ok(Replace { regex: go_regex(expression)?, source, template: Template::new(replace)? })
    }

    pub(super) fn reads_extracted(&self) -> bool {
        self.source.is_some() || self.template.reads_extracted()
    }

    pub(super) fn apply<'p>(&'p self, line: &mut Line<'p>) {
        let Some(input) = input(line, self.source.as_deref()) else { return };
        let whole = text(&input);
        let mut found = self.regex.captures_iter(&whole).peekable();
        let Some(first) = found.peek() else { return };
        let names: Vec<(&str, &str)> = self
            .regex
            .capture_names()
            .enumerate()
            .filter_map(|(index, name)| Some((name?, first.get(index).map_or("", |group| group.as_str()))))
            .collect();

        let mut result = String::with_capacity(whole.len());
        let mut done = 0;
        // What each captured text has become; the last one counts.
        let mut captured: Vec<(&str, String)> = Vec::new();
        for groups in found {
            for group in groups.iter().skip(1).flatten() {
                let field = |name: &str| match name {
                    "Value" => Some(Cow::Borrowed(group.as_str())),
                    name => line.extracted.text(name),
                };
                let replaced = self.template.expand(&field);
                // A group inside of another is not replaced again.
                if done == 0 || done <= group.start() {
                    result.push_str(&whole[done..group.start()]);
                    result.push_str(&replaced);
                    done = group.end();
                }
                captured.retain(|(text, _)| *text != group.as_str());
                captured.push((group.as_str(), replaced));
            }
        }
        result.push_str(&whole[done..]);

        let became = |text: &str| captured.iter().find(|(other, _)| *other == text).map(|(_, new)| new);
        let values: Vec<_> = names.iter().filter_map(|(name, text)| Some((*name, became(text)?))).collect();
        match &self.source {
            Some(source) => line.extracted.set(source.as_str(), Value::Text(result.into())),
            None => line.text = Bytes::from(result),
        }
        for (name, value) in values {
            // The name is the expression's, which lives as long as the pipeline.
            let name = self.regex.capture_names().flatten().find(|own| *own == name).unwrap_or_default();
            line.extracted.set(name, Value::copy(value));
        }
    }
}
