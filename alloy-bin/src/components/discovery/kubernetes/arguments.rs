//! What the block of `discovery.kubernetes` says.

use crate::config::{Body, ConversionError, Decode, FromValue, Value};
use crate::kubernetes::{Access, Attach, Namespaces, Role, Selector, Wanted};

impl Decode for Wanted {
    fn decode(body: &mut Body<'_>) -> Self {
        // `api_server`, `kubeconfig_file` and those of the HTTP client.
        let access = Access::decode(body);
        let arguments = Wanted {
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

impl FromValue for Role {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(value, &Role::NAMES)
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
