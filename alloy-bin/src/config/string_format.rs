//! `string.format`: the verbs of Go's `fmt` that configurations use.

use super::stdlib::argument;
use super::value::{FunctionError, Number, Value};

/// `string.format("%s-%03d", name, number)`: `%v %s %q %d %x %X %f %e %t %%` with flags, width and precision.
pub(super) fn format(values: &[Value]) -> Result<Value, FunctionError> {
    let Some((template, values)) = values.split_first() else {
        return Err(FunctionError::call("expected a format, got nothing"));
    };
    let template: String = argument(template, 0)?;
    let mut out = String::new();
    let mut used = 0;
    let mut rest = template.as_str();
    while let Some((plain, after)) = rest.split_once('%') {
        out += plain;
        let (verb, after) =
            Verb::split(after).ok_or_else(|| FunctionError::at(0, "the format ends inside a verb"))?;
        rest = after;
        if verb.letter == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.get(used) else {
            return Err(FunctionError::at(
                0,
                format!("the format needs more than the {} values given", values.len()),
            ));
        };
        used += 1;
        out += &verb.pad(verb.print(value, used)?);
    }
    if used < values.len() {
        return Err(FunctionError::at(used + 1, format!("the format uses {used} values only")));
    }
    out += rest;
    Ok(out.into())
}

/// What stands between `%` and its letter, and the letter.
struct Verb<'a> {
    flags: &'a str,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

/// More is not a layout but a slip, and would cost that much memory.
const WIDTH_MAX: usize = 1000;

impl<'a> Verb<'a> {
    fn split(text: &'a str) -> Option<(Verb<'a>, &'a str)> {
        let (flags, rest) = split_while(text, |c| "-+0 #".contains(c));
        let (width, rest) = split_while(rest, |c| c.is_ascii_digit());
        let (precision, rest) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (digits, rest) = split_while(rest, |c| c.is_ascii_digit());
                (Some(bounded(digits)), rest)
            }
            None => (None, rest),
        };
        let letter = rest.chars().next()?;
        let verb = Verb { flags, width: bounded(width), precision, letter };
        Some((verb, &rest[letter.len_utf8()..]))
    }

    fn print(&self, value: &Value, index: usize) -> Result<String, FunctionError> {
        let number = || argument::<Number>(value, index);
        let whole = || argument::<i64>(value, index);
        let text = match (self.letter, value) {
            ('v', Value::Bool(value)) => value.to_string(),
            ('t', _) => argument::<bool>(value, index)?.to_string(),
            ('s' | 'v', _) => {
                let text: String = argument(value, index)?;
                text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
            }
            ('q', _) => format!("{:?}", argument::<String>(value, index)?),
            ('d', _) => whole()?.to_string(),
            ('x', _) => format!("{:x}", whole()?),
            ('X', _) => format!("{:X}", whole()?),
            ('f', _) => format!("{:.*}", self.precision.unwrap_or(6), number()?.as_float()),
            ('e', _) => format!("{:.*e}", self.precision.unwrap_or(6), number()?.as_float()),
            (letter, _) => {
                return Err(FunctionError::at(0, format!("the format's verb %{letter} is unknown")));
            }
        };
        let is_signed = matches!(self.letter, 'd' | 'f' | 'e') && !text.starts_with('-');
        Ok(if is_signed && self.flags.contains('+') { format!("+{text}") } else { text })
    }

    fn pad(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.flags.contains('-') {
            return text + &" ".repeat(missing);
        }
        if !self.flags.contains('0') || matches!(self.letter, 's' | 'v' | 'q' | 't') {
            return " ".repeat(missing) + &text;
        }
        let (sign, digits) = split_while(&text, |c| c == '-' || c == '+');
        format!("{sign}{}{digits}", "0".repeat(missing))
    }
}

fn bounded(digits: &str) -> usize {
    if digits.is_empty() { 0 } else { digits.parse().unwrap_or(WIDTH_MAX).min(WIDTH_MAX) }
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !keep(c)).unwrap_or(text.len()))
}
