//! A `rule` block.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use md5::{Digest, Md5};
use regex::Regex;

use super::label_set::LabelSet;
use super::pattern::{ANYTHING, Pattern};
use super::template::Template;
use crate::config::{Body, Capsule, CapsuleType, ConversionError, Decode, FromValue, Value};

/// Rules in their order. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules(Arc<Vec<Rule>>);

/// What `rules` exports.
impl CapsuleType for Rules {
    const NAME: &'static str = "RelabelRules";
}

impl Rules {
    /// What stands for exported rules in a configuration that is only checked.
    pub fn placeholder() -> Value {
        Capsule::new(Arc::new(Rules::default())).into()
    }

    /// Reads all blocks of that name.
    pub fn read(body: &mut Body<'_>, block: &str) -> Self {
        Rules(Arc::new(body.blocks(block)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rewrites the labels. False: they are dropped.
    pub fn apply<'a>(&'a self, labels: &mut LabelSet<'a>) -> bool {
        self.0.iter().all(|rule| rule.apply(labels))
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    action: Action,
    source_labels: Vec<String>,
    separator: String,
    pattern: Pattern,
    modulus: u64,
    target: Template,
    replacement: Template,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl FromValue for Action {
    /// In any case, as Prometheus reads them.
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(&Value::from(String::from_value(value)?.to_lowercase()), &ACTIONS)
    }
}

impl Action {
    fn name(self) -> &'static str {
        ACTIONS.iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }
}

const SEPARATOR: &str = ";";
const REPLACEMENT: &str = "$1";

impl Decode for Rule {
    fn decode(body: &mut Body<'_>) -> Self {
        let action = body.optional("action", Action::Replace);
        let regex = body.optional("regex", ANYTHING.to_owned());
        let target: String = body.optional("target_label", String::new());
        let replacement: String = body.optional("replacement", REPLACEMENT.to_owned());
        let pattern = Pattern::new(&regex).unwrap_or_else(|reason| {
            body.error_at("regex", reason);
            Pattern::new(ANYTHING).expect("it is not even compiled")
        });
        let template = |text: &str| Template::new(text, |name| pattern.group(name));
        let rule = Rule {
            action,
            source_labels: body.optional("source_labels", Vec::new()),
            separator: body.optional("separator", SEPARATOR.to_owned()),
            modulus: body.optional("modulus", 0),
            target: template(&target),
            replacement: template(&replacement),
            pattern,
        };
        if let Some((attribute, problem)) = rule.problem() {
            body.error_at(attribute, problem);
        }
        rule
    }
}

impl Rule {
    /// What Prometheus would not take (`relabel.Config.Validate`), and the attribute that it is about.
    fn problem(&self) -> Option<(&'static str, String)> {
        use Action::*;
        let (action, name) = (self.action, self.action.name());
        let (target, replacement) = (self.target.text(), self.replacement.text());
        let has_pattern = self.pattern.text() != ANYTHING;
        let has_others = self.modulus != 0 || self.separator != SEPARATOR || replacement != REPLACEMENT;
        if action == HashMod && self.modulus == 0 {
            return Some((
                "modulus",
                "relabel configuration for hashmod requires non-zero modulus".to_owned(),
            ));
        }
        let needs_target =
            matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if needs_target && target.is_empty() {
            let problem = format!("relabel configuration for {name} action requires 'target_label' value");
            return Some(("target_label", problem));
        }
        let may_have_groups = action == Replace && target.contains('$');
        if needs_target && !(is_label_name(target) || may_have_groups && is_label_template(target)) {
            return Some(("target_label", format!("{target:?} is invalid 'target_label' for {name} action")));
        }
        if matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual) && replacement != REPLACEMENT {
            return Some(("replacement", format!("'replacement' can not be set for {name} action")));
        }
        if action == LabelMap && !is_label_template(replacement) {
            return Some((
                "replacement",
                format!("{replacement:?} is invalid 'replacement' for {name} action"),
            ));
        }
        if matches!(action, KeepEqual | DropEqual) && (has_pattern || has_others) {
            let problem = format!(
                "{name} action requires only 'source_labels' and `target_label`, and no other fields"
            );
            return Some(("action", problem));
        }
        let has_labels = !self.source_labels.is_empty() || !target.is_empty();
        if matches!(action, LabelDrop | LabelKeep) && (has_labels || has_others) {
            return Some(("action", format!("{name} action requires only 'regex', and no other fields")));
        }
        None
    }

    fn apply<'a>(&'a self, labels: &mut LabelSet<'a>) -> bool {
        let text = labels.join(&self.source_labels, &self.separator);
        match self.action {
            Action::Keep => return self.pattern.is_match(&text),
            Action::Drop => return !self.pattern.is_match(&text),
            Action::KeepEqual => return labels.get(self.target.text()) == text,
            Action::DropEqual => return labels.get(self.target.text()) != text,
            Action::Replace => self.replace(labels, &text),
            Action::Lowercase => labels.set(self.target.text(), map_chars(&text, lowercase)),
            Action::Uppercase => labels.set(self.target.text(), map_chars(&text, uppercase)),
            Action::HashMod => labels.set(self.target.text(), (hash(&text) % self.modulus).to_string()),
            Action::LabelMap => self.map(labels),
            Action::LabelDrop => labels.retain(|name| !self.pattern.is_match(name)),
            Action::LabelKeep => labels.retain(|name| self.pattern.is_match(name)),
        }
        true
    }

