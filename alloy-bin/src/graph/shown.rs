//! The graph for people: components, who refers to whom, what they were given.

use std::collections::BTreeSet;

use crate::config::{Argument, shown_exports};
use crate::server;

use super::live::Live;
use super::node::{Node, Role};
use super::running::{Graph, State};
use super::values;

impl server::Components for Graph {
    fn unhealthy(&self) -> Vec<(String, String)> {
        let lives = self.lives();
        let components =
            lives.iter().filter_map(|live| Some((live.id().to_string(), live.context.health.trouble()?)));
        components.chain(self.troubles()).collect()
    }

    fn list(&self) -> Vec<server::Component> {
        self.look(|state| {
            let references: Vec<BTreeSet<usize>> =
                (0..state.nodes.len()).map(|index| references(&state.nodes, index)).collect();
            let component = |(index, node): (usize, &Node)| match &node.role {
                Role::Component(live) => Some(component(state, &references, index, live)),
                _ => None,
            };
            state.nodes.iter().enumerate().filter_map(component).collect()
        })
    }

    fn details(&self, id: &str) -> Option<server::Details> {
        let component = self.list().into_iter().find(|component| component.id() == id)?;
        let live = self.lives().into_iter().find(|live| **live.id() == *id)?;
        let arguments = live.arguments().iter().map(Argument::to_json).collect();
        Some(server::Details { component, arguments, exports: shown_exports(&live.context.exports.value()) })
    }

    fn sources(&self) -> Vec<(String, String)> {
        self.look(|state| state.sources.outlines())
    }

    fn watch(&self, id: &str, watcher: server::Watcher) -> Option<bool> {
        let live = self.lives().into_iter().find(|live| **live.id() == *id)?;
        Some(values::watch(&live.context.exports.value(), watcher))
    }
}

fn component(state: &State, references: &[BTreeSet<usize>], index: usize, live: &Live) -> server::Component {
    let (module, local_id) = live.id().rsplit_once('/').unwrap_or(("", live.id()));
    let block = live.given().block;
    let ids = |indexes: &mut dyn Iterator<Item = usize>| -> Vec<String> {
        indexes.map(|index| state.nodes[index].id.to_string()).collect()
    };
    let is_component = |index: &usize| matches!(state.nodes[*index].role, Role::Component(_));
    let refers = |other: &usize| references[*other].contains(&index);
    server::Component {
        name: block.name.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join("."),
        label: block.label.as_ref().map(|label| label.text.clone()).unwrap_or_default(),
        local_id: local_id.to_owned(),
        module_id: module.to_owned(),
        references_to: ids(&mut references[index].iter().copied()),
        referenced_by: ids(&mut (0..state.nodes.len()).filter(is_component).filter(refers)),
        takes_data: values::has_receiver(&live.context.exports.value()),
        trouble: live.context.health.trouble(),
        position: state.sources.location(block.header()).to_string(),
    }
}

/// The components that a node refers to, directly or through values on the way.
fn references(nodes: &[Node], index: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<usize> = nodes[index].needs.iter().map(|(_, need)| *need).collect();
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if !seen.insert(next) {
            continue;
        }
        match nodes[next].role {
            Role::Component(_) => drop(found.insert(next)),
            _ => open.extend(nodes[next].needs.iter().map(|(_, need)| *need)),
        }
    }
    found
}
