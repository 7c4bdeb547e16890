//! What all objects have, and how they are named in URLs.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::http_client::escape;

/// A kind of object, with the fields that somebody needs: equal ones are the same to all.
pub trait Object: DeserializeOwned + PartialEq + Send + Sync + 'static {
    /// The start of its URLs: `/api/v1`.
    const GROUP: &'static str;
    /// Its name in URLs: `pods`.
    const PLURAL: &'static str;

    /// What all objects have.
    fn meta(&mut self) -> &mut Meta;
}

/// What all objects have.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Its name, alone in its namespace.
    pub name: Box<str>,
    /// Empty for objects of the whole cluster.
    pub namespace: Box<str>,
    /// Of this object alone, and of no later one with its name.
    pub uid: Box<str>,
    /// The watcher takes it out: it changes with every change.
    pub resource_version: Box<str>,
    /// What selectors select by.
    #[serde(deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// What else people say of it.
    #[serde(deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<Box<str>, Box<str>>,
    /// What it was made for.
    #[serde(deserialize_with = "null_is_empty")]
    pub owner_references: Box<[Owner]>,
}

/// What an object was made for.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(default)]
pub struct Owner {
    /// `ReplicaSet`.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Whether it makes and deletes the object.
    pub controller: bool,
}

/// Which objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {
    /// Of this namespace; empty: of all.
    pub namespace: String,
    /// With these labels, in the API's own syntax.
    pub labels: String,
    /// With these values in fields.
    pub fields: String,
}

impl Selection {
    /// The path and the selectors of a request, to which more can be added with `&`.
    pub(super) fn path<T: Object>(&self) -> String {
        let namespace = match self.namespace.as_str() {
            "" => String::new(),
            namespace => format!("/namespaces/{}", escape(namespace)),
        };
        let mut path = format!("{}{namespace}/{}?", T::GROUP, T::PLURAL);
        for (name, selector) in [("labelSelector", &self.labels), ("fieldSelector", &self.fields)] {
            if !selector.is_empty() {
                path.push_str(&format!("{name}={}&", escape(selector)));
            }
        }
        path
    }

    /// Whether the server leaves out most objects.
    pub(super) fn is_narrow(&self) -> bool {
        !self.fields.is_empty()
    }
}

/// Go writes an empty list as `null` here and there.
pub fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
