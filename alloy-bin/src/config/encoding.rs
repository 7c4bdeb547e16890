//! Functions between text and values: JSON, YAML, base64, percent-encoding, JSONPath.

use super::stdlib::{argument, arguments, refuse_beyond, text};
use super::value::{FunctionError, Value};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json_path::JsonPath;

/// A value costs up to this many times its JSON: `[],` becomes a list of its own.
const VALUE_PER_TEXT: usize = 8;

/// Deeper filters in filters would overflow the stack of the path's parser.
const PATH_BYTES_MAX: usize = 1000;

/// What stays as it is in a query, as in Go's `url.QueryEscape`; a space becomes `+`.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

pub(super) fn from_json(values: &[Value]) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    json(source).map(Value::from_json)
}

fn json(source: &Value) -> Result<serde_json::Value, FunctionError> {
    let source = text(source, 0)?;
    refuse_beyond(source.len().saturating_mul(VALUE_PER_TEXT))?;
    serde_json::from_str(&source).map_err(|error| FunctionError::at(0, format!("not JSON: {error}")))
}

pub(super) fn from_yaml(values: &[Value]) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    let source = text(source, 0)?;
    refuse_beyond(source.len().saturating_mul(VALUE_PER_TEXT))?;
    // The text may hold what was a secret: the message tells the place and shows nothing of it.
    let told = |error: serde_saphyr::Error| error.without_snippet().to_string();
    let yaml = serde_saphyr::from_str(&source);
    yaml.map(Value::from_json).map_err(|error| FunctionError::at(0, format!("not YAML: {}", told(error))))
}

pub(super) fn to_json(values: &[Value]) -> Result<Value, FunctionError> {
    let [value] = arguments(values)?;
    if let Some(hidden) = unprintable(value) {
        let message = format!("a {} can't be written as JSON", hidden.type_name());
        return Err(FunctionError::at(0, message));
    }
    serde_json::to_string(value).map(Value::from).map_err(|error| FunctionError::at(0, error.to_string()))
}

/// The first value inside that has no text of its own.
fn unprintable(value: &Value) -> Option<&Value> {
    match value {
        Value::Secret(_) | Value::Function(_) | Value::Capsule(_) => Some(value),
        Value::Array(elements) => elements.iter().find_map(unprintable),
        Value::Object(fields) => fields.values().find_map(unprintable),
        _ => None,
    }
}

/// All that a path finds in a JSON text. Beside RFC 9535 the short form without `$` is understood: `.a.b`, `a.b`.
pub(super) fn json_path(values: &[Value]) -> Result<Value, FunctionError> {
    let [source, path] = arguments(values)?;
    let short: String = argument(path, 1)?;
    let path = match short.chars().next() {
        Some('$') => short,
        Some('.' | '[') => format!("${short}"),
        _ => format!("$.{short}"),
    };
    if path.len() > PATH_BYTES_MAX {
        return Err(FunctionError::at(1, format!("a path may have {PATH_BYTES_MAX} bytes")));
    }
    let path = JsonPath::parse(&path)
        .map_err(|error| FunctionError::at(1, format!("not a JSONPath such as \"$.a[0].b\": {error}")))?;
    let json = json(source)?;
    Ok(Value::array(path.query(&json).into_iter().map(|found| Value::from_json(found.clone()))))
}

pub(super) fn from_base64(values: &[Value]) -> Result<Value, FunctionError> {
    decode(values, &STANDARD)
}

pub(super) fn from_url_base64(values: &[Value]) -> Result<Value, FunctionError> {
    decode(values, &URL_SAFE)
}

fn decode(values: &[Value], engine: &impl Engine) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    // Go's decoder, too, passes over line ends: keys come in lines of 64 characters.
    let source = text(source, 0)?.replace(['\r', '\n'], "");
    let bytes =
        engine.decode(source).map_err(|error| FunctionError::at(0, format!("not base64: {error}")))?;
    let decoded = String::from_utf8(bytes);
    decoded.map(Value::from).map_err(|_| FunctionError::at(0, "what it decodes to is not text"))
}

pub(super) fn to_base64(values: &[Value]) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    Ok(STANDARD.encode(text(source, 0)?).into())
}

pub(super) fn to_url_base64(values: &[Value]) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    Ok(URL_SAFE.encode(text(source, 0)?).into())
}

pub(super) fn url_encode(values: &[Value]) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    Ok(utf8_percent_encode(&text(source, 0)?, QUERY).to_string().replace(' ', "+").into())
}

pub(super) fn url_decode(values: &[Value]) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    let source = text(source, 0)?.replace('+', " ");
    let is_escape =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if let Some(bad) = source.split('%').skip(1).find(|rest| !is_escape(rest)) {
        let bad: String = bad.chars().take(2).collect();
        return Err(FunctionError::at(0, format!("invalid escape \"%{bad}\"")));
    }
    let decoded = percent_decode_str(&source).decode_utf8();
    decoded
        .map(|text| text.as_ref().into())
        .map_err(|_| FunctionError::at(0, "what it decodes to is not text"))
}
