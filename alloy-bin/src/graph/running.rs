//! The running graph: evaluates again what depends on a change, turns one configuration into the next as a transaction,
//! brings back what has failed, stops everything in order.
//!
//! ```text
//! read, parse, check ──► make what is new ──► give new arguments ──► start what is new ──► stop what is gone
//!        │                      │                      │
//!        └──────────────────────┴── an error: ─────────┴─► what was made is dropped, old arguments are given back
//! ```
//!
//! One task does all this, one thing after the other. Others ask it to, and look.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Scope, Value, stdlib};
use crate::syntax::Sources;

use super::changes::{Changes, News};
use super::check::{Parsed, Settings};
use super::component::Registration;
use super::expand::Expansion;
use super::imports::Contents;
use super::live::{Given, Live, blocking};
use super::load;
use super::make::{Host, Maker, Step};
use super::node::{Node, Role};
use super::status::Status;
use super::stop::{stop_all, stop_order};

/// A configuration that was checked and found good, before anything is made of it.
pub struct Checked {
    parsed: Parsed,
    contents: Contents,
    world: World,
}

/// What does not change while the agent runs.
struct World {
    path: PathBuf,
    registrations: Vec<Registration>,
    stdlib: Arc<Scope>,
}

impl Checked {
    /// Reads and checks; the error is the text for people. `hostname` is what `constants.hostname` says.
    pub fn load(path: &Path, registrations: &[Registration], hostname: &str) -> Result<Self, String> {
        let parsed = Parsed::read(path).map_err(|error| format!("{error:#}"))?;
        let stdlib = Arc::new(stdlib(hostname));
        let (checkup, contents) = parsed.check(registrations, &stdlib, &Contents::default());
        checkup.result()?;
        let world = World { path: path.to_owned(), registrations: registrations.to_vec(), stdlib };
        Ok(Checked { parsed, contents, world })
    }

    /// What it says to the agent itself.
    pub fn settings(&self) -> Result<Settings, String> {
        self.parsed.agent_settings(&self.world.stdlib)
    }

    /// Makes the components, in order. They do not run yet. `settings` takes what later configurations say to the agent.
    pub async fn build(
        self,
        host: Host,
        settings: impl Fn(Settings) + Send + Sync + 'static,
    ) -> Result<Graph, String> {
        let Checked { parsed, contents, world } = self;
        let (requests, asked) = mpsc::channel(1);
        let inner = Inner {
            world,
            host,
            settings: Box::new(settings),
            changes: Arc::default(),
            state: Mutex::default(),
            pollers: Mutex::default(),
            status: Status::default(),
        };
        let graph = Graph { inner: Arc::new(inner), requests, asked: Mutex::new(Some(asked)) };
        graph.inner.status.attempted(contents.files(&parsed));
        let (first, _) = graph.inner.clone().make(Arc::new(parsed), contents).await?;
        graph.inner.status.succeeded(first.hash());
        // What is only made runs when the graph does.
        graph.inner.adopt(first);
        Ok(graph)
    }
}

/// Who asks for a reload waits for the answer.
type Request = oneshot::Sender<Result<(), String>>;

/// Components and who refers to whom.
pub struct Graph {
    inner: Arc<Inner>,
    requests: mpsc::Sender<Request>,
    asked: Mutex<Option<mpsc::Receiver<Request>>>,
}

struct Inner {
    world: World,
    host: Host,
    settings: Box<dyn Fn(Settings) + Send + Sync>,
    changes: Arc<Changes>,
    state: Mutex<State>,
    /// They ask for modules.
    pollers: Mutex<JoinSet<()>>,
    status: Status,
}

/// A configuration, and what was made of it.
#[derive(Default)]
pub(super) struct State {
    /// Each behind the ones it needs.
    pub(super) nodes: Vec<Node>,
    pub(super) sources: Sources,
    parsed: Option<Arc<Parsed>>,
    contents: Contents,
}

impl State {
    /// SHA-256 of all its texts.
    fn hash(&self) -> String {
        load::hash(self.parsed.iter().flat_map(|parsed| self.contents.texts(parsed)))
    }
}

