//! The objects, with the fields that labels are made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::kubernetes::{Meta, Object, null_is_empty};

/// Declares a kind of object by its place in the API.
macro_rules! object {
    ($kind:ty, $group:literal, $plural:literal) => {
        impl Object for $kind {
            const GROUP: &'static str = $group;
            const PLURAL: &'static str = $plural;

            fn meta(&mut self) -> &mut Meta {
                &mut self.metadata
            }
        }
    };
}

object!(Pod, "/api/v1", "pods");
object!(Node, "/api/v1", "nodes");
object!(Namespace, "/api/v1", "namespaces");
object!(Service, "/api/v1", "services");
object!(Endpoints, "/api/v1", "endpoints");
object!(EndpointSlice, "/apis/discovery.k8s.io/v1", "endpointslices");
object!(Ingress, "/apis/networking.k8s.io/v1", "ingresses");

#[derive(Debug, PartialEq, Deserialize)]
pub struct Pod {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: PodSpec,
    #[serde(default)]
    pub(super) status: PodStatus,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) node_name: Box<str>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) containers: Box<[Container]>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) init_containers: Box<[Container]>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct Container {
    pub(super) name: Box<str>,
    pub(super) image: Box<str>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) ports: Box<[ContainerPort]>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerPort {
    pub(super) container_port: u32,
    pub(super) name: Box<str>,
    pub(super) protocol: Box<str>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    pub(super) phase: Box<str>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Box<str>,
    #[serde(rename = "hostIP")]
    pub(super) host_ip: Box<str>,
    /// Of the condition `Ready`; empty: there is none.
    #[serde(rename = "conditions", deserialize_with = "readiness")]
    pub(super) ready: Box<str>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) container_statuses: Box<[ContainerStatus]>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) init_container_statuses: Box<[ContainerStatus]>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct ContainerStatus {
    pub(super) name: Box<str>,
    #[serde(rename = "containerID")]
    pub(super) container_id: Box<str>,
}

fn readiness<'de, D: Deserializer<'de>>(from: D) -> Result<Box<str>, D::Error> {
    #[derive(Deserialize)]
    struct Condition {
        r#type: Box<str>,
        #[serde(default)]
        status: Box<str>,
    }
    let conditions: Vec<Condition> = null_is_empty(from)?;
    let ready = conditions.into_iter().find(|condition| &*condition.r#type == "Ready");
    Ok(ready.map(|condition| condition.status.to_lowercase().into()).unwrap_or_default())
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Node {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: NodeSpec,
    #[serde(default)]
    pub(super) status: NodeStatus,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct NodeSpec {
    #[serde(rename = "providerID")]
    pub(super) provider_id: Box<str>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeStatus {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) addresses: Box<[NodeAddress]>,
    pub(super) daemon_endpoints: DaemonEndpoints,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct NodeAddress {
    pub(super) r#type: Box<str>,
    pub(super) address: Box<str>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DaemonEndpoints {
    pub(super) kubelet_endpoint: KubeletEndpoint,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct KubeletEndpoint {
    #[serde(rename = "Port")]
    pub(super) port: u32,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Namespace {
    pub(super) metadata: Meta,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Service {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: ServiceSpec,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceSpec {
    pub(super) r#type: Box<str>,
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Box<str>,
    #[serde(rename = "loadBalancerIP")]
    pub(super) load_balancer_ip: Box<str>,
    pub(super) external_name: Box<str>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) ports: Box<[Port]>,
}

/// Of a service, of endpoints, or of a slice: nothing is said of those that are not there.
#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    pub(super) name: Box<str>,
    pub(super) port: Option<u32>,
    pub(super) protocol: Box<str>,
    pub(super) app_protocol: Box<str>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Endpoints {
    pub(super) metadata: Meta,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) subsets: Box<[Subset]>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Subset {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) addresses: Box<[Address]>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) not_ready_addresses: Box<[Address]>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) ports: Box<[Port]>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Address {
    pub(super) ip: Box<str>,
    pub(super) hostname: Box<str>,
    pub(super) node_name: Box<str>,
    pub(super) target_ref: Option<Reference>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct Reference {
    pub(super) kind: Box<str>,
    pub(super) name: Box<str>,
    pub(super) namespace: Box<str>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) address_type: Box<str>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) endpoints: Box<[Endpoint]>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) ports: Box<[Port]>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Endpoint {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) addresses: Box<[Box<str>]>,
    pub(super) conditions: Conditions,
    pub(super) hostname: Box<str>,
    pub(super) node_name: Box<str>,
    pub(super) zone: Box<str>,
    pub(super) target_ref: Option<Reference>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) deprecated_topology: BTreeMap<Box<str>, Box<str>>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct Conditions {
    pub(super) ready: Option<bool>,
    pub(super) serving: Option<bool>,
    pub(super) terminating: Option<bool>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Ingress {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: IngressSpec,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IngressSpec {
    pub(super) ingress_class_name: Box<str>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) tls: Box<[IngressTls]>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) rules: Box<[IngressRule]>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct IngressTls {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) hosts: Box<[Box<str>]>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct IngressRule {
    pub(super) host: Box<str>,
    pub(super) http: Option<IngressPaths>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct IngressPaths {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) paths: Box<[IngressPath]>,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
pub(super) struct IngressPath {
    pub(super) path: Box<str>,
}
