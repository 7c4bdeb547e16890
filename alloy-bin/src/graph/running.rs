//! The running graph: makes the components in order, evaluates again what depends on a change, stops them in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Decode, Scope, decode_block, stdlib};
use crate::ownership::Ownership;
use crate::server;
use crate::syntax::ast::Block;
use crate::syntax::{Diagnostics, Sources};
use crate::telemetry::{Collect, Page};

use super::changes::Changes;
use super::component::{Context, Exports, Health, Registration, Running};
use super::load::Loaded;
use super::plan::{Plan, plan};

/// How long one component may take to stop before the agent goes on without it. A component's own flush is shorter.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Components and who refers to whom.
pub struct Graph {
    /// Each behind the ones it needs.
    nodes: Vec<Node>,
    stdlib: Arc<Scope>,
    sources: Sources,
    changes: Arc<Changes>,
}

struct Node {
    block: Block,
    needs: Vec<usize>,
    running: Arc<dyn Running>,
    exports: Exports,
    health: Health,
}

/// What every component gets from the agent.
#[derive(Clone)]
pub struct Host {
    /// `--storage.path`.
    pub storage: PathBuf,
    /// Who owns what.
    pub ownership: Ownership,
}

/// A configuration that has been checked as far as that can be done without making anything.
pub struct Checked {
    plan: Plan,
    stdlib: Scope,
    sources: Sources,
}

impl Checked {
    /// Checks what was loaded: names, labels, references, cycles. `hostname` is what `constants.hostname` says. The error
    /// is the text for people.
    pub fn new(loaded: Loaded, registrations: &[Registration], hostname: &str) -> Result<Self, String> {
        let Loaded { statements, sources } = loaded;
        let stdlib = stdlib(hostname);
        match plan(statements, registrations, &stdlib, &sources) {
            Ok(plan) => Ok(Checked { plan, stdlib, sources }),
            Err(diagnostics) => Err(diagnostics.render(&sources)),
        }
    }

    /// Decodes the `logging` block, or its defaults where there is none.
    pub fn logging<T: Decode + Default>(&self) -> Result<T, String> {
        let Some(block) = &self.plan.logging else { return Ok(T::default()) };
        decode_block(block, &self.stdlib).map_err(|diagnostics| diagnostics.render(&self.sources))
    }

    /// Makes the components, in order. All errors that can be found are reported: only what refers to a component with
    /// an error is passed over.
    pub fn build(self, host: &Host) -> Result<Graph, String> {
        let Checked { plan, stdlib, sources } = self;
        let stdlib = Arc::new(stdlib);
        let changes = Arc::new(Changes::default());
        let mut diagnostics = Diagnostics::default();
        let mut nodes: Vec<Option<Node>> = Vec::new();
        for planned in plan.nodes {
            let needs: Vec<usize> = planned.needs.into_iter().collect();
            let mut scope = Scope::inside(stdlib.clone());
            let mut complete = true;
            for need in &needs {
                match &nodes[*need] {
                    Some(node) => scope.set(node.block.id(), node.exports.value()),
                    None => complete = false,
                }
            }
            nodes.push(None);
            if !complete {
                continue;
            }
            let index = nodes.len() - 1;
            let id = planned.block.id();
            let exports = Exports::new(index, changes.clone());
            let health = Health::default();
            let context = Context {
                storage: host.storage.join(&id),
                id: id.into(),
                ownership: host.ownership.clone(),
                exports: exports.clone(),
                health: health.clone(),
            };
            match (planned.registration.build)(&planned.block, &scope, context) {
                Ok(running) => {
                    nodes[index] = Some(Node { block: planned.block, needs, running, exports, health });
                }
                Err(found) => diagnostics.extend(found),
            }
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics.render(&sources));
        }
        let nodes = nodes.into_iter().flatten().collect();
        // What was set while building is in the scopes already.
        changes.take();
        Ok(Graph { nodes, stdlib, sources, changes })
    }
}

