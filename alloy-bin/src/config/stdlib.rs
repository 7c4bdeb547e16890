//! The functions and constants everybody sees.

use super::from_value::FromValue;
use super::scope::Scope;
use super::value::{Function, FunctionError, Number, Value};

type Call = fn(&[Value]) -> Result<Value, FunctionError>;

/// Every function: its namespace, its name, what it does, and the name without a namespace that old configurations
/// use.
const FUNCTIONS: &[(&str, &str, Call, Option<&str>)] = &[
    ("array", "concat", concat, Some("concat")),
    ("convert", "nonsensitive", nonsensitive, Some("nonsensitive")),
    ("encoding", "from_json", from_json, Some("json_decode")),
    ("encoding", "from_yaml", from_yaml, Some("yaml_decode")),
    ("encoding", "to_json", to_json, None),
    ("file", "path_join", path_join, None),
    ("string", "format", super::string_format::format, Some("format")),
    ("string", "join", join, Some("join")),
    ("string", "replace", replace, Some("replace")),
    ("string", "split", split, Some("split")),
    ("string", "to_lower", |values| map_text(values, |text| text.to_lowercase()), Some("to_lower")),
    ("string", "to_upper", |values| map_text(values, |text| text.to_uppercase()), Some("to_upper")),
    ("string", "trim", trim, Some("trim")),
    ("string", "trim_prefix", trim_prefix, Some("trim_prefix")),
    ("string", "trim_space", |values| map_text(values, |text| text.trim().to_owned()), Some("trim_space")),
    ("string", "trim_suffix", trim_suffix, Some("trim_suffix")),
    ("sys", "env", env, Some("env")),
];

/// The outermost scope. The host's name is an argument because asking for it is the caller's business.
pub fn stdlib(hostname: &str) -> Scope {
    let mut scope = Scope::default();
    let mut namespaces: std::collections::BTreeMap<&str, super::Object> = Default::default();
    for &(namespace, name, call, alias) in FUNCTIONS {
        let function = Value::Function(Function { name, call });
        namespaces.entry(namespace).or_default().insert(name.to_owned(), function.clone());
        if let Some(alias) = alias {
            scope.set(alias, function);
        }
    }
    for (namespace, functions) in namespaces {
        scope.set(namespace, Value::object(functions));
    }
    scope.set("coalesce", Value::Function(Function { name: "coalesce", call: coalesce }));
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
    Ok(std::env::var(text(name, 0)?).unwrap_or_default().into())
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

/// The one way from a secret back to a string.
fn nonsensitive(values: &[Value]) -> Result<Value, FunctionError> {
    let [value] = arguments(values)?;
    match value {
        Value::Secret(secret) => Ok(secret.expose().into()),
        other => Ok(text(other, 0)?.into()),
    }
}

fn from_json(values: &[Value]) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    let json = serde_json::from_str(&text(source, 0)?);
    json.map(Value::from_json).map_err(|error| at(0, format!("not JSON: {error}")))
}

fn from_yaml(values: &[Value]) -> Result<Value, FunctionError> {
    let [source] = arguments(values)?;
    let yaml = serde_saphyr::from_str(&text(source, 0)?);
    yaml.map(Value::from_json).map_err(|error| at(0, format!("not YAML: {error}")))
}

fn to_json(values: &[Value]) -> Result<Value, FunctionError> {
    let [value] = arguments(values)?;
    if let Some(hidden) = unprintable(value) {
        return Err(at(0, format!("a {} can't be written as JSON", hidden.type_name())));
    }
    serde_json::to_string(value).map(Value::from).map_err(|error| at(0, error.to_string()))
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
    Ok(argument::<Vec<String>>(list, 0)?.join(&text(separator, 1)?).into())
}

fn replace(values: &[Value]) -> Result<Value, FunctionError> {
    let [source, old, new] = arguments(values)?;
    Ok(text(source, 0)?.replace(&text(old, 1)?, &text(new, 2)?).into())
}

/// An empty separator splits between the characters.
fn split(values: &[Value]) -> Result<Value, FunctionError> {
    let [source, separator] = arguments(values)?;
    let (source, separator) = (text(source, 0)?, text(separator, 1)?);
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

fn arguments<const N: usize>(values: &[Value]) -> Result<&[Value; N], FunctionError> {
    values.try_into().map_err(|_| FunctionError {
        argument: None,
        message: format!("expected {N} arguments, got {}", values.len()),
    })
}

fn text(value: &Value, index: usize) -> Result<String, FunctionError> {
    argument(value, index)
}

pub(super) fn argument<T: FromValue>(value: &Value, index: usize) -> Result<T, FunctionError> {
    T::from_value(value).map_err(|error| at(index, error.message))
}

pub(super) fn at(index: usize, message: impl Into<String>) -> FunctionError {
    FunctionError { argument: Some(index), message: message.into() }
}
