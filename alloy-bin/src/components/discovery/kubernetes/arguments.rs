//! What the block of `discovery.kubernetes` says.

use crate::config::{Body, ConversionError, Decode, FromValue, Value};
use crate::kubernetes::Access;

/// The decoded block.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    pub(super) access: Access,
    pub(super) role: Role,
    pub(super) namespaces: Namespaces,
    pub(super) selectors: Vec<Selector>,
    pub(super) attach: Attach,
    pub(super) all_nodes: bool,
}

/// What becomes targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Role {
    Node,
    #[default]
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
}

/// Where it is looked for; nowhere said: everywhere.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Namespaces {
    pub(super) own: bool,
    pub(super) names: Vec<String>,
}

/// Of one kind of object only some.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selector {
    pub(super) role: Role,
    pub(super) label: String,
    pub(super) field: String,
}

/// Labels of what targets belong to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Attach {
    pub(super) node: bool,
    pub(super) namespace: bool,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        // `api_server`, `kubeconfig_file` and those of the HTTP client.
        let access = Access::decode(body);
        let arguments = Arguments {
            role: body.required("role"),
            namespaces: body.block("namespaces").unwrap_or_default(),
            selectors: body.blocks("selectors"),
            attach: body.block("attach_metadata").unwrap_or_default(),
            all_nodes: body.optional("all_nodes", false),
            access,
        };
        if arguments.namespaces.own && !arguments.access.is_in_cluster() {
            body.error("own_namespace is known in a pod only: with api_server or kubeconfig_file give names");
        }
        let allowed = arguments.role.selectable();
        for (at, selector) in arguments.selectors.iter().enumerate() {
            if !allowed.contains(&selector.role) {
                let names: Vec<&str> = allowed.iter().map(|role| role.name()).collect();
                let role = arguments.role.name();
                body.error(format!("{role} role supports only {} selectors", names.join(", ")));
            }
            if arguments.selectors[..at].iter().any(|other| other.role == selector.role) {
                body.error(format!("duplicated selector role: {}", selector.role.name()));
            }
        }
        arguments
    }
}

impl Role {
    const NAMES: [(&str, Role); 6] = [
        ("node", Role::Node),
        ("pod", Role::Pod),
        ("service", Role::Service),
        ("endpoints", Role::Endpoints),
        ("endpointslice", Role::EndpointSlice),
        ("ingress", Role::Ingress),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, role)| *role == self).map_or("", |(name, _)| name)
    }

    /// Of which objects some can be selected: those that are read for the role.
    fn selectable(self) -> &'static [Role] {
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

impl FromValue for Role {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(value, &Self::NAMES)
    }
}

impl Decode for Namespaces {
    fn decode(body: &mut Body<'_>) -> Self {
        Namespaces { own: body.optional("own_namespace", false), names: body.optional("names", Vec::new()) }
    }
}

impl Decode for Selector {
    fn decode(body: &mut Body<'_>) -> Self {
        Selector {
            role: body.required("role"),
            label: body.optional("label", String::new()),
            field: body.optional("field", String::new()),
        }
    }
}

impl Decode for Attach {
    fn decode(body: &mut Body<'_>) -> Self {
        Attach { node: body.optional("node", false), namespace: body.optional("namespace", false) }
    }
}
