//! `stage.logfmt`: `level=info msg="it works" flag` -> extracted values. Reads what `github.com/go-logfmt/logfmt` reads, which
//! gives up at the first thing that is wrong and keeps what it has found before.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::line::{Line, Value, input, text};

/// The stage's arguments.
#[derive(Debug, Clone)]
pub struct Logfmt {
    /// Key in the line -> name of what is extracted.
    names: BTreeMap<String, String>,
    source: Option<String>,
}

impl Logfmt {
    /// `mapping`: what is extracted -> key in the line; an empty key is the name itself. The error is for people.
    pub fn new(mapping: BTreeMap<String, String>, source: Option<String>) -> Result<Self, String> {
        if mapping.is_empty() {
            return Err("at least one mapping is needed".to_owned());
        }
        let inverse = |(name, key): (String, String)| (if key.is_empty() { name.clone() } else { key }, name);
        Ok(Logfmt { names: mapping.into_iter().map(inverse).collect(), source })
    }

    pub(super) fn apply<'p>(&'p self, line: &mut Line<'p>) {
        let Some(input) = input(line, self.source.as_deref()) else { return };
        let whole = text(&input);
        for (key, value) in pairs(&whole) {
            let Some(name) = self.names.get(key) else { continue };
            // Most values are a slice of the line.
            let begin = (value.as_ptr() as usize).wrapping_sub(input.as_ptr() as usize);
            let bytes = match &value {
                Cow::Borrowed(value) if begin + value.len() <= input.len() => {
                    input.slice(begin..begin + value.len())
                }
                value => Bytes::copy_from_slice(value.as_bytes()),
            };
            line.extracted.set(name.as_str(), Value::Text(bytes));
        }
    }
}

/// The pairs of all lines, up to the first thing that is wrong.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let mut records = text.split('\n');
    let mut rest = "";
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(|c: char| c <= ' ');
            if !rest.is_empty() {
                return next_pair(&mut rest);
            }
            rest = records.next()?;
        }
    })
}

/// The first pair of a text that does not begin with a blank. `None`: it is wrong.
fn next_pair<'a>(rest: &mut &'a str) -> Option<(&'a str, Cow<'a, str>)> {
    let text = *rest;
    let end = text.find(|c: char| c <= ' ' || matches!(c, '=' | '"')).unwrap_or(text.len());
    let (key, behind) = text.split_at(end);
    // U+FFFD is what broken UTF-8 has become: such keys are refused.
    if key.is_empty() || key.contains('\u{fffd}') {
        return None;
    }
    let Some(value) = behind.strip_prefix('=') else {
        *rest = behind;
        return (!behind.starts_with('"')).then_some((key, Cow::Borrowed("")));
    };
    if let Some(quoted) = value.strip_prefix('"') {
        let (value, behind) = unquote(quoted)?;
        *rest = behind;
        return Some((key, value));
    }
    let end = value.find(|c: char| c <= ' ' || matches!(c, '=' | '"')).unwrap_or(value.len());
    let (value, behind) = value.split_at(end);
    *rest = behind;
    (!behind.starts_with(['=', '"'])).then_some((key, Cow::Borrowed(value)))
}

/// The text up to the closing quote, and what is behind it.
fn unquote(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = quoted.find(['"', '\\'])?;
    if quoted.as_bytes()[end] == b'"' {
        return Some((Cow::Borrowed(&quoted[..end]), &quoted[end + 1..]));
    }
    let mut at = end;
    loop {
        at += quoted[at..].find(['"', '\\'])?;
        if quoted.as_bytes()[at] == b'"' {
            break;
        }
        at += 1 + quoted[at + 1..].chars().next()?.len_utf8();
    }
    // As in JSON, except that `\'` stands for a quote.
    let mut escaped = String::with_capacity(at + 2);
    escaped.push('"');
    let mut characters = quoted[..at].chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                '\'' => escaped.push('\''),
                other => escaped.extend(['\\', other]),
            },
            other => escaped.push(other),
        }
    }
    escaped.push('"');
    let value = serde_json::from_str::<String>(&escaped).ok()?;
    Some((Cow::Owned(value), &quoted[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_up_to_the_first_thing_that_is_wrong() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let found: Vec<_> = pairs(text).map(|(key, value)| (key, value.into_owned())).collect();
            let expected: Vec<_> = expected.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check("a=1 b=\"two words\" flag c=", &[("a", "1"), ("b", "two words"), ("flag", ""), ("c", "")]);
        check("a=\"x\"b=2", &[("a", "x"), ("b", "2")]);
        check(r#"a="say \"hi\"\n\u00e9" b=1"#, &[("a", "say \"hi\"\né"), ("b", "1")]);
        check("a=1 b=\"open", &[("a", "1")]);
        check("a=1 b=2=3 c=4", &[("a", "1")]);
        check("a=1 =2 c=4", &[("a", "1")]);
        check("a=1\nb=\"x\ny\" c=1", &[("a", "1")]);
        check("a=1\r\nb=2", &[("a", "1"), ("b", "2")]);
        check("a=1 b\"c=1", &[("a", "1")]);
        check("a=\"tab\there\" b=\"\ttab\\n\" c=1", &[("a", "tab\there")]);
        check("é=ü", &[("é", "ü")]);
    }
}
