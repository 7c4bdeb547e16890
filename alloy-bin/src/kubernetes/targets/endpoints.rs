//! Endpoints and slices of them -> targets, as Prometheus makes them: joined with services, pods and nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::labels::{Labels, join};
use super::objects::{Address, Endpoint, EndpointSlice, Endpoints, Pod, Port, Reference};
use super::roles::{containers, pod_labels, service_labels, set_container, set_port};
use super::sources::Sources;
use crate::telemetry::Target;

/// The label that says which service a slice is of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl EndpointSlice {
    /// The name of the service that it is of, or nothing.
    pub(super) fn service(&self) -> &str {
        self.metadata.labels.get(SERVICE_NAME).map_or("", |name| name)
    }
}

/// The pods that targets were made of, and their ports.
type Seen = BTreeMap<(Box<str>, Box<str>), (Arc<Pod>, Vec<u32>)>;

impl Sources {
    /// One target for each address and port, and for each port of their pods that is no endpoint.
    pub fn endpoints(&self, endpoints: &Endpoints) -> Vec<Target> {
        let meta = &endpoints.metadata;
        let mut group = self.of_service(&meta.namespace, &meta.name);
        group.set_meta("endpoints", meta);
        let (mut targets, mut seen) = (Vec::new(), Seen::new());
        for subset in &endpoints.subsets {
            for port in &subset.ports {
                let number = port.port.unwrap_or(0);
                let ready = subset.addresses.iter().map(|address| (address, "true"));
                for (address, ready) in
                    ready.chain(subset.not_ready_addresses.iter().map(|address| (address, "false")))
                {
                    let mut labels = group.clone();
                    set_address(&mut labels, address, port, ready);
                    match (&address.target_ref, &*address.node_name) {
                        (Some(target), "") if &*target.kind == "Node" => {
                            self.attach_node(&mut labels, &target.name)
                        }
                        (_, node) => self.attach_node(&mut labels, node),
                    }
                    self.join_pod(
                        &mut labels,
                        address.target_ref.as_ref(),
                        Some(number),
                        Some(&port.protocol),
                        &mut seen,
                    );
                    targets.push(labels.at(join(&address.ip, number)));
                }
            }
        }
        other_ports(&group, seen, &mut targets);
        targets
    }

    /// The same of a slice.
    pub fn slice(&self, slice: &EndpointSlice) -> Vec<Target> {
        let meta = &slice.metadata;
        let mut group = self.of_service(&meta.namespace, slice.service());
        group.set_meta("endpointslice", meta);
        group.set("endpointslice_address_type", &*slice.address_type);
        let (mut targets, mut seen) = (Vec::new(), Seen::new());
        for endpoint in &slice.endpoints {
            for port in &slice.ports {
                for address in &endpoint.addresses {
                    let mut labels = group.clone();
                    set_endpoint(&mut labels, endpoint, port);
                    match &endpoint.target_ref {
                        Some(target) if &*target.kind == "Node" => {
                            self.attach_node(&mut labels, &target.name)
                        }
                        _ => self.attach_node(&mut labels, &endpoint.node_name),
                    }
                    self.join_pod(&mut labels, endpoint.target_ref.as_ref(), port.port, None, &mut seen);
                    targets
                        .push(labels.at(port.port.map_or(address.to_string(), |port| join(address, port))));
                }
            }
        }
        other_ports(&group, seen, &mut targets);
        targets
    }

    fn of_service(&self, namespace: &str, name: &str) -> Labels {
        let mut labels =
            self.services.get(namespace, name).map(|service| service_labels(&service)).unwrap_or_default();
        self.set_namespace(&mut labels, namespace);
        labels
    }

    /// The labels of the pod behind an address, and of the container behind the port. `protocol`: where it is the endpoint's that counts.
    fn join_pod(
        &self,
        labels: &mut Labels,
        reference: Option<&Reference>,
        number: Option<u32>,
        protocol: Option<&str>,
        seen: &mut Seen,
    ) {
        let Some(reference) = reference.filter(|reference| &*reference.kind == "Pod") else { return };
        let Some(pod) = self.pods.get(&reference.namespace, &reference.name) else { return };
        *labels = labels.and(&pod_labels(&pod));
        for (container, is_init) in containers(&pod) {
            let port = container.ports.iter().find(|port| Some(port.container_port) == number);
            if let Some(port) = port {
                set_container(labels, container, is_init);
                set_port(labels, port, protocol.unwrap_or(&port.protocol));
            }
        }
        let key = (reference.namespace.clone(), reference.name.clone());
        seen.entry(key).or_insert_with(|| (pod, Vec::new())).1.extend(number);
    }
}

/// Ports of containers that are no endpoints: a service need not name the port with the metrics.
fn other_ports(group: &Labels, seen: Seen, targets: &mut Vec<Target>) {
    for (pod, known) in seen.values().filter(|(pod, _)| !pod.status.pod_ip.is_empty()) {
        for (container, is_init) in containers(pod) {
            for port in container.ports.iter().filter(|port| !known.contains(&port.container_port)) {
                let mut labels = group.and(&pod_labels(pod));
                set_container(&mut labels, container, is_init);
                set_port(&mut labels, port, &port.protocol);
                targets.push(labels.at(join(&pod.status.pod_ip, port.container_port)));
            }
        }
    }
}

fn set_address(labels: &mut Labels, address: &Address, port: &Port, ready: &str) {
    labels.set("endpoint_port_name", &*port.name);
    labels.set("endpoint_port_protocol", &*port.protocol);
    labels.set("endpoint_ready", ready);
    labels.set("endpoint_node_name", &*address.node_name);
    labels.set("endpoint_hostname", &*address.hostname);
    if let Some(target) = &address.target_ref {
        labels.set("endpoint_address_target_kind", &*target.kind);
        labels.set("endpoint_address_target_name", &*target.name);
    }
}

fn set_endpoint(labels: &mut Labels, endpoint: &Endpoint, port: &Port) {
    labels.set("endpointslice_port_name", &*port.name);
    labels.set("endpointslice_port_protocol", &*port.protocol);
    labels.set_some("endpointslice_port", port.port);
    labels.set("endpointslice_port_app_protocol", &*port.app_protocol);
    labels.set_some("endpointslice_endpoint_conditions_ready", endpoint.conditions.ready);
    labels.set_some("endpointslice_endpoint_conditions_serving", endpoint.conditions.serving);
    labels.set_some("endpointslice_endpoint_conditions_terminating", endpoint.conditions.terminating);
    labels.set("endpointslice_endpoint_hostname", &*endpoint.hostname);
    labels.set("endpointslice_endpoint_node_name", &*endpoint.node_name);
    labels.set("endpointslice_endpoint_zone", &*endpoint.zone);
    if let Some(target) = &endpoint.target_ref {
        labels.set("endpointslice_address_target_kind", &*target.kind);
        labels.set("endpointslice_address_target_name", &*target.name);
    }
    labels.set_map(
        "endpointslice_endpoint_topology_",
        "endpointslice_endpoint_topology_present_",
        &endpoint.deprecated_topology,
    );
}