    fn replace<'a>(&'a self, labels: &mut LabelSet<'a>, text: &str) {
        if let (Some(target), Some(replacement)) = (self.target.fixed(), self.replacement.fixed()) {
            if self.pattern.is_match(text) && is_label_name(target) {
                labels.set(target, replacement);
            }
            return;
        }
        let Some(found) = self.pattern.find(text) else { return };
        let expand = |template: &'a Template| match template.fixed() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(template.expand(|group| found.group(group))),
        };
        let target = expand(&self.target);
        if is_label_name(&target) {
            let replacement = expand(&self.replacement);
            labels.set(target, replacement);
        }
    }

    fn map(&self, labels: &mut LabelSet<'_>) {
        let mapped = labels.pairs().iter().filter_map(|(name, value)| {
            let found = self.pattern.find(name)?;
            Some((self.replacement.expand(|group| found.group(group)), value.clone()))
        });
        let mapped: Vec<_> = mapped.collect();
        for (name, value) in mapped {
            labels.set(name, value);
        }
    }
}

/// The last eight bytes of the MD5, as Prometheus takes them.
fn hash(text: &str) -> u64 {
    let digest: [u8; 16] = Md5::digest(text).into();
    u64::from_be_bytes(digest[8..].try_into().expect("eight of sixteen bytes"))
}

fn map_chars(text: &str, map: impl Fn(char) -> char) -> String {
    text.chars().map(map).collect()
}

/// Go maps one character to one: where Unicode has several, Go has another one or none at all.
fn lowercase(c: char) -> char {
    if c == 'İ' { 'i' } else { single(c, c.to_lowercase()) }
}

fn uppercase(c: char) -> char {
    single(c, c.to_uppercase())
}

fn single(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

/// In the classic sense: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn is_label_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_word) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// A label's name with groups in it, as Prometheus checks it.
fn is_label_template(text: &str) -> bool {
    static TEMPLATE: LazyLock<Regex> = LazyLock::new(|| {
        let word = "[0-9A-Za-z_]";
        let template = format!(r"^(?:(?:[a-zA-Z_]|\$(?:\{{{word}+\}}|{word}+))+{word}*)+$");
        Regex::new(&template).expect("the expression is a constant")
    });
    TEMPLATE.is_match(text)
}
