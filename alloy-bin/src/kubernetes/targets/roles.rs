//! Pods, nodes, services and ingresses -> targets, as Prometheus makes them.

use super::labels::{Labels, join, sanitized};
use super::objects::{Container, ContainerPort, ContainerStatus, Ingress, Node, Pod, Service};
use super::sources::Sources;
use crate::telemetry::Target;

/// Which of a node's addresses counts: the first of these that it has.
const NODE_ADDRESSES: [&str; 6] =
    ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

impl Sources {
    /// One target for each port of each container, or for a container without ports. A pod without an address has none yet.
    pub fn pod(&self, pod: &Pod) -> Vec<Target> {
        if pod.status.pod_ip.is_empty() {
            return Vec::new();
        }
        let mut group = pod_labels(pod);
        self.set_namespace(&mut group, &pod.metadata.namespace);
        self.attach_node(&mut group, &pod.spec.node_name);
        let mut targets = Vec::new();
        for (container, is_init) in containers(pod) {
            let statuses =
                if is_init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
            let status = statuses.iter().find(|status| status.name == container.name);
            let mut labels = group.clone();
            labels.set(
                "pod_container_id",
                status.map_or("", |ContainerStatus { container_id, .. }| container_id),
            );
            set_container(&mut labels, container, is_init);
            if container.ports.is_empty() {
                targets.push(labels.at(&*pod.status.pod_ip));
                continue;
            }
            for port in &container.ports {
                let mut labels = labels.clone();
                set_port(&mut labels, port, &port.protocol);
                targets.push(labels.at(join(&pod.status.pod_ip, port.container_port)));
            }
        }
        targets
    }

