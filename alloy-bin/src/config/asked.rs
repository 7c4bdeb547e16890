//! What the decoding of a block asks for: names, types, defaults. Pages and programs can be held against it.

use std::sync::Arc;

use super::capsule::{Capsule, CapsuleType};
use super::from_value::{ConversionError, FromValue};
use super::value::Value;

/// What a body is asked for.
#[derive(Debug, Clone, Default)]
pub struct AskedBody {
    /// In the order in which it is asked.
    pub asked: Vec<Asked>,
    /// What is said of a body that is empty.
    pub complaints: Vec<String>,
}

/// An attribute or a block that may stand in a body.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// What it may be.
    pub what: What,
    /// Known, and an error if it says anything but the default.
    pub is_refused: bool,
}

/// What is asked for by a name.
#[derive(Debug, Clone)]
pub enum What {
    /// An attribute.
    Attribute {
        /// `list(string)`, in the words of the pages.
        type_name: String,
        /// What it is if it is not set.
        default: Fallback,
    },
    /// A block.
    Block(AskedBody),
    /// Either, and an error in any case.
    Unsupported,
}

/// What an attribute is that is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// It has to be.
    Required,
    /// This, as a configuration would say it; nothing or an empty text, list or object is `""`.
    Text(String),
    /// Something that has no text.
    Untold,
}

impl Asked {
    pub(super) fn attribute<T: FromValue>(name: &str, default: Option<&T>) -> Self {
        let default = match default.map(T::told) {
            None => Fallback::Required,
            Some(told) => told.map_or(Fallback::Untold, Fallback::Text),
        };
        let type_name = type_name(&|value| T::from_value(value).map(drop));
        Asked { name: name.to_owned(), what: What::Attribute { type_name, default }, is_refused: false }
    }
}

/// Fits nowhere, so that every type says what it expects instead.
struct Odd;

impl CapsuleType for Odd {
    const NAME: &'static str = "odd";
}

fn type_name(convert: &dyn Fn(&Value) -> Result<(), ConversionError>) -> String {
    let Err(error) = convert(&Value::Capsule(Capsule::new(Arc::new(Odd)))) else { return "any".to_owned() };
    let expected = error.message.strip_prefix("expected ").and_then(|rest| rest.split(", got ").next());
    match expected.unwrap_or_default() {
        "array" => format!("list({})", type_name(&|element| convert(&Value::array([element.clone()])))),
        "object" => {
            format!("map({})", type_name(&|value| convert(&Value::object([("a", value.clone())]))))
        }
        // `a duration such as "1m"`, `capsule("LogsReceiver")`.
        text if text.starts_with("a ") => text.split(' ').nth(1).unwrap_or_default().to_owned(),
        text => text.strip_prefix("capsule(\"").map_or(text, |name| name.trim_end_matches("\")")).to_owned(),
    }
}
