//! The functions and constants everybody sees: the table, and those about lists and text.

use super::encoding;
use super::from_value::FromValue;
use super::object::Object;
use super::scope::Scope;
use super::value::{Function, FunctionError, Number, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

type Call = fn(&[Value]) -> Result<Value, FunctionError>;

/// Every function: its full name, what it does, and the name without a namespace that old configurations use.
const FUNCTIONS: &[(&str, Call, Option<&str>)] = &[
    ("array.combine_maps", combine_maps, None),
    ("array.concat", concat, Some("concat")),
    ("array.group_by", group_by, None),
    ("coalesce", coalesce, None),
    ("convert.nonsensitive", nonsensitive, Some("nonsensitive")),
    ("encoding.from_URLbase64", encoding::from_url_base64, None),
    ("encoding.from_base64", encoding::from_base64, Some("base64_decode")),
    ("encoding.from_json", encoding::from_json, Some("json_decode")),
    ("encoding.from_yaml", encoding::from_yaml, Some("yaml_decode")),
    ("encoding.to_URLbase64", encoding::to_url_base64, None),
    ("encoding.to_base64", encoding::to_base64, None),
    ("encoding.to_json", encoding::to_json, None),
    ("encoding.url_decode", encoding::url_decode, None),
    ("encoding.url_encode", encoding::url_encode, None),
    ("file.path_join", path_join, None),
    ("json_path", encoding::json_path, None),
    ("string.format", super::string_format::format, Some("format")),
    ("string.join", join, Some("join")),
    ("string.replace", replace, Some("replace")),
    ("string.split", split, Some("split")),
    ("string.to_lower", |values| map_text(values, |text| text.to_lowercase()), Some("to_lower")),
    ("string.to_upper", |values| map_text(values, |text| text.to_uppercase()), Some("to_upper")),
    ("string.trim", trim, Some("trim")),
    ("string.trim_prefix", trim_prefix, Some("trim_prefix")),
    ("string.trim_space", |values| map_text(values, |text| text.trim().to_owned()), Some("trim_space")),
    ("string.trim_suffix", trim_suffix, Some("trim_suffix")),
    ("sys.env", env, Some("env")),
];

/// The outermost scope. The host's name is an argument because asking for it is the caller's business.
pub fn stdlib(hostname: &str) -> Scope {
    let mut scope = Scope::default();
    let mut namespaces: BTreeMap<&str, Vec<(&str, Value)>> = BTreeMap::new();
    for &(name, call, alias) in FUNCTIONS {
        let function = Value::Function(Function { name, call });
        match name.split_once('.') {
            Some((namespace, name)) => {
                namespaces.entry(namespace).or_default().push((name, function.clone()));
            }
            None => scope.set(name, function.clone()),
        }
        if let Some(alias) = alias {
            scope.set(alias, function);
        }
    }
    for (namespace, functions) in namespaces {
        scope.set(namespace, Value::object(functions));
    }
    scope.set(
        "constants",
        Value::object([
            ("hostname", hostname.into()),
            ("os", std::env::consts::OS.into()),
            ("arch", architecture().into()),
            ("version", concat!("v", env!("CARGO_PKG_VERSION")).into()),
        ]),
    );
    scope
}

/// The processor's name as configurations know it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The environment variable, or nothing if there is none.
fn env(values: &[Value]) -> Result<Value, FunctionError> {
    let [name] = arguments(values)?;
    let name = text(name, 0)?;
    // The system takes neither of these in a name, and asking for one is a panic.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Ok("".into());
    }
    Ok(std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default().into())
}

/// The first argument that is not null, empty, zero or false; else the last one.
fn coalesce(values: &[Value]) -> Result<Value, FunctionError> {
    let is_set = |value: &&Value| match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => *number != Number::Int(0),
        Value::String(text) => !text.is_empty(),
        Value::Secret(secret) => !secret.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Function(_) | Value::Capsule(_) | Value::Unknown(_) => true,
    };
    Ok(values.iter().find(is_set).or(values.last()).cloned().unwrap_or_default())
}

