//! A regular expression in Go's syntax (RE2), anchored at both ends, run by the crate `regex`.
//!
//! The two understand nearly the same. What Go reads otherwise is rewritten: `\d \w \s \b` are ASCII, `[a&&b]` and
//! `[[a]b]` are plain sets, `{` may stand for itself, and there are `\Q...\E` and octal numbers.
//! Syntax: <https://github.com/google/re2/wiki/Syntax>.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Captures, Regex};

/// What matches everything, and what a rule has if it says nothing.
pub(super) const ANYTHING: &str = "(.*)";

/// A compiled expression. Equal if written alike.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    text: String,
    /// `None`: [`ANYTHING`], which needs no machine.
    regex: Option<Regex>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What a text has matched.
pub(super) enum Match<'t> {
    Anything(&'t str),
    Groups(Captures<'t>),
}

impl<'t> Match<'t> {
    pub(super) fn group(&self, index: usize) -> Option<&'t str> {
        match self {
            Match::Anything(text) => (index <= 1).then_some(text),
            Match::Groups(groups) => Some(groups.get(index)?.as_str()),
        }
    }
}

impl Pattern {
    /// Compiles the expression. The error is for people.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let regex = match text {
            ANYTHING => None,
            text => Some(compile(text, &format!("^(?s:{})$", translate(text)?))?),
        };
        Ok(Pattern { text: text.to_owned(), regex })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(text))
    }

    pub(super) fn find<'t>(&self, text: &'t str) -> Option<Match<'t>> {
        match &self.regex {
            None => Some(Match::Anything(text)),
            Some(regex) => regex.captures(text).map(Match::Groups),
        }
    }

    /// The number of the group with that name.
    pub(super) fn group(&self, name: &str) -> Option<usize> {
        self.regex.as_ref()?.capture_names().position(|other| other == Some(name))
    }
}

/// A regular expression in Go's syntax as it stands, not anchored. The error is for people.
pub fn go_regex(text: &str) -> Result<Regex, String> {
    compile(text, &translate(text)?)
}

fn compile(text: &str, translated: &str) -> Result<Regex, String> {
    Regex::new(translated).map_err(|error| {
        let error = error.to_string();
        // Its first lines show the translated text; the last one says what is wrong.
        format!("{text:?} is not a regular expression: {}", error.lines().last().unwrap_or_default())
    })
}

/// Go's syntax -> the crate's.
fn translate(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut rest, &mut out, Place::Outside)?,
            '[' => class(&mut rest, &mut out)?,
            '{' if is_repetition(rest.clone()) => out.push('{'),
            '{' => out.push_str(r"\{"),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Whether `{` is followed by `2}`, `2,}` or `2,3}`.
fn is_repetition(mut rest: Peekable<Chars<'_>>) -> bool {
    let digits =
        |rest: &mut Peekable<Chars<'_>>| std::iter::from_fn(|| rest.next_if(char::is_ascii_digit)).count();
    if digits(&mut rest) == 0 {
        return false;
    }
    if rest.next_if_eq(&',').is_some() {
        digits(&mut rest);
    }
    rest.next() == Some('}')
}

/// Where an escape stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Outside,
    InClass,
}

fn literal(c: char, out: &mut String) {
    // All that could have a meaning, inside a class or outside; the number is always plain.
    if c.is_alphanumeric() || c == '_' || !c.is_ascii() {
        out.push(c)
    } else {
        out.push_str(&format!("\\x{:02X}", c as u32))
    }
}

fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String, place: Place) -> Result<(), String> {
    let Some(c) = rest.next() else { return Err("the regular expression ends with a backslash".to_owned()) };
    let bare = place == Place::InClass;
    match c {
        'd' => out.push_str(if bare { "0-9" } else { "[0-9]" }),
        'w' => out.push_str(if bare { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
        's' => out.push_str(if bare { r"\t\n\f\r\x20" } else { r"[\t\n\f\r\x20]" }),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str(r"[^\t\n\f\r\x20]"),
        'b' if !bare => out.push_str(r"(?-u:\b)"),
        'B' => return Err(r"\B is not supported in a regular expression here".to_owned()),
        'Q' if !bare => {
            while let Some(c) = rest.next() {
                if c == '\\' && rest.next_if_eq(&'E').is_some() {
                    break;
                }
                literal(c, out);
            }
        }
        '0'..='7' => {
            let more = |limit| {
                move |rest: &mut Peekable<Chars<'_>>| {
                    let next = std::iter::from_fn(|| rest.next_if(|c| matches!(c, '0'..='7'))).take(limit);
                    next.collect::<String>()
                }
            };
            let digits = format!("{c}{}", more(2)(rest));
            if c != '0' && digits.len() == 1 {
                return Err(format!(
                    "the regular expression refers back to a group by \\{c}, which cannot be done"
                ));
            }
            // Three octal digits at the most, so that it always is a number and a character.
            let code = u32::from_str_radix(&digits, 8).unwrap_or_default();
            out.push_str(&format!("\\x{{{code:X}}}"));
        }
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => literal(c, out),
        c => {
            out.extend(['\\', c]);
            // `\p{Greek}` and `\x{41}`: these braces are no repetition.
            if matches!(c, 'p' | 'P' | 'x') && rest.peek() == Some(&'{') {
                for next in rest.by_ref() {
                    out.push(next);
                    if next == '}' {
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

/// A set of characters, up to its `]`.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut is_first = true;
    loop {
        let Some(c) = rest.next() else { return Err("a [ of the regular expression has no ]".to_owned()) };
        match c {
            ']' if !is_first => break,
            '[' if rest.peek() == Some(&':') => {
                let mut name = String::from("[");
                // Up to its end, and over it; without one it is an error of the set as a whole.
                for c in rest.by_ref() {
                    name.push(c);
                    if name.len() > 2 && name.ends_with(":]") {
                        break;
                    }
                }
                out.push_str(&name);
            }
            '\\' => escape(rest, out, Place::InClass)?,
            c => literal(c, out),
        }
        is_first = false;
        // Between two characters it is a range; anywhere else it stands for itself.
        let mut ahead = rest.clone();
        if ahead.next() == Some('-') && ahead.next().is_some_and(|end| end != ']') {
            rest.next();
            out.push('-');
        }
    }
    out.push(']');
    Ok(())
}