impl Graph {
    /// Runs all components until `stop`, then stops each after those that send to it. Once.
    pub async fn run(&self, stop: CancellationToken) {
        let asked = self.asked.lock().expect("no code panics while holding it").take();
        let mut asked = asked.expect("a graph runs once");
        self.inner.lives().iter().for_each(|live| live.start());
        // Not when it is built: the node's own task, which speaks to the others, runs only now.
        self.inner.host.ownership.announce_configuration(&self.hash()).await;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                news = self.inner.changes.next() => self.inner.handle_news(news).await,
                Some(answer) = asked.recv() => drop(answer.send(self.inner.reload().await)),
            }
        }
        self.inner.pollers.lock().expect("no code panics while holding it").abort_all();
        let groups = stop_order(&self.inner.state().nodes, &BTreeSet::new());
        stop_all(groups).await;
    }

    /// Reads the configuration again. Either all of the new one runs then, or the old one goes on and the error says why.
    pub async fn reload(&self) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let is_asked = self.requests.send(answer).await.is_ok();
        match answered.await {
            Ok(result) if is_asked => result,
            _ => Err("the agent is stopping".to_owned()),
        }
    }

    /// SHA-256 of the running configuration.
    pub fn hash(&self) -> String {
        self.inner.status.hash()
    }

    /// The files that the newest attempt to load has looked at, with the hashes of what they held.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, String> {
        self.inner.status.files()
    }

    pub(super) fn cluster_name(&self) -> &str {
        &self.inner.host.cluster_name
    }

    pub(super) fn status(&self) -> &Status {
        &self.inner.status
    }

    /// What runs now.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner.state())
    }

    pub(super) fn lives(&self) -> Vec<Arc<Live>> {
        self.inner.lives()
    }

    /// Nodes that are no components and cannot be evaluated, with the reason of each.
    pub(super) fn troubles(&self) -> Vec<(String, String)> {
        let state = self.inner.state();
        let trouble = |node: &Node| Some((node.id.to_string(), node.trouble.clone()?));
        state.nodes.iter().filter_map(trouble).collect()
    }
}

impl Inner {
    /// The transaction, from reading to the end of what is gone.
    async fn reload(self: &Arc<Self>) -> Result<(), String> {
        let _evaluating = self.status.evaluating();
        let result = self.try_reload().await;
        match &result {
            Ok(()) => tracing::info!(sha256 = self.status.hash(), "the configuration is loaded"),
            Err(error) => {
                self.status.failed();
                tracing::error!(error, "the configuration cannot be loaded; the old one goes on");
            }
        }
        result
    }

    async fn try_reload(self: &Arc<Self>) -> Result<(), String> {
        let (inner, known) = (self.clone(), self.state().contents.clone());
        let checked = blocking(move || {
            let World { path, registrations, stdlib } = &inner.world;
            let parsed = Parsed::read(path).map_err(|error| format!("{error:#}"))?;
            let (checkup, contents) = parsed.check(registrations, stdlib, &known);
            inner.status.attempted(contents.files(&parsed));
            checkup.result()?;
            let settings = parsed.agent_settings(stdlib)?;
            Ok::<_, String>((Arc::new(parsed), contents, settings))
        });
        let (parsed, contents, settings) = checked.await?;
        self.turn_to(parsed, contents).await?;
        (self.settings)(settings);
        Ok(())
    }

    /// This is to run now; the other members hear of it.
    async fn turn_to(self: &Arc<Self>, parsed: Arc<Parsed>, contents: Contents) -> Result<(), String> {
        let (next, steps) = self.clone().make(parsed, contents).await?;
        let hash = next.hash();
        self.commit(next, steps).await?;
        self.host.ownership.announce_configuration(&hash).await;
        self.status.succeeded(hash);
        Ok(())
    }

    /// Makes what is new. What runs is not touched; after an error what was made is dropped again.
    async fn make(
        self: Arc<Self>,
        parsed: Arc<Parsed>,
        contents: Contents,
    ) -> Result<(State, Vec<Step>), String> {
        let old: BTreeMap<Arc<str>, Arc<Live>> =
            self.lives().into_iter().map(|live| (live.id().clone(), live)).collect();
        // Files are opened and modules are fetched here.
        blocking(move || {
            let World { registrations, stdlib, .. } = &self.world;
            let maker = Maker { host: &self.host, changes: &self.changes, old: &old, steps: Vec::new() };
            let mut walk =
                Expansion::new(registrations, stdlib, contents, parsed.sources.clone(), Some(maker));
            walk.root(&parsed.statements, &parsed.module_path());
            let Expansion { nodes, sources, diagnostics, mut contents, maker, .. } = walk;
            if diagnostics.has_errors() {
                return Err(diagnostics.render(&sources));
            }
            contents.settle();
            let steps = maker.map(|maker| maker.steps).unwrap_or_default();
            Ok((State { nodes, sources, parsed: Some(parsed), contents }, steps))
        })
        .await
    }

    /// Turns the running configuration into the next one.
    async fn commit(&self, next: State, steps: Vec<Step>) -> Result<(), String> {
        let mut applied: Vec<(&Arc<Live>, Given)> = Vec::new();
        for step in &steps {
            let Step::Apply(live, given) = step else { continue };
            let before = live.given();
            if let Err(diagnostics) = live.apply(given.clone()).await {
                for (live, before) in applied.into_iter().rev() {
                    if live.apply(before).await.is_err() {
                        tracing::error!(component_id = &**live.id(), "cannot take its old arguments again");
                    }
                }
                let error = diagnostics.render(&next.sources);
                // New components close their files here.
                blocking(move || drop((next, steps))).await;
                return Err(error);
            }
            applied.push((live, before));
        }
        // From here on nothing fails.
        let new: BTreeSet<Arc<str>> = next.nodes.iter().map(|node| node.id.clone()).collect();
        let old = self.adopt(next);
        for step in steps {
            match step {
                Step::Start(live) => live.start(),
                Step::Reword(live, given) => live.reword(given),
                Step::Apply(..) => {}
            }
        }
        let removed = stop_order(&old, &new);
        removed.iter().flatten().for_each(|live| live.context.removal.announce());
        stop_all(removed).await;
        blocking(move || drop(old)).await;
        Ok(())
    }