fn concat(values: &[Value]) -> Result<Value, FunctionError> {
    let mut all = Vec::new();
    for (index, value) in values.iter().enumerate() {
        all.extend(argument::<Vec<Value>>(value, index)?);
    }
    Ok(Value::array(all))
}

/// Joins two lists of objects where the named fields are equal, as a database joins tables. With a fourth argument
/// `true`, objects of the first list that match nothing are kept.
fn combine_maps(values: &[Value]) -> Result<Value, FunctionError> {
    let (values, keep) = match values {
        [values @ .., keep] if values.len() == 3 => (values, argument::<bool>(keep, 3)?),
        values => (values, false),
    };
    let [left, right, fields] = arguments(values)?;
    let (left, right): (Vec<Arc<Object>>, Vec<Arc<Object>>) = (argument(left, 0)?, argument(right, 1)?);
    let fields: Vec<String> = argument(fields, 2)?;
    let Some(first) = fields.first() else {
        return Err(FunctionError::at(2, "names no field to compare"));
    };
    // Only objects of one bucket are compared: lists of targets have tens of thousands.
    let mut buckets: BTreeMap<String, Vec<&Arc<Object>>> = BTreeMap::new();
    for object in &right {
        if let Some(value) = object.get(first) {
            buckets.entry(bucket(value)).or_default().push(object);
        }
    }
    let mut joined = Vec::new();
    let mut entries = 0;
    for object in &left {
        let candidates = object.get(first).and_then(|value| buckets.get(&bucket(value)));
        let before = joined.len();
        for other in candidates.into_iter().flatten() {
            let is_same =
                |field: &String| object.get(field).is_some() && object.get(field) == other.get(field);
            if fields.iter().all(is_same) {
                entries += object.len() + other.len();
                refuse_beyond(entries * ENTRY_BYTES)?;
                joined.push(Value::Object(Arc::new(object.with(Object::clone(other)))));
            }
        }
        if keep && joined.len() == before {
            joined.push(Value::Object(object.clone()));
        }
    }
    Ok(Value::array(joined))
}

/// Equal values have the same.
fn bucket(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        other => other.type_name(),
    }
}

/// Groups objects by the text of one field; `true` as third argument drops those that do not have it.
fn group_by(values: &[Value]) -> Result<Value, FunctionError> {
    let [objects, field, drop_missing] = arguments(values)?;
    let (objects, field): (Vec<Arc<Object>>, String) = (argument(objects, 0)?, argument(field, 1)?);
    let drop_missing: bool = argument(drop_missing, 2)?;
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<(String, Vec<Value>)> = Vec::new();
    for (index, object) in objects.into_iter().enumerate() {
        let key = match object.get(&field) {
            Some(Value::String(text)) => text.to_string(),
            None if drop_missing => continue,
            None => String::new(),
            Some(other) => {
                let message = format!("[{index}][{field}]: expected string, got {}", other.type_name());
                return Err(FunctionError::at(0, message));
            }
        };
        let place = *places.entry(key.clone()).or_insert(groups.len());
        if place == groups.len() {
            groups.push((key, Vec::new()));
        }
        groups[place].1.push(Value::Object(object));
    }
    let group = |(key, items)| {
        Value::object([(field.clone(), Value::from(key)), ("items".to_owned(), Value::array(items))])
    };
    Ok(Value::array(groups.into_iter().map(group)))
}

/// The one way from a secret back to a string.
fn nonsensitive(values: &[Value]) -> Result<Value, FunctionError> {
    let [value] = arguments(values)?;
    match value {
        Value::Secret(secret) => Ok(secret.expose().into()),
        other => Ok(text(other, 0)?.into()),
    }
}

/// Joins parts and resolves `.`, `..` and double slashes, without looking at the disk.
fn path_join(values: &[Value]) -> Result<Value, FunctionError> {
    let mut parts = Vec::new();
    for (index, value) in values.iter().enumerate() {
        parts.push(text(value, index)?);
    }
    parts.retain(|part| !part.is_empty());
    let joined = parts.join("/");
    let root = if joined.starts_with('/') { "/" } else { "" };
    let mut clean: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." if clean.last().is_some_and(|last| *last != "..") => {
                clean.pop();
            }
            ".." if !root.is_empty() => {}
            part => clean.push(part),
        }
    }
    let path = format!("{root}{}", clean.join("/"));
    Ok(if path.is_empty() && !joined.is_empty() { ".".into() } else { path.into() })
}

