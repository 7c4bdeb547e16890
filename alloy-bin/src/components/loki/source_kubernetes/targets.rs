//! Targets -> containers.

use std::collections::BTreeMap;
use std::hash::Hasher;

use crate::http_client::escape;
use crate::telemetry::{Labels, Target};

/// A container whose log is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Container {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) name: String,
    /// Of the pod; empty: any pod of that name.
    pub(super) uid: String,
    /// Of its lines.
    pub(super) labels: Labels,
}

impl Container {
    /// `None`: the target does not say which container it is.
    fn new(target: &Target, job: &str) -> Option<Self> {
        let value = |own: &str, found: &str| {
            let either = target.get(own).filter(|value| !value.is_empty()).or_else(|| target.get(found));
            either.unwrap_or_default().to_owned()
        };
        let namespace = value("__pod_namespace__", "__meta_kubernetes_namespace");
        let pod = value("__pod_name__", "__meta_kubernetes_pod_name");
        let name = value("__pod_container_name__", "__meta_kubernetes_pod_container_name");
        let uid = value("__pod_uid__", "__meta_kubernetes_pod_uid");
        if [&namespace, &pod, &name].iter().any(|part| part.is_empty()) {
            return None;
        }
        let instance = format!("{namespace}/{pod}:{name}");
        let defaults = [("instance", instance.as_str()), ("job", job)];
        let defaults =
            defaults.into_iter().filter(|(name, _)| target.get(name).unwrap_or_default().is_empty());
        let labels = Labels::new(target.public_labels().chain(defaults));
        Some(Container { namespace, pod, name, uid, labels })
    }

    /// Who owns it depends on this alone: not on labels, of which members may see different ones.
    fn key(&self) -> u64 {
        let mut hasher = twox_hash::XxHash64::with_seed(0);
        for part in [&self.namespace, &self.pod, &self.name, &self.uid] {
            hasher.write(part.as_bytes());
            hasher.write(&[0xff]);
        }
        hasher.finish()
    }

    /// For people, and in the file of positions.
    pub(super) fn title(&self) -> String {
        format!("{}/{}:{}", self.namespace, self.pod, self.name)
    }

    /// The pod in the API.
    pub(super) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", escape(&self.namespace), escape(&self.pod))
    }
}

/// The containers by key. Discovery has a target for each port: a container counts once, with the labels of its first.
pub(super) fn containers(targets: &[Target], id: &str) -> BTreeMap<u64, Container> {
    let mut containers = BTreeMap::new();
    for target in targets {
        match Container::new(target, id) {
            Some(container) => _ = containers.entry(container.key()).or_insert(container),
            None => {
                tracing::warn!(component = id, labels = ?target.0,
                    "target does not say which container of which pod it is, it is left out");
            }
        }
    }
    containers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(pairs: &[(&str, &str)]) -> Target {
        Target(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn a_container_is_one_whatever_ports_and_labels_it_has() {
        let meta = [
            ("__meta_kubernetes_namespace", "shop"),
            ("__meta_kubernetes_pod_name", "web-0"),
            ("__meta_kubernetes_pod_container_name", "web"),
            ("__meta_kubernetes_pod_uid", "u"),
        ];
        let one = target(&[&meta[..], &[("__address__", "1:80"), ("app", "a")]].concat());
        let other = target(&[&meta[..], &[("__address__", "1:81"), ("job", "b")]].concat());
        let own = target(&[
            ("__pod_namespace__", "shop"),
            ("__pod_name__", "web-0"),
            ("__pod_container_name__", "side"),
            ("__pod_uid__", "u"),
        ]);
        let found = containers(&[one, other, own, target(&[("a", "b")])], "id");
        let labels: Vec<String> = found.values().map(|container| format!("{:?}", container.labels)).collect();
        assert_eq!(found.len(), 2, "{labels:?}");
        assert!(
            labels.contains(&r#"{app="a", instance="shop/web-0:web", job="id"}"#.to_owned()),
            "{labels:?}"
        );
        assert!(labels.contains(&r#"{instance="shop/web-0:side", job="id"}"#.to_owned()), "{labels:?}");
    }
}