    /// This is the configuration now; the answer is what was made of the one before.
    fn adopt(&self, next: State) -> Vec<Node> {
        *self.pollers.lock().expect("no code panics while holding it") = next.contents.poll(&self.changes);
        std::mem::replace(&mut *self.state(), next).nodes
    }

    async fn handle_news(self: &Arc<Self>, news: News) {
        let _evaluating = self.status.evaluating();
        for live in self.lives() {
            if news.ended.contains(live.id()) {
                live.await_revival();
            }
            if news.due.contains(live.id())
                && !live.is_up()
                && let Err(diagnostics) = live.revive().await
            {
                let error = diagnostics.render(&self.state().sources);
                tracing::error!(component_id = &**live.id(), error, "a component cannot be made anew");
            }
        }
        let shape = self.propagate(&news.exports).await;
        let Some(shape) = shape.or_else(|| news.imports.keys().next().map(|id| id.as_str().into())) else {
            return;
        };
        let (parsed, mut contents) = {
            let state = self.state();
            (state.parsed.clone(), state.contents.clone())
        };
        news.imports.into_iter().for_each(|(id, text)| contents.replace(&id, text));
        let Some(parsed) = parsed else { return };
        if let Err(error) = self.turn_to(parsed, contents).await {
            tracing::error!(error, "the configuration cannot follow a change; what was goes on");
            let mut state = self.state();
            if let Some(node) = state.nodes.iter_mut().find(|node| node.id == shape) {
                node.trouble = Some(error);
            }
        }
    }

    /// Evaluates what depends on the exports of `changed`. The answer is a node that wants other nodes to be there, if any.
    async fn propagate(&self, changed: &BTreeSet<Arc<str>>) -> Option<Arc<str>> {
        let mut dirty: Vec<bool> = self.state().nodes.iter().map(|node| changed.contains(&node.id)).collect();
        let mut shape = None;
        for index in 0..dirty.len() {
            let to_apply = {
                let mut state = self.state();
                if !state.nodes[index].needs.iter().any(|(_, need)| dirty[*need]) {
                    continue;
                }
                let scope = Arc::new(state.nodes[index].scope(&state.nodes));
                let started = Instant::now();
                let result =
                    (state.nodes[index].formula)(&scope).map_err(|found| found.render(&state.sources));
                self.status.evaluation(started.elapsed());
                let node = &mut state.nodes[index];
                match (result, &node.role) {
                    (Err(error), Role::Component(live)) => {
                        live.refused(Some(error));
                        None
                    }
                    (Err(error), _) => {
                        node.trouble = Some(error);
                        None
                    }
                    (Ok(arguments), Role::Component(live)) => {
                        let given = Given { scope, arguments, ..live.given() };
                        Some((live.clone(), given)).filter(|(live, given)| {
                            let is_new = given.arguments != node.value;
                            if !is_new {
                                live.refused(None);
                            }
                            is_new
                        })
                    }
                    (Ok(value), role) => {
                        node.trouble = None;
                        if value != node.value {
                            dirty[index] = true;
                            let is_shape = match role {
                                Role::Keys => keys(&value) != keys(&node.value),
                                role => matches!(role, Role::Shape),
                            };
                            if is_shape {
                                shape = Some(node.id.clone());
                            }
                            node.value = value;
                        }
                        None
                    }
                }
            };
            if let Some((live, given)) = to_apply {
                let arguments = given.arguments.clone();
                let result = live.offer(given).await;
                let mut state = self.state();
                let trouble = result.map_err(|found| found.render(&state.sources)).err();
                if let Some(error) = &trouble {
                    tracing::error!(
                        component_id = &**live.id(),
                        error,
                        "the new arguments are not taken; the old ones go on"
                    );
                } else {
                    state.nodes[index].value = arguments;
                }
                live.refused(trouble);
            }
        }
        shape
    }

    fn lives(&self) -> Vec<Arc<Live>> {
        components(&self.state().nodes).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while holding it")
    }
}

fn components(nodes: &[Node]) -> impl Iterator<Item = &Arc<Live>> {
    nodes.iter().filter_map(|node| match &node.role {
        Role::Component(live) => Some(live),
        _ => None,
    })
}

fn keys(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => fields.keys().collect(),
        _ => Vec::new(),
    }
}
