//! The objects that a role is made of: which are watched, and how they are found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::objects::{EndpointSlice, Endpoints, Ingress, Namespace, Node, Pod, Service};
use super::wanted::{Role, Wanted};
use crate::kubernetes::{Api, Object, Selection, Store, Tally};
use crate::telemetry::Target;

/// Names the node that the agent is on, where each node has its own agent: what is on other nodes is others' to find then.
const NODE: &str = "ALLOY_DISCOVERY_NODE";

/// The objects that are needed for what is wanted.
pub struct Sources {
    /// The API that they are in.
    pub api: Arc<Api>,
    /// What is wanted.
    pub wanted: Arc<Wanted>,
    number: u64,
    /// Those that are needed.
    pub pods: Stores<Pod>,
    /// Those that are needed.
    pub nodes: Stores<Node>,
    pub(super) namespaces: Stores<Namespace>,
    /// Those that are needed.
    pub services: Stores<Service>,
    /// Those that are needed.
    pub endpoints: Stores<Endpoints>,
    /// Those that are needed.
    pub slices: Stores<EndpointSlice>,
    /// Those that are needed.
    pub ingresses: Stores<Ingress>,
}

/// The stores of a kind, one for each namespace.
pub struct Stores<T>(Vec<Arc<Store<T>>>);

impl Sources {
    /// Begins to watch what is not watched yet. `id` is of the component.
    pub fn new(wanted: &Arc<Wanted>, id: &str) -> anyhow::Result<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let api = Api::shared(&wanted.access)?;
        let node = std::env::var(NODE).ok().filter(|node| !node.is_empty() && !wanted.all_nodes);
        let plan = Plan { node: plan_node(node, wanted, id), api: &api, wanted };
        let role = wanted.role;
        let (is_endpoints, is_slices) = (role == Role::Endpoints, role == Role::EndpointSlice);
        let attach = wanted.attach;
        let has_node = matches!(role, Role::Pod | Role::Endpoints | Role::EndpointSlice);
        Ok(Sources {
            pods: plan.stores(Role::Pod, role == Role::Pod || is_endpoints || is_slices),
            services: plan.stores(Role::Service, role == Role::Service || is_endpoints || is_slices),
            endpoints: plan.stores(Role::Endpoints, is_endpoints),
            slices: plan.stores(Role::EndpointSlice, is_slices),
            ingresses: plan.stores(Role::Ingress, role == Role::Ingress),
            nodes: plan.of_cluster(Role::Node, role == Role::Node || attach.node && has_node),
            namespaces: match attach.namespace && role != Role::Node {
                true => Stores(vec![api.store(Selection::default())]),
                false => Stores(Vec::new()),
            },
            api: api.clone(),
            wanted: wanted.clone(),
            number: NUMBERS.fetch_add(1, Relaxed),
        })
    }

    /// Whether all objects are known.
    pub fn are_complete(&self) -> bool {
        self.pods.are_complete()
            && self.nodes.are_complete()
            && self.namespaces.are_complete()
            && self.services.are_complete()
            && self.endpoints.are_complete()
            && self.slices.are_complete()
            && self.ingresses.are_complete()
    }

    /// Why they are not up to date, if they are not.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        self.pods.troubles(&mut troubles);
        self.nodes.troubles(&mut troubles);
        self.namespaces.troubles(&mut troubles);
        self.services.troubles(&mut troubles);
        self.endpoints.troubles(&mut troubles);
        self.slices.troubles(&mut troubles);
        self.ingresses.troubles(&mut troubles);
        troubles.dedup();
        troubles
    }

    /// Another number whenever targets may be others though their own objects are not.
    pub fn others(&self) -> u64 {
        let mut others = self.namespaces.generation();
        match self.wanted.role {
            Role::Endpoints | Role::EndpointSlice => {
                others += self.pods.generation() + self.services.generation() + self.nodes.generation();
            }
            Role::Pod => others += self.nodes.generation(),
            Role::Node | Role::Service | Role::Ingress => {}
        }
        others
    }

    /// The targets whose pod, or else service, is wanted: by its namespace and labels.
    pub fn select(&self, is_wanted: impl Fn(&str, &BTreeMap<Box<str>, Box<str>>) -> bool) -> Vec<Target> {
        let none = BTreeMap::new();
        let of_service = |namespace: &str, name: &str| {
            let service = self.services.get(namespace, name);
            is_wanted(namespace, service.as_ref().map_or(&none, |service| &service.metadata.labels))
        };
        let mut targets = Vec::new();
        for (_, pod) in self.pods.all().iter().filter(|_| self.wanted.role == Role::Pod) {
            if is_wanted(&pod.metadata.namespace, &pod.metadata.labels) {
                targets.extend(self.pod(pod));
            }
        }
        for (_, endpoints) in self.endpoints.all() {
            if of_service(&endpoints.metadata.namespace, &endpoints.metadata.name) {
                targets.extend(self.endpoints(&endpoints));
            }
        }
        for (_, slice) in self.slices.all() {
            if of_service(&slice.metadata.namespace, slice.service()) {
                targets.extend(self.slice(&slice));
            }
        }
        targets
    }

    /// Another number whenever targets may be others, and for each set of sources.
    pub fn number(&self) -> u64 {
        let own = self.endpoints.generation() + self.slices.generation() + self.ingresses.generation();
        let shared = self.pods.generation() + self.nodes.generation() + self.services.generation();
        (own + shared + self.namespaces.generation()).wrapping_add(self.number << 32)
    }

    /// What has happened to objects, by role.
    pub fn tallies(&self) -> Vec<(&'static str, &Tally)> {
        fn all<T: Object>(role: Role, stores: &Stores<T>) -> impl Iterator<Item = (&'static str, &Tally)> {
            stores.0.iter().take(1).map(move |store| (role.name(), store.tally()))
        }
        let tallies = all(Role::Pod, &self.pods).chain(all(Role::Node, &self.nodes));
        let tallies =
            tallies.chain(all(Role::Service, &self.services)).chain(all(Role::Endpoints, &self.endpoints));
        let tallies = tallies.chain(all(Role::EndpointSlice, &self.slices));
        tallies.chain(all(Role::Ingress, &self.ingresses)).collect()
    }
}

