//! The values of expressions. Cloning one is cheap, however large it is: exports with ten thousand targets are
//! passed from component to component.

use super::capsule::Capsule;
use super::object::Object;
use super::secret::Secret;
use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The value of an expression.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Nothing; may be assigned to everything.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number of any kind.
    Number(Number),
    /// Text.
    String(Arc<str>),
    /// Text that never appears in print. Strings become secrets where one is wanted; secrets never become strings.
    Secret(Secret),
    /// A list.
    Array(Arc<Vec<Value>>),
    /// Names with values.
    Object(Arc<Object>),
    /// Something that can be called.
    Function(Function),
    /// Something that can only be passed on.
    Capsule(Capsule),
    /// What will be known only when the configuration runs, and its type's name as far as that is certain: a
    /// configuration that is only checked has such values. [`Value::ANYTHING`] may turn out to be of any type.
    Unknown(&'static str),
}

impl Value {
    /// Not known yet, not even its type.
    pub const ANYTHING: Value = Value::Unknown("anything");

    /// Whether something in it is not known yet.
    pub fn has_unknown(&self) -> bool {
        match self {
            Value::Unknown(_) => true,
            Value::Array(elements) => elements.iter().any(Value::has_unknown),
            Value::Object(fields) => fields.values().any(Value::has_unknown),
            _ => false,
        }
    }

    /// An object of these fields.
    pub fn object<K: AsRef<str>>(fields: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Object(Arc::new(fields.into_iter().collect()))
    }

    /// An array of these elements.
    pub fn array(elements: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(Arc::new(elements.into_iter().collect()))
    }

    /// The type's name as messages show it.
    pub fn type_name(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Secret(_) => "secret".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
            Value::Function(_) => "function".to_owned(),
            Value::Capsule(capsule) => format!("{capsule:?}"),
            Value::Unknown(type_name) => (*type_name).to_owned(),
        }
    }

    /// Reads a JSON value.
    pub fn from_json(json: serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(bool) => bool.into(),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => Number::Int(integer).into(),
                (None, Some(integer)) => Number::Uint(integer).into(),
                (None, None) => Number::Float(number.as_f64().unwrap_or(f64::NAN)).into(),
            },
            Json::String(text) => text.into(),
            Json::Array(elements) => Value::array(elements.into_iter().map(Value::from_json)),
            Json::Object(fields) => {
                Value::object(fields.into_iter().map(|(key, value)| (key, Value::from_json(value))))
            }
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<Number> for Value {
    fn from(value: Number) -> Self {
        Value::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::String(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::String(value.into())
    }
}

impl From<Capsule> for Value {
    fn from(value: Capsule) -> Self {
        Value::Capsule(value)
    }
}

/// What is shared is not looked into: of fifty thousand targets a change touches one, and the others are those of before.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(other)) => one == other,
            (Value::Number(one), Value::Number(other)) => one == other,
            (Value::String(one), Value::String(other)) => one == other,
            (Value::Secret(one), Value::Secret(other)) => one == other,
            (Value::Array(one), Value::Array(other)) => Arc::ptr_eq(one, other) || one == other,
            (Value::Object(one), Value::Object(other)) => Arc::ptr_eq(one, other) || one == other,
            (Value::Function(one), Value::Function(other)) => one == other,
            (Value::Capsule(one), Value::Capsule(other)) => one == other,
            (Value::Unknown(one), Value::Unknown(other)) => one == other,
            _ => false,
        }
    }
}

/// For people and APIs: secrets stay hidden, functions and capsules appear as their types.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(Number::Int(value)) => serializer.serialize_i64(*value),
            Value::Number(Number::Uint(value)) => serializer.serialize_u64(*value),
            Value::Number(Number::Float(value)) => serializer.serialize_f64(*value),
            Value::String(text) => serializer.serialize_str(text),
            Value::Secret(secret) => secret.serialize(serializer),
            Value::Array(elements) => serializer.collect_seq(elements.iter()),
            Value::Object(fields) => serializer.collect_map(fields.iter()),
            Value::Function(_) | Value::Capsule(_) | Value::Unknown(_) => {
                serializer.serialize_str(&self.type_name())
            }
        }
    }
}

/// A number, in the narrowest kind that holds it exactly.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// A whole number in the range of `i64`.
    Int(i64),
    /// A whole number beyond it.
    Uint(u64),
    /// Any other.
    Float(f64),
}

impl Number {
    /// The whole number, whichever kind holds it; `None` if there is a fraction.
    pub fn as_integer(self) -> Option<i128> {
        match self {
            Number::Int(value) => Some(value.into()),
            Number::Uint(value) => Some(value.into()),
            Number::Float(value) => (value.fract() == 0.0 && value.abs() < 1e18).then_some(value as i128),
        }
    }

    /// The nearest float.
    pub fn as_float(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Uint(value) => value as f64,
            Number::Float(value) => value,
        }
    }

    /// The narrowest kind for a whole number; a float if it is out of range.
    pub fn from_integer(value: i128) -> Number {
        if let Ok(value) = value.try_into() {
            Number::Int(value)
        } else if let Ok(value) = value.try_into() {
            Number::Uint(value)
        } else {
            Number::Float(value as f64)
        }
    }

    /// Reads a decimal number.
    pub fn parse(text: &str) -> Option<Number> {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        let whole = text.parse::<i128>().ok().map(Number::from_integer);
        whole.or_else(|| text.parse().ok().map(Number::Float)).filter(|_| is_number)
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other).is_some_and(|ordering| ordering.is_eq())
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self.as_integer(), other.as_integer()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => self.as_float().partial_cmp(&other.as_float()),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Int(value) => value.fmt(f),
            Number::Uint(value) => value.fmt(f),
            Number::Float(value) => value.fmt(f),
        }
    }
}

/// Something that can be called.
#[derive(Clone, Copy)]
pub struct Function {
    /// The full name, for messages.
    pub name: &'static str,
    /// What it does.
    pub call: fn(&[Value]) -> Result<Value, FunctionError>,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionError {
    /// Which argument is wrong, from 0; none if it is the call as a whole.
    pub argument: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl FunctionError {
    /// One argument is wrong.
    pub(super) fn at(index: usize, message: impl Into<String>) -> FunctionError {
        FunctionError { argument: Some(index), ..FunctionError::call(message) }
    }

    /// The call as a whole is wrong.
    pub(super) fn call(message: impl Into<String>) -> FunctionError {
        FunctionError { argument: None, message: message.into(), hint: None }
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function({:?})", self.name)
    }
}
