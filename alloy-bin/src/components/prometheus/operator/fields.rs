//! The fields of an object, until each was asked for.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

/// What is left of an object. What is null counts as not set.
pub(super) struct Fields {
    inside: String,
    rest: Map<String, Json>,
}

impl Fields {
    /// Of the object at that place.
    pub(super) fn new(inside: &str, object: &Json) -> Result<Self, String> {
        match object {
            Json::Object(fields) => Ok(Fields { inside: inside.to_owned(), rest: fields.clone() }),
            _ => Err(format!("{inside}: is no object")),
        }
    }

    /// A field as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        self.rest.remove(name).filter(|value| !value.is_null())
    }

    /// A field of that type.
    pub(super) fn read<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, String> {
        let value = self.take(name);
        value.map(|value| serde_json::from_value(value).map_err(|error| self.error(name, error))).transpose()
    }

    /// The same; one that is not set has its type's default.
    pub(super) fn read_or<T: DeserializeOwned + Default>(&mut self, name: &str) -> Result<T, String> {
        Ok(self.read(name)?.unwrap_or_default())
    }

    /// The fields of an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Fields>, String> {
        let place = self.place(name);
        self.take(name).map(|object| Fields::new(&place, &object)).transpose()
    }

    /// Puts fields into a configuration, under other names.
    pub(super) fn pass(&mut self, into: &mut Map<String, Json>, names: &[(&str, &str)]) {
        for (name, other) in names {
            if let Some(value) = self.take(name) {
                into.insert((*other).to_owned(), value);
            }
        }
    }

    /// What is wrong with a field.
    pub(super) fn error(&self, name: &str, problem: impl std::fmt::Display) -> String {
        format!("{}: {problem}", self.place(name))
    }

    fn place(&self, name: &str) -> String {
        if self.inside.is_empty() { name.to_owned() } else { format!("{}.{name}", self.inside) }
    }

    /// The places of what nobody has asked for.
    pub(super) fn unknown(&self) -> impl Iterator<Item = String> {
        self.rest.keys().map(|name| self.place(name))
    }
}