impl Graph {
    /// Runs all components until `stop`, then stops each after those that send to it.
    pub async fn run(&self, stop: CancellationToken) {
        let mut tasks: Vec<Option<(CancellationToken, JoinHandle<()>)>> = Vec::new();
        for node in &self.nodes {
            let (token, running, health) =
                (CancellationToken::new(), node.running.clone(), node.health.clone());
            let (id, task_token) = (node.block.id(), token.clone());
            let task = tokio::spawn(async move {
                // A task of its own, so that a panic is a component's end and not the agent's.
                if let Err(error) = tokio::spawn({
                    let token = task_token.clone();
                    async move { running.run(token).await }
                })
                .await
                {
                    tracing::error!(component_id = id, %error, "a component has failed");
                    health.ended(format!("has failed: {error}"));
                } else if !task_token.is_cancelled() {
                    tracing::error!(component_id = id, "a component has ended by itself");
                    health.ended("has ended by itself");
                }
            });
            tasks.push(Some((token, task)));
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                changed = self.changes.next() => self.evaluate_dependants(&changed.into_iter().collect::<Vec<_>>()),
            }
        }
        self.stop_in_order(tasks).await;
    }

    /// Gives new arguments to the components that refer to one of `changed`.
    fn evaluate_dependants(&self, changed: &[usize]) {
        for node in self.nodes.iter().filter(|node| node.needs.iter().any(|need| changed.contains(need))) {
            let mut scope = Scope::inside(self.stdlib.clone());
            for need in &node.needs {
                scope.set(self.nodes[*need].block.id(), self.nodes[*need].exports.value());
            }
            let trouble = self.update(node, &scope).err();
            if let Some(error) = &trouble {
                tracing::error!(
                    component_id = node.block.id(),
                    error,
                    "the new arguments are not valid; the old ones go on"
                );
            }
            node.health.arguments(trouble);
        }
    }

    /// Gives new arguments to one component. A panic over them is its own trouble and not the graph's end.
    fn update(&self, node: &Node, scope: &Scope) -> Result<(), String> {
        match catch_unwind(AssertUnwindSafe(|| node.running.update(&node.block, scope))) {
            Ok(updated) => updated.map_err(|diagnostics| diagnostics.render(&self.sources)),
            Err(_) => Err("it panicked over its new arguments".to_owned()),
        }
    }

    /// A component is stopped when all that send to it have stopped: each refers to the ones it sends to.
    async fn stop_in_order(&self, mut tasks: Vec<Option<(CancellationToken, JoinHandle<()>)>>) {
        while tasks.iter().any(Option::is_some) {
            let needed: Vec<usize> = (0..tasks.len())
                .filter(|index| tasks[*index].is_some())
                .flat_map(|index| self.nodes[index].needs.iter().copied())
                .collect();
            let free = (0..tasks.len()).filter(|index| !needed.contains(index));
            let group: Vec<_> = free.filter_map(|index| Some((index, tasks[index].take()?))).collect();
            group.iter().for_each(|(_, (token, _))| token.cancel());
            for (index, (_, task)) in group {
                if tokio::time::timeout(STOP_PATIENCE, task).await.is_err() {
                    let id = self.nodes[index].block.id();
                    tracing::error!(component_id = id, patience = ?STOP_PATIENCE, "a component does not stop; going on without it");
                }
            }
        }
    }
}

impl Collect for Graph {
    fn collect(&self, page: &mut Page) {
        let trouble = self.nodes.iter().filter(|node| node.health.trouble().is_some()).count();
        for (state, count) in [("healthy", self.nodes.len() - trouble), ("unhealthy", trouble)] {
            let help = "Number of running components by health.";
            page.gauge(
                "alloy_component_controller_running_components",
                help,
                &[("health_type", state)],
                count as f64,
            );
        }
        for node in &self.nodes {
            let id = node.block.id();
            page.labelled(&[("component_id", &id), ("component_path", "/")], |page| {
                node.running.collect(page);
            });
        }
    }
}

impl server::Health for Graph {
    fn unhealthy(&self) -> Vec<(String, String)> {
        self.nodes.iter().filter_map(|node| Some((node.block.id(), node.health.trouble()?))).collect()
    }
}
