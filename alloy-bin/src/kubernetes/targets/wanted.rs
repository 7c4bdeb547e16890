//! Which targets are wanted.

use crate::kubernetes::Access;

/// Which targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Where the API server is.
    pub access: Access,
    /// What becomes targets.
    pub role: Role,
    /// Where.
    pub namespaces: Namespaces,
    /// Only of these objects.
    pub selectors: Vec<Selector>,
    /// With labels of what they belong to.
    pub attach: Attach,
    /// Not those of the agent's own node alone, where each node has its agent.
    pub all_nodes: bool,
}

/// What becomes targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Role {
    /// Kubelets.
    Node,
    /// Ports of containers.
    #[default]
    Pod,
    /// Ports of services.
    Service,
    /// Addresses behind services.
    Endpoints,
    /// The same, in the newer form.
    EndpointSlice,
    /// Paths of hosts.
    Ingress,
}

/// Where it is looked for; nowhere said: everywhere.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Namespaces {
    /// The agent's own.
    pub own: bool,
    /// These.
    pub names: Vec<String>,
}

/// Of one kind of object only some.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// The kind.
    pub role: Role,
    /// With these labels, in the API's own syntax.
    pub label: String,
    /// With these values in fields.
    pub field: String,
}

/// Labels of what targets belong to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Attach {
    /// The node.
    pub node: bool,
    /// The namespace.
    pub namespace: bool,
}

impl Role {
    /// As they are written.
    pub const NAMES: [(&str, Role); 6] = [
        ("node", Role::Node),
        ("pod", Role::Pod),
        ("service", Role::Service),
        ("endpoints", Role::Endpoints),
        ("endpointslice", Role::EndpointSlice),
        ("ingress", Role::Ingress),
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, role)| *role == self).map_or("", |(name, _)| name)
    }

    /// Of which objects some can be selected: those that are read for the role.
    pub fn selectable(self) -> &'static [Role] {
        match self {
            Role::Node => &[Role::Node],
            Role::Pod => &[Role::Pod],
            Role::Service => &[Role::Service],
            Role::Endpoints => &[Role::Pod, Role::Service, Role::Endpoints],
            Role::EndpointSlice => &[Role::Pod, Role::Service, Role::EndpointSlice],
            Role::Ingress => &[Role::Ingress],
        }
    }
}