/// The node to which discovery is confined; said once in the log.
fn plan_node(node: Option<String>, wanted: &Wanted, id: &str) -> Option<String> {
    let role = wanted.role;
    let has_own = wanted.selectors.iter().any(|own| own.role == role && !own.field.is_empty());
    let node = node.filter(|_| matches!(role, Role::Pod | Role::Node) && !has_own)?;
    tracing::info!(
        component = id,
        node,
        role = role.name(),
        "only what is on this node is discovered (ALLOY_DISCOVERY_NODE); all_nodes = true discovers the rest"
    );
    Some(node)
}

struct Plan<'a> {
    api: &'a Arc<Api>,
    wanted: &'a Wanted,
    node: Option<String>,
}

impl Plan<'_> {
    fn stores<T: Object>(&self, role: Role, is_needed: bool) -> Stores<T> {
        if !is_needed {
            return Stores(Vec::new());
        }
        let Wanted { namespaces, .. } = self.wanted;
        let own = namespaces.own.then(|| self.api.namespace()).flatten();
        let mut names: Vec<String> = namespaces.names.iter().cloned().chain(own.map(str::to_owned)).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            names.push(String::new());
        }
        Stores(names.into_iter().map(|name| self.api.store(self.selection(role, name))).collect())
    }

    fn of_cluster<T: Object>(&self, role: Role, is_needed: bool) -> Stores<T> {
        let store = || self.api.store(self.selection(role, String::new()));
        Stores(is_needed.then(store).into_iter().collect())
    }

    fn selection(&self, role: Role, namespace: String) -> Selection {
        let selector = self.wanted.selectors.iter().find(|selector| selector.role == role);
        let (labels, mut fields) =
            selector.map(|selector| (selector.label.clone(), selector.field.clone())).unwrap_or_default();
        if let Some(node) = &self.node {
            match role {
                Role::Pod => fields = format!("spec.nodeName={node}"),
                Role::Node => fields = format!("metadata.name={node}"),
                _ => {}
            }
        }
        Selection { namespace, labels, fields }
    }
}

impl<T: Object> Stores<T> {
    /// All objects by their keys.
    pub fn all(&self) -> Vec<(Box<str>, Arc<T>)> {
        self.0.iter().flat_map(|store| store.all()).collect()
    }

    /// The object of that name; of the whole cluster, if there is no namespace.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        if self.0.is_empty() {
            return None;
        }
        let key = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
        self.0.iter().find_map(|store| store.get(&key))
    }

    fn are_complete(&self) -> bool {
        self.0.iter().all(|store| store.is_complete())
    }

    fn troubles(&self, troubles: &mut Vec<String>) {
        troubles
            .extend(self.0.iter().filter_map(|store| Some(format!("{}: {}", T::PLURAL, store.trouble()?))));
    }

    fn generation(&self) -> u64 {
        self.0.iter().map(|store| store.generation()).sum()
    }
}