    /// The node's kubelet.
    pub fn node(&self, node: &Node) -> Vec<Target> {
        let addresses = &node.status.addresses;
        let of = |kind: &str| addresses.iter().find(|address| &*address.r#type == kind);
        let Some(address) = NODE_ADDRESSES.into_iter().find_map(of) else {
            tracing::warn!(node = &*node.metadata.name, "the node has no address");
            return Vec::new();
        };
        let mut labels = Labels::default();
        labels.set_meta("node", &node.metadata);
        labels.set("node_provider_id", &*node.spec.provider_id);
        labels.set_plain("instance".to_owned(), node.metadata.name.to_string());
        // Of several addresses of a kind the first counts.
        for address in addresses.iter().rev() {
            labels.set(&format!("node_address_{}", sanitized(&address.r#type)), &*address.address);
        }
        vec![labels.at(join(&address.address, node.status.daemon_endpoints.kubelet_endpoint.port))]
    }

    /// One target for each port, by the service's name.
    pub fn service(&self, service: &Service) -> Vec<Target> {
        let (meta, spec) = (&service.metadata, &service.spec);
        let mut group = service_labels(service);
        self.set_namespace(&mut group, &meta.namespace);
        group.set("service_type", &*spec.r#type);
        match &*spec.r#type {
            "ExternalName" => group.set("service_external_name", &*spec.external_name),
            _ => group.set("service_cluster_ip", &*spec.cluster_ip),
        }
        if &*spec.r#type == "LoadBalancer" {
            group.set("service_loadbalancer_ip", &*spec.load_balancer_ip);
        }
        let target = |port: &super::objects::Port| {
            let mut labels = group.clone();
            let number = port.port.unwrap_or(0);
            labels.set("service_port_name", &*port.name);
            labels.set("service_port_number", number.to_string());
            labels.set("service_port_protocol", &*port.protocol);
            labels.at(join(&format!("{}.{}.svc", meta.name, meta.namespace), number))
        };
        spec.ports.iter().map(target).collect()
    }

    /// One target for each path of each rule.
    pub fn ingress(&self, ingress: &Ingress) -> Vec<Target> {
        let spec = &ingress.spec;
        let mut group = Labels::default();
        group.set_meta("ingress", &ingress.metadata);
        self.set_namespace(&mut group, &ingress.metadata.namespace);
        group.set("ingress_class_name", &*spec.ingress_class_name);
        let mut targets = Vec::new();
        for rule in &spec.rules {
            let is_secure = spec.tls.iter().flat_map(|tls| &tls.hosts).any(|host| is_host(host, &rule.host));
            group.set("ingress_scheme", if is_secure { "https" } else { "http" });
            group.set("ingress_host", &*rule.host);
            let paths = rule.http.iter().flat_map(|http| &http.paths).map(|path| &*path.path);
            let paths: Vec<&str> = if rule.http.is_some() { paths.collect() } else { vec!["/"] };
            for path in paths {
                let mut labels = group.clone();
                labels.set("ingress_path", if path.is_empty() { "/" } else { path });
                targets.push(labels.at(&*rule.host));
            }
        }
        targets
    }

    /// The namespace, and what is said of it if that is wanted.
    pub(super) fn set_namespace(&self, labels: &mut Labels, name: &str) {
        labels.set("namespace", name);
        if let Some(namespace) = self.namespaces.get("", name) {
            labels.set_described("namespace", &namespace.metadata);
        }
    }

    /// What is said of the node, if that is wanted.
    pub(super) fn attach_node(&self, labels: &mut Labels, name: &str) {
        if let Some(node) =
            Some(name).filter(|_| self.wanted.attach.node).and_then(|name| self.nodes.get("", name))
        {
            labels.set_meta("node", &node.metadata);
        }
    }
}

pub(super) fn pod_labels(pod: &Pod) -> Labels {
    let status = &pod.status;
    let mut labels = Labels::default();
    labels.set_meta("pod", &pod.metadata);
    labels.set("pod_ip", &*status.pod_ip);
    labels.set("pod_ready", if status.ready.is_empty() { "unknown" } else { &status.ready });
    labels.set("pod_phase", &*status.phase);
    labels.set("pod_node_name", &*pod.spec.node_name);
    labels.set("pod_host_ip", &*status.host_ip);
    labels.set("pod_uid", &*pod.metadata.uid);
    if let Some(owner) = pod.metadata.owner_references.iter().find(|owner| owner.controller) {
        labels.set("pod_controller_kind", &*owner.kind);
        labels.set("pod_controller_name", &*owner.name);
    }
    labels
}

pub(super) fn service_labels(service: &Service) -> Labels {
    let mut labels = Labels::default();
    labels.set_meta("service", &service.metadata);
    labels
}

/// All containers, and whether each is one that runs before the others.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    let first = pod.spec.init_containers.iter().map(|container| (container, true));
    pod.spec.containers.iter().map(|container| (container, false)).chain(first)
}

pub(super) fn set_container(labels: &mut Labels, container: &Container, is_init: bool) {
    labels.set("pod_container_name", &*container.name);
    labels.set("pod_container_image", &*container.image);
    labels.set("pod_container_init", is_init.to_string());
}

pub(super) fn set_port(labels: &mut Labels, port: &ContainerPort, protocol: &str) {
    labels.set("pod_container_port_name", &*port.name);
    labels.set("pod_container_port_number", port.container_port.to_string());
    labels.set("pod_container_port_protocol", protocol);
}

/// Whether the pattern, which may begin with `*.`, stands for that host.
fn is_host(pattern: &str, host: &str) -> bool {
    let behind_first = |name: &str| name.split_once('.').map(|(_, rest)| rest.to_owned());
    pattern == host
        || pattern.strip_prefix("*.").is_some_and(|rest| behind_first(host).is_some_and(|host| host == rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_part_of_a_name() {
        let check = |pattern: &str, host: &str, expected: bool| {
            assert_eq!(is_host(pattern, host), expected, "{pattern} {host}");
        };
        check("a.example", "a.example", true);
        check("*.example", "a.example", true);
        check("*.example", "b.a.example", false);
        check("*.example", "example", false);
        check("*", "a", false);
        check("b.example", "a.example", false);
    }
}
