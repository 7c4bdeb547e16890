//! Making the labels of a target.

use std::collections::BTreeMap;

use crate::kubernetes::Meta;
use crate::telemetry::Target;

/// The labels of a target, while it is made. An empty value is no label.
#[derive(Clone, Default)]
pub(super) struct Labels(BTreeMap<String, String>);

impl Labels {
    /// A label `__meta_kubernetes_NAME`.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.set_plain(format!("__meta_kubernetes_{name}"), value.into());
    }

    /// If there is a value.
    pub(super) fn set_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.set(name, value.to_string());
        }
    }

    /// The name, labels and annotations of an object of that role.
    pub(super) fn set_meta(&mut self, role: &str, meta: &Meta) {
        self.set(&format!("{role}_name"), &*meta.name);
        self.set_described(role, meta);
    }

    /// Its labels and annotations alone.
    pub(super) fn set_described(&mut self, role: &str, meta: &Meta) {
        self.set_map(&format!("{role}_label_"), &format!("{role}_labelpresent_"), &meta.labels);
        self.set_map(
            &format!("{role}_annotation_"),
            &format!("{role}_annotationpresent_"),
            &meta.annotations,
        );
    }

    pub(super) fn set_map(&mut self, prefix: &str, present: &str, map: &BTreeMap<Box<str>, Box<str>>) {
        for (name, value) in map {
            let name = sanitized(name);
            self.set(&format!("{prefix}{name}"), &**value);
            self.set(&format!("{present}{name}"), "true");
        }
    }

    /// With these labels, too; where both have one of a name, these count.
    pub(super) fn and(&self, more: &Labels) -> Labels {
        let mut both = self.clone();
        both.0.extend(more.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        both
    }

    /// The target at that address.
    pub(super) fn at(mut self, address: impl Into<String>) -> Target {
        self.set_plain("__address__".to_owned(), address.into());
        Target(self.0)
    }

    pub(super) fn set_plain(&mut self, name: String, value: String) {
        if value.is_empty() {
            self.0.remove(&name);
        } else {
            self.0.insert(name, value);
        }
    }
}

/// What may stand in the name of a label.
pub fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A host and a port, as Go joins them.
pub(super) fn join(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
