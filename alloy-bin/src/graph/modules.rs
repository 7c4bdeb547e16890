//! The blocks that modules are made of: what they say, and what of it is an error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Body, ConversionError, Decode, FromValue, Value};

use super::fetch::Request;

/// An `argument` block.
pub(super) struct Argument {
    pub(super) optional: bool,
    pub(super) default: Option<Value>,
}

impl Decode for Argument {
    fn decode(body: &mut Body<'_>) -> Self {
        let _: String = body.optional("comment", String::new());
        let default = body.has("default").then(|| body.optional("default", Value::Null));
        let optional = body.optional("optional", default.is_some());
        Argument { optional: optional || default.is_some(), default }
    }
}

/// An `export` block.
pub(super) struct Export {
    pub(super) value: Value,
}

impl Decode for Export {
    fn decode(body: &mut Body<'_>) -> Self {
        Export { value: body.required("value") }
    }
}

/// A `foreach` block; its template is the graph's business.
pub(super) struct Foreach {
    /// `Value::Unknown` if it is not known yet.
    pub(super) collection: Value,
    pub(super) variable: String,
    id: String,
    hash_string_id: bool,
    pub(super) enable_metrics: bool,
}

impl Decode for Foreach {
    fn decode(body: &mut Body<'_>) -> Self {
        let collection: Value = body.required("collection");
        if !matches!(collection, Value::Array(_) | Value::Unknown("array" | "anything") | Value::Null) {
            body.error_at("collection", format!("expected array, got {}", collection.type_name()));
        }
        let variable: String = body.required("var");
        let is_name = variable.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !variable.starts_with(|c: char| c.is_numeric());
        if !is_name {
            body.error_at("var", format!("{variable:?} is not a name"));
        }
        if body.raw_block("template").is_none() {
            body.error("missing required block \"template\"");
        }
        Foreach {
            collection,
            variable,
            id: body.optional("id", String::new()),
            hash_string_id: body.optional("hash_string_id", false),
            enable_metrics: body.optional("enable_metrics", false),
        }
    }
}

impl Foreach {
    /// The elements by the names of their modules, which are the same as long as the elements are. Elements that look
    /// alike are numbered.
    pub(super) fn items(&self) -> Vec<(String, Value)> {
        let Value::Array(elements) = &self.collection else { return Vec::new() };
        let mut items: Vec<(String, Value)> = Vec::new();
        let mut counts = std::collections::HashMap::<String, usize>::new();
        for element in elements.iter() {
            let name = self.name(element);
            let count = counts.entry(name.clone()).or_default();
            *count += 1;
            items.push((format!("foreach_{name}_{count}"), element.clone()));
        }
        items
    }

    fn name(&self, element: &Value) -> String {
        /// Longer names are no names of folders.
        const NAME_BYTES_MAX: usize = 64;
        let named = match element {
            Value::Object(fields) if !self.id.is_empty() => fields.get(&self.id).unwrap_or(element),
            other => other,
        };
        let hashed = |text: &str| format!("{:016x}", twox_hash::XxHash64::oneshot(0, text.as_bytes()));
        match named {
            Value::String(text) if !self.hash_string_id => {
                let safe: String =
                    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
                if safe.len() > NAME_BYTES_MAX { hashed(text) } else { safe }
            }
            Value::String(text) => hashed(text),
            Value::Number(number) => number.to_string().replace(['.', '-'], "_"),
            Value::Bool(value) => value.to_string(),
            other => hashed(&serde_json::to_string(other).unwrap_or_default()),
        }
    }
}

/// Where an `import` block reads its module.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin {
    File(PathBuf),
    Text(String),
    Http(Box<Request>),
}

impl Origin {
    /// What `module_path` says in the module; `None`: what it says where the block stands.
    pub(super) fn module_path(&self) -> Option<String> {
        match self {
            Origin::File(path) if path.is_dir() => Some(path.display().to_string()),
            Origin::File(path) => Some(folder_of(path)),
            Origin::Text(_) => None,
            Origin::Http(request) => {
                Some(request.url.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned())
            }
        }
    }
}

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> String {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.display().to_string(),
        _ => ".".to_owned(),
    }
}

/// `import.file`.
pub(super) struct ImportFile(pub(super) PathBuf);

impl Decode for ImportFile {
    fn decode(body: &mut Body<'_>) -> Self {
        // Files are watched and looked at now and then, whichever way is asked for.
        let _: Detector = body.optional("detector", Detector);
        let _: Duration = body.optional("poll_frequency", Duration::from_secs(60));
        ImportFile(PathBuf::from(body.required::<String>("filename")))
    }
}

struct Detector;

impl FromValue for Detector {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(value, &[("fsnotify", ()), ("poll", ())]).map(|()| Detector)
    }
}

/// `import.string`.
pub(super) struct ImportString(pub(super) String);

impl Decode for ImportString {
    fn decode(body: &mut Body<'_>) -> Self {
        // `local.file` may say that what it has read is secret. A module is not.
        match body.required("content") {
            Value::Secret(secret) => ImportString(secret.expose().to_owned()),
            Value::String(text) => ImportString(text.to_string()),
            Value::Unknown(_) | Value::Null => ImportString(String::new()),
            other => {
                body.error_at("content", format!("expected string, got {}", other.type_name()));
                ImportString(String::new())
            }
        }
    }
}