fn join(values: &[Value]) -> Result<Value, FunctionError> {
    let [list, separator] = arguments(values)?;
    let (list, separator): (Vec<String>, String) = (argument(list, 0)?, argument(separator, 1)?);
    refuse_beyond(list.len().saturating_mul(separator.len()))?;
    Ok(list.join(&separator).into())
}

fn replace(values: &[Value]) -> Result<Value, FunctionError> {
    let [source, old, new] = arguments(values)?;
    let (source, old, new) = (text(source, 0)?, text(old, 1)?, text(new, 2)?);
    refuse_beyond(source.matches(old.as_str()).count().saturating_mul(new.len()))?;
    Ok(source.replace(&old, &new).into())
}

/// An empty separator splits between the characters.
fn split(values: &[Value]) -> Result<Value, FunctionError> {
    let [source, separator] = arguments(values)?;
    let (source, separator) = (text(source, 0)?, text(separator, 1)?);
    refuse_beyond((source.matches(separator.as_str()).count() + 1).saturating_mul(ENTRY_BYTES))?;
    if separator.is_empty() {
        return Ok(Value::array(source.chars().map(|c| c.to_string().into())));
    }
    Ok(Value::array(source.split(&separator).map(Value::from)))
}

fn trim(values: &[Value]) -> Result<Value, FunctionError> {
    let [source, characters] = arguments(values)?;
    let characters = text(characters, 1)?;
    Ok(text(source, 0)?.trim_matches(|c| characters.contains(c)).into())
}

fn trim_prefix(values: &[Value]) -> Result<Value, FunctionError> {
    let [source, prefix] = arguments(values)?;
    let source = text(source, 0)?;
    Ok(source.strip_prefix(&text(prefix, 1)?).unwrap_or(&source).into())
}

fn trim_suffix(values: &[Value]) -> Result<Value, FunctionError> {
    let [source, suffix] = arguments(values)?;
    let source = text(source, 0)?;
    Ok(source.strip_suffix(&text(suffix, 1)?).unwrap_or(&source).into())
}

fn map_text(values: &[Value], map: fn(&str) -> String) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    Ok(map(&text(source, 0)?).into())
}

pub(super) fn arguments<const N: usize>(values: &[Value]) -> Result<&[Value; N], FunctionError> {
    values
        .try_into()
        .map_err(|_| FunctionError::call(format!("expected {N} arguments, got {}", values.len())))
}

pub(super) fn text(value: &Value, index: usize) -> Result<String, FunctionError> {
    argument(value, index)
}

/// An argument of a type; the message names the element that does not fit.
pub(super) fn argument<T: FromValue>(value: &Value, index: usize) -> Result<T, FunctionError> {
    T::from_value(value).map_err(|error| {
        let path: String = error.path.iter().map(|part| format!("[{part}]")).collect();
        let message = if path.is_empty() { error.message } else { format!("{path}: {}", error.message) };
        FunctionError { hint: error.hint, ..FunctionError::at(index, message) }
    })
}

/// What the functions and operators of one expression may make. Calls in calls can double a text a hundred times; a
/// list of 100,000 targets with 30 labels each stays below.
pub(super) const MADE_BYTES_MAX: usize = 128 << 20;
/// What a list's element or an object's field costs.
pub(super) const ENTRY_BYTES: usize = 32;

/// Refuses to make so many bytes, before they are there.
pub(super) fn refuse_beyond(bytes: usize) -> Result<(), FunctionError> {
    if bytes <= MADE_BYTES_MAX { Ok(()) } else { Err(FunctionError::call(TOO_LARGE)) }
}

pub(super) const TOO_LARGE: &str = "the result is too large: an expression may make 128 MiB";
