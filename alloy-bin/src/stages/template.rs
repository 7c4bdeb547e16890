//! The templates of `stage.replace`: text with `{{ .Value }}`, `{{ .name | ToUpper }}`, `{{ Replace .Value "a" "b" 1 }}`. Of Go's templates
//! the actions that print; conditions and loops are refused.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// A compiled template.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Print(Vec<Call>),
}

/// A function and what stands behind it; as part of a pipe, the value before is its last argument.
#[derive(Debug, Clone)]
enum Call {
    Argument(Argument),
    Function(Function, Vec<Argument>),
}

#[derive(Debug, Clone)]
enum Argument {
    Field(String),
    Text(String),
    Number(i64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    ToLower,
    ToUpper,
    Replace,
    Trim,
    TrimLeft,
    TrimRight,
    TrimPrefix,
    TrimSuffix,
    TrimSpace,
    Sha2Hash,
}

/// Names, and how many arguments.
const FUNCTIONS: &[(&str, Function, usize)] = &[
    ("ToLower", Function::ToLower, 1),
    ("ToUpper", Function::ToUpper, 1),
    ("Replace", Function::Replace, 4),
    ("Trim", Function::Trim, 2),
    ("TrimLeft", Function::TrimLeft, 2),
    ("TrimRight", Function::TrimRight, 2),
    ("TrimPrefix", Function::TrimPrefix, 2),
    ("TrimSuffix", Function::TrimSuffix, 2),
    ("TrimSpace", Function::TrimSpace, 1),
    ("Sha2Hash", Function::Sha2Hash, 2),
];

impl Template {
    /// Compiles a template. The error is for people.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(begin) = rest.find("{{") {
            let mut before = &rest[..begin];
            let end = begin + rest[begin..].find("}}").ok_or("a template's }} is missing")?;
            let mut action = &rest[begin + 2..end];
            rest = &rest[end + 2..];
            if let Some(inner) = action.strip_prefix("- ") {
                (action, before) = (inner, before.trim_end());
            }
            if let Some(inner) = action.strip_suffix(" -") {
                (action, rest) = (inner, rest.trim_start());
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Print(pipe(action)?));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template(parts))
    }

    /// Whether it prints anything that is extracted, beside the value.
    pub(super) fn reads_extracted(&self) -> bool {
        let is_field = |argument: &Argument| matches!(argument, Argument::Field(name) if name != "Value");
        let reads = |call: &Call| match call {
            Call::Argument(argument) => is_field(argument),
            Call::Function(_, arguments) => arguments.iter().any(is_field),
        };
        self.0.iter().any(|part| matches!(part, Part::Print(calls) if calls.iter().any(reads)))
    }

    /// The text, with each field's value.
    pub(super) fn expand<'f>(&self, field: &dyn Fn(&str) -> Option<Cow<'f, str>>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Print(calls) => {
                    let mut value = None;
                    for call in calls {
                        value = Some(run(call, value, field));
                    }
                    out.push_str(&value.unwrap_or_default());
                }
            }
        }
        out
    }
}

fn pipe(action: &str) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    for (index, words) in words(action)?.split(|word| word == "|").enumerate() {
        let (first, arguments) = words.split_first().ok_or("a template's action is empty")?;
        let Some((name, function, count)) = FUNCTIONS.iter().find(|(name, ..)| name == first) else {
            if index > 0 || !arguments.is_empty() {
                let known: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
                return Err(format!("{first:?} is no function here; there are {}", known.join(", ")));
            }
            calls.push(Call::Argument(argument(first)?));
            continue;
        };
        let given = arguments.len() + usize::from(index > 0);
        if given != *count {
            return Err(format!("{name} takes {count} arguments, not {given}"));
        }
        let arguments: Vec<_> = arguments.iter().map(|word| argument(word)).collect::<Result<_, _>>()?;
        if *function == Function::Replace && !matches!(arguments.get(3), Some(Argument::Number(_))) {
            return Err("Replace takes its count last: Replace .Value \"old\" \"new\" -1".to_owned());
        }
        calls.push(Call::Function(*function, arguments));
    }
    Ok(calls)
}

/// Fields, texts in quotes, numbers, names and `|`.
fn words(action: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '|' => 1,
            '`' => 2 + rest[1..].find('`').ok_or("a template's backquote is missing")?,
            '"' => {
                let mut is_escaped = false;
                let is_end = |c: char| {
                    let is_end = c == '"' && !is_escaped;
                    is_escaped = c == '\\' && !is_escaped;
                    is_end
                };
                2 + rest[1..].find(is_end).ok_or("a template's quote is missing")?
            }
            _ => rest.find(|c: char| c.is_whitespace() || c == '|').unwrap_or(rest.len()),
        };
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

fn argument(word: &str) -> Result<Argument, String> {
    let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_');
    match word.strip_prefix('.') {
        Some(name) if is_name(name) && !name.is_empty() => return Ok(Argument::Field(name.to_owned())),
        _ => {}
    }
    if let Some(raw) = word.strip_prefix('`') {
        return Ok(Argument::Text(raw.trim_end_matches('`').to_owned()));
    }
    if word.starts_with('"')
        && let Ok(text) = serde_json::from_str(word)
    {
        return Ok(Argument::Text(text));
    }
    word.parse().map(Argument::Number).map_err(|_| {
        format!(
            "{word:?} is not supported in a template; there are .Value, .name, texts, numbers and functions"
        )
    })
}

fn run<'f>(call: &Call, before: Option<String>, field: &dyn Fn(&str) -> Option<Cow<'f, str>>) -> String {
    let value = |argument: &Argument| match argument {
        // As Go prints what a map of texts does not have.
        Argument::Field(name) => field(name).map_or_else(|| "<no value>".to_owned(), Cow::into_owned),
        Argument::Text(text) => text.clone(),
        Argument::Number(number) => number.to_string(),
    };
    let (function, arguments) = match call {
        Call::Argument(argument) => return value(argument),
        Call::Function(function, arguments) => (function, arguments),
    };
    let texts: Vec<String> = arguments.iter().map(value).chain(before).collect();
    let text = |index: usize| texts.get(index).map_or("", String::as_str);
    let is_cut = |c: char| text(1).contains(c);
    match function {
        Function::ToLower => text(0).to_lowercase(),
        Function::ToUpper => text(0).to_uppercase(),
        Function::Replace => match usize::try_from(text(3).parse::<i64>().unwrap_or(-1)) {
            Ok(count) => text(0).replacen(text(1), text(2), count),
            Err(_) => text(0).replace(text(1), text(2)),
        },
        Function::Trim => text(0).trim_matches(is_cut).to_owned(),
        Function::TrimLeft => text(0).trim_start_matches(is_cut).to_owned(),
        Function::TrimRight => text(0).trim_end_matches(is_cut).to_owned(),
        Function::TrimPrefix => text(0).strip_prefix(text(1)).unwrap_or(text(0)).to_owned(),
        Function::TrimSuffix => text(0).strip_suffix(text(1)).unwrap_or(text(0)).to_owned(),
        Function::TrimSpace => text(0).trim().to_owned(),
        Function::Sha2Hash => hex(&Sha256::digest([text(0), text(1)].concat())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
