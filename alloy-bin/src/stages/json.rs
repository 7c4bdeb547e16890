//! `stage.json`: JMESPath expressions over a line that is a JSON object.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Document;

use super::line::{Line, Value, input, text};

/// The stage's arguments.
pub struct Json {
    /// What is extracted, and by which expression.
    expressions: Vec<(String, Expression)>,
    source: Option<String>,
    drop_malformed: bool,
    /// The only fields that matter; `None`: an expression may ask for any.
    fields: Option<Vec<String>>,
}

enum Expression {
    /// `a.b.c`, which most are.
    Path(Vec<String>),
    Query(Box<jmespath::Expression<'static>>),
}

/// The line is not JSON, and is to be dropped.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed;

impl Json {
    /// Compiles the expressions; an empty one is the name itself. The error is for people.
    pub fn new(
        expressions: BTreeMap<String, String>,
        source: Option<String>,
        drop_malformed: bool,
    ) -> Result<Self, String> {
        if expressions.is_empty() {
            return Err("at least one expression is needed".to_owned());
        }
        let mut compiled = Vec::new();
        for (name, text) in expressions {
            let text = if text.is_empty() { name.clone() } else { text };
            compiled.push((name, Expression::new(&text)?));
        }
        let first = |(_, expression): &(String, Expression)| match expression {
            Expression::Path(path) => Some(path[0].clone()),
            Expression::Query(_) => None,
        };
        let fields = compiled.iter().map(first).collect();
        Ok(Json { expressions: compiled, source, drop_malformed, fields })
    }

    pub(super) fn apply<'p>(&'p self, line: &mut Line<'p>) -> Result<(), Malformed> {
        let Some(input) = input(line, self.source.as_deref()) else { return Ok(()) };
        let Some(object) = self.parse(&text(&input)) else {
            return if self.drop_malformed { Err(Malformed) } else { Ok(()) };
        };
        for (name, expression) in &self.expressions {
            if let Some(value) = expression.search(&object) {
                line.extracted.set(name.as_str(), value);
            }
        }
        Ok(())
    }

    /// The object, with those fields that matter.
    fn parse(&self, text: &str) -> Option<Document> {
        let Some(fields) = &self.fields else {
            let value: Document = serde_json::from_str(text).ok()?;
            return (value.is_object() || value.is_null()).then_some(value);
        };
        let mut reader = serde_json::Deserializer::from_str(text);
        let object = reader.deserialize_any(Fields(fields)).ok()?;
        reader.end().ok()?;
        Some(object)
    }
}

/// Reads an object, and of it only some fields.
struct Fields<'a>(&'a [String]);

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Document;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if self.0.iter().any(|field| *field == name) {
                object.insert(name.into_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Document::Object(object))
    }
}

impl Expression {
    fn new(text: &str) -> Result<Self, String> {
        let is_name = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && part.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        };
        if text.split('.').all(is_name) {
            return Ok(Expression::Path(text.split('.').map(str::to_owned).collect()));
        }
        let query = jmespath::compile(text);
        let query = query.map_err(|error| format!("{text:?} is no JMESPath expression: {error}"))?;
        Ok(Expression::Query(Box::new(query)))
    }

    /// `None`: the expression asks for something that cannot be done.
    fn search(&self, object: &Document) -> Option<Value> {
        match self {
            Expression::Path(path) => {
                let found = path.iter().try_fold(object, |value, name| value.get(name));
                Some(found.map_or(Value::Null, value))
            }
            Expression::Query(query) => {
                let found = query.search(object).ok()?;
                Some(value(&serde_json::to_value(&*found).ok()?))
            }
        }
    }
}

/// Scalars are kept, everything else is JSON again.
fn value(json: &Document) -> Value {
    match json {
        Document::Null => Value::Null,
        Document::Bool(value) => Value::Bool(*value),
        Document::Number(number) => Value::Number(number.as_f64().unwrap_or_default()),
        Document::String(text) => Value::copy(text),
        other => {
            let mut text = String::new();
            put_json(&mut text, other);
            Value::Text(text.into())
        }
    }
}

/// As Go's `json.Marshal`: sorted, numbers as floats, and `<`, `>`, `&` escaped.
fn put_json(out: &mut String, json: &Document) {
    match json {
        Document::Null => out.push_str("null"),
        Document::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Document::Number(number) => put_number(out, number.as_f64().unwrap_or_default()),
        Document::String(text) => put_string(out, text),
        Document::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                out.push(if index == 0 { '[' } else { ',' });
                put_json(out, element);
            }
            out.push_str(if elements.is_empty() { "[]" } else { "]" });
        }
        Document::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            for (index, (name, value)) in sorted.iter().enumerate() {
                out.push(if index == 0 { '{' } else { ',' });
                put_string(out, name);
                out.push(':');
                put_json(out, value);
            }
            out.push_str(if fields.is_empty() { "{}" } else { "}" });
        }
    }
}

fn put_number(out: &mut String, number: f64) {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        let signed = if text.contains("e-") { text } else { text.replace('e', "e+") };
        out.push_str(&signed);
    } else {
        let _ = write!(out, "{number}");
    }
}

fn put_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", character as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
