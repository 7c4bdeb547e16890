//! Attributes and their values, as text and as JSON.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number};

use crate::formats::wire::{Field, Fields};

/// The fields of a message that was checked when it came in: an error can't be.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    Fields::of(message).flatten()
}

/// The messages, texts or bytes in the fields of that number.
pub(super) fn all(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).filter_map(move |(number, field)| match field {
        Field::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    })
}

/// The last of them, which is the one that counts.
pub(super) fn last(message: &[u8], wanted: u64) -> &[u8] {
    all(message, wanted).last().unwrap_or_default()
}

/// A text, which was checked, too.
pub(super) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The attributes in the fields of that number.
pub(super) fn attributes(message: &[u8], number: u64) -> impl Iterator<Item = (&str, Value<'_>)> {
    all(message, number).map(|pair| (text(last(pair, 1)), Value::of(last(pair, 2))))
}

/// Hexadecimal, as ids are written.
pub(super) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An `AnyValue`.
#[derive(Clone, Copy)]
pub(super) enum Value<'b> {
    Nothing,
    Text(&'b str),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// An `ArrayValue`.
    List(&'b [u8]),
    /// A `KeyValueList`.
    Object(&'b [u8]),
    Bytes(&'b [u8]),
}

impl<'b> Value<'b> {
    /// Of several in one message the last one counts.
    pub(super) fn of(any: &'b [u8]) -> Self {
        let known = fields(any).filter_map(|(number, field)| {
            Some(match (number, field) {
                (1, Field::Bytes(bytes)) => Value::Text(text(bytes)),
                (2, Field::Varint(value)) => Value::Bool(value != 0),
                (3, Field::Varint(value)) => Value::Int(value as i64),
                (4, Field::Fixed64(bits)) => Value::Double(f64::from_bits(bits)),
                (5, Field::Bytes(list)) => Value::List(list),
                (6, Field::Bytes(object)) => Value::Object(object),
                (7, Field::Bytes(bytes)) => Value::Bytes(bytes),
                _ => return None,
            })
        });
        known.last().unwrap_or(Value::Nothing)
    }

    /// The members of a list.
    pub(super) fn members(list: &'b [u8]) -> impl Iterator<Item = Value<'b>> {
        all(list, 1).map(Value::of)
    }

    /// As a label has it: JSON of lists and objects, base64 of bytes.
    pub(super) fn text(self) -> Cow<'b, str> {
        match self {
            Value::Nothing => Cow::Borrowed(""),
            Value::Text(text) => Cow::Borrowed(text),
            Value::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Value::Int(value) => Cow::Owned(value.to_string()),
            Value::Double(value) => Cow::Owned(number(value)),
            Value::Bytes(bytes) => Cow::Owned(STANDARD.encode(bytes)),
            Value::List(_) | Value::Object(_) => Cow::Owned(self.json().to_string()),
        }
    }

    /// As JSON, the members of objects sorted. What is no number in JSON becomes text.
    pub(super) fn json(self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Nothing => Json::Null,
            Value::Bool(value) => Json::Bool(value),
            Value::Int(value) => Json::from(value),
            // Whole numbers without a fraction, as everybody writes them.
            Value::Double(value) if value.fract() == 0.0 && value.abs() < (1_u64 << 53) as f64 => {
                Json::from(value as i64)
            }
            Value::Double(value) => {
                Number::from_f64(value).map_or_else(|| Json::String(number(value)), Json::Number)
            }
            Value::List(list) => Json::Array(Value::members(list).map(Value::json).collect()),
            Value::Object(object) => Json::Object(json_object(attributes(object, 1))),
            Value::Text(_) | Value::Bytes(_) => Json::String(self.text().into_owned()),
        }
    }
}

/// Attributes as an object.
pub(super) fn json_object<'b>(
    attributes: impl Iterator<Item = (&'b str, Value<'b>)>,
) -> Map<String, serde_json::Value> {
    attributes.map(|(name, value)| (name.to_owned(), value.json())).collect()
}

/// A number as JavaScript writes it: with an exponent only where it is very small or very large.
fn number(value: f64) -> String {
    match value.abs() {
        size if size.is_infinite() => if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        size if size != 0.0 && !(1e-6..1e21).contains(&size) && !size.is_nan() => {
            let short = format!("{value:e}");
            if size < 1.0 { short } else { short.replace('e', "e+") }
        }
        _ => value.to_string(),
    }
}
