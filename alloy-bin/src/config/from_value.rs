//! Value -> field. The implicit conversions of the language happen here and nowhere else: numbers become strings and
//! strings numbers, strings become secrets, durations and sizes.

use super::capsule::CapsuleType;
use super::object::Object;
use super::quantity::{ByteSize, parse_duration};
use super::secret::Secret;
use super::suggest::did_you_mean;
use super::value::{Number, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A type that a value can be assigned to.
///
/// # Contract
/// 1. `null` is an error unless it means something to the type: an attribute that is `null` counts as not set.
/// 2. A secret is accepted by [`Secret`] and [`Value`] only, and never shown in an error.
pub trait FromValue: Sized {
    /// Whether what it is made of is not to be shown.
    const IS_SECRET: bool = false;

    /// Converts a value, or says what was expected.
    fn from_value(value: &Value) -> Result<Self, ConversionError>;
}

/// Why a value does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversionError {
    /// Where in the value: indexes and keys from the outside in, so that the message points at the element.
    pub(super) path: Vec<String>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// No error at all: the value is not known yet, and may fit.
    pub(super) unknown: bool,
}

impl ConversionError {
    /// An error about the value as a whole.
    pub fn new(message: impl Into<String>) -> ConversionError {
        ConversionError { path: Vec::new(), message: message.into(), hint: None, unknown: false }
    }

    /// `expected array, got string`.
    pub fn expected(what: &str, got: &Value) -> ConversionError {
        let mut error = ConversionError::new(format!("expected {what}, got {}", got.type_name()));
        if let Value::Unknown(type_name) = got {
            // Scalars convert to each other; whether this one does is known when its value is.
            let is_composite =
                |name: &str| name == "array" || name == "object" || name.starts_with("capsule");
            error.unknown = *type_name == "anything"
                || *type_name == what
                || !(is_composite(type_name) || is_composite(what));
        }
        if matches!(got, Value::Secret(_)) {
            error.hint = Some("convert.nonsensitive(...) makes a string of a secret".to_owned());
        }
        error
    }

    /// For a type with a fixed set of names: the choice of that name, or an error that lists them.
    pub fn one_of<T: Clone>(value: &Value, choices: &[(&str, T)]) -> Result<T, ConversionError> {
        let text = String::from_value(value)?;
        let names = choices.iter().map(|(name, _)| *name);
        choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| choice.clone()).ok_or_else(|| {
            let list: Vec<String> = names.clone().map(|name| format!("{name:?}")).collect();
            let message = format!("expected one of {}, got {text:?}", list.join(", "));
            ConversionError { hint: did_you_mean(&text, names), ..ConversionError::new(message) }
        })
    }

    fn inside(mut self, part: impl ToString) -> ConversionError {
        self.path.insert(0, part.to_string());
        self
    }
}

impl FromValue for Value {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        Ok(value.clone())
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        match value {
            Value::Bool(value) => Ok(*value),
            other => Err(ConversionError::expected("bool", other)),
        }
    }
}

impl FromValue for Number {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let parsed = match value {
            Value::Number(number) => Some(*number),
            Value::String(text) => Number::parse(text),
            _ => None,
        };
        parsed.ok_or_else(|| ConversionError::expected("number", value))
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        Number::from_value(value).map(Number::as_float)
    }
}

/// Two plain lines per integer type.
macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl FromValue for $integer {
            fn from_value(value: &Value) -> Result<Self, ConversionError> {
                let number = Number::from_value(value)?;
                let integer = number.as_integer().ok_or_else(|| {
                    ConversionError::new(format!("expected a whole number, got {number}"))
                })?;
                integer.try_into().map_err(|_| {
                    let (min, max) = (<$integer>::MIN, <$integer>::MAX);
                    ConversionError::new(format!("{number} is out of range: {min} to {max}"))
                })
            }
        }
    )*};
}
integers!(i32, i64, u16, u32, u64, usize);

impl FromValue for String {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        match value {
            Value::String(text) => Ok(text.to_string()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(ConversionError::expected("string", other)),
        }
    }
}

impl FromValue for Secret {
    const IS_SECRET: bool = true;

    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        match value {
            Value::Secret(secret) => Ok(secret.clone()),
            Value::String(text) => Ok(Secret::new(Arc::clone(text))),
            other => Err(ConversionError::expected("secret", other)),
        }
    }
}

impl FromValue for Duration {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        match value {
            Value::Number(number) if number.as_integer() == Some(0) => Ok(Duration::ZERO),
            Value::String(text) => parse_duration(text).ok_or_else(|| {
                ConversionError::new(format!("{text:?} is not a duration such as \"1m30s\" or \"250ms\""))
            }),
            other => Err(ConversionError::expected("a duration such as \"1m30s\"", other)),
        }
    }
}

impl FromValue for ByteSize {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        match value {
            Value::Number(_) => u64::from_value(value).map(ByteSize),
            Value::String(text) => ByteSize::parse(text).ok_or_else(|| {
                ConversionError::new(format!("{text:?} is not a size such as \"1MiB\" or \"512KB\""))
            }),
            other => Err(ConversionError::expected("a size such as \"1MiB\"", other)),
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let Value::Array(elements) = value else {
            return Err(ConversionError::expected("array", value));
        };
        let convert = |(index, element)| T::from_value(element).map_err(|error| error.inside(index));
        elements.iter().enumerate().map(convert).collect()
    }
}

impl<T: FromValue> FromValue for BTreeMap<String, T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let Value::Object(fields) = value else {
            return Err(ConversionError::expected("object", value));
        };
        let convert = |(key, value): (&str, _)| {
            T::from_value(value).map(|value| (key.to_owned(), value)).map_err(|error| error.inside(key))
        };
        fields.iter().map(convert).collect()
    }
}

impl FromValue for Arc<Object> {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        match value {
            Value::Object(fields) => Ok(Arc::clone(fields)),
            other => Err(ConversionError::expected("object", other)),
        }
    }
}

impl<T: CapsuleType> FromValue for Arc<T> {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let content = match value {
            Value::Capsule(capsule) => capsule.downcast(),
            _ => None,
        };
        content.ok_or_else(|| ConversionError::expected(&format!("capsule({:?})", T::NAME), value))
    }
}
