//! Graphs of components that only write down what happens to them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch as watched;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{Body, Decode, Number, Value};
use crate::ownership::{self, ClusterFlags};
use crate::server::Components as _;
use crate::telemetry::{Collect, Page};

mod checks;
mod modules;
mod reloads;
mod running;

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened in one world, and handles of the components in it.
#[derive(Clone, Default)]
struct Journal {
    lines: watched::Sender<Vec<String>>,
    contexts: Arc<Mutex<HashMap<String, Context>>>,
    /// Components that cannot be built now.
    broken: Arc<Mutex<Vec<String>>>,
}

/// Components know their world by the folder that their storage lies in.
static JOURNALS: LazyLock<Mutex<HashMap<PathBuf, Journal>>> = LazyLock::new(Mutex::default);

impl Journal {
    fn of(storage: &Path) -> Journal {
        let journals = JOURNALS.lock().unwrap();
        storage.ancestors().find_map(|folder| journals.get(folder)).expect("a world's component").clone()
    }

    fn write(&self, line: String) {
        self.lines.send_modify(|lines| lines.push(line));
    }

    /// What was written since the last call.
    fn take(&self) -> Vec<String> {
        let mut taken = Vec::new();
        self.lines.send_modify(|lines| taken = std::mem::take(lines));
        taken
    }

    async fn wait_for(&self, line: &str) {
        let mut lines = self.lines.subscribe();
        let found = lines.wait_for(|lines| lines.iter().any(|other| other == line));
        let found = tokio::time::timeout(PATIENCE, found).await.map(drop);
        found.unwrap_or_else(|_| panic!("{line:?} is not in {:?}", self.take()));
    }
}

/// `test.node`: takes numbers, exports one.
struct Node {
    name: String,
    behaviour: String,
    journal: Journal,
}

struct Arguments {
    inputs: Vec<i64>,
    behaviour: String,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let arguments = Arguments {
            inputs: body.optional("inputs", Vec::new()),
            behaviour: body.optional("behaviour", String::new()),
        };
        if arguments.inputs.contains(&13) {
            body.error_at("inputs", "13 is never right");
        }
        arguments
    }
}

#[async_trait]
impl Component for Node {
    const NAME: &'static str = "test.node";
    const EXPORTS: &'static [ExportType] =
        &[("value", || Value::Unknown("number")), ("list", export::targets)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let name = context.id.replace("test.node.", "");
        let journal = Journal::of(&context.storage);
        journal.write(format!("build {name} {:?}", arguments.inputs));
        anyhow::ensure!(arguments.behaviour != "fail", "cannot be built");
        anyhow::ensure!(arguments.inputs.iter().all(|input| *input > -100), "cannot be built of that");
        anyhow::ensure!(!journal.broken.lock().unwrap().contains(&name), "is broken");
        context.exports.set("value", Value::from(Number::Int(1)));
        context.exports.set("list", Value::array([]));
        journal.contexts.lock().unwrap().insert(name.clone(), context);
        Ok(Node { name, behaviour: arguments.behaviour, journal })
    }

    async fn run(&self, stop: CancellationToken) {
        self.journal.write(format!("run {}", self.name));
        match self.behaviour.as_str() {
            "panic" => panic!("the script says so"),
            "end" => return,
            _ => stop.cancelled().await,
        }
        self.journal.write(format!("stopping {}", self.name));
        // Work that takes a few turns: who does not wait for its end is found out.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.journal.write(format!("stopped {}", self.name));
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        assert!(!arguments.inputs.contains(&666), "the script says so");
        anyhow::ensure!(arguments.inputs.iter().all(|input| *input >= 0), "a negative input");
        anyhow::ensure!(arguments.behaviour == self.behaviour, "another behaviour");
        self.journal.write(format!("update {} {:?}", self.name, arguments.inputs));
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        page.gauge("test_node", "A node.", &[], 1.0);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.journal.write(format!("drop {}", self.name));
    }
}

/// A folder with a configuration, a graph of it, and what happens in that.
struct World {
    folder: tempfile::TempDir,
    config: &'static str,
    graph: Option<Arc<Graph>>,
    journal: Journal,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl World {
    fn new(text: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::default();
        JOURNALS.lock().unwrap().insert(folder.path().to_owned(), journal.clone());
        let world = World {
            folder,
            config: "main.alloy",
            graph: None,
            journal,
            stop: CancellationToken::new(),
            task: None,
        };
        world.write("main.alloy", text);
        world
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text.replace("$HERE", &self.folder.path().display().to_string()))
            .unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Messages without the folder of the test.
    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }

    fn check(&self) -> Result<(), String> {
        let checkup = check(&self.path("main.alloy"), &[Registration::of::<Node>()], "host");
        checkup.result().map_err(|error| self.short(&error))
    }

    async fn try_build(&mut self) -> Result<(), String> {
        let flags = ClusterFlags::default();
        let ownership = ownership::start(&flags, "host", ([127, 0, 0, 1], 1).into()).await.unwrap().ownership;
        let host = Host { storage: self.path("storage"), ownership, cluster_name: "blue".to_owned() };
        let checked = Checked::load(&self.path(self.config), &[Registration::of::<Node>()], "host");
        let built = match checked {
            Ok(checked) => checked.build(host, |_| ()).await,
            Err(error) => Err(error),
        };
        self.graph = Some(Arc::new(built.map_err(|error| self.short(&error))?));
        Ok(())
    }

    async fn build(text: &str) -> World {
        let mut world = World::new(text);
        world.try_build().await.unwrap();
        world
    }

    /// Builds, runs, and waits until all these components run.
    async fn run(text: &str, components: &[&str]) -> World {
        World::new(text).start(components).await
    }

    async fn start(mut self, components: &[&str]) -> World {
        self.try_build().await.unwrap();
        let (graph, stop) = (self.graph().clone(), self.stop.clone());
        self.task = Some(tokio::spawn(async move { graph.run(stop).await }));
        for name in components {
            self.journal.wait_for(&format!("run {name}")).await;
        }
        self.journal.take();
        self
    }

    fn graph(&self) -> &Arc<Graph> {
        self.graph.as_ref().expect("it is built")
    }

    async fn reload(&self, text: &str) -> Result<(), String> {
        self.write("main.alloy", text);
        self.graph().reload().await.map_err(|error| self.short(&error))
    }

    fn export(&self, name: &str, value: i64) {
        self.export_value(name, "value", Value::from(Number::Int(value)));
    }

    fn export_value(&self, name: &str, field: &str, value: Value) {
        let context = self.journal.contexts.lock().unwrap()[name].clone();
        context.exports.set(field, value);
    }

    fn health(&self, name: &str) -> Health {
        self.journal.contexts.lock().unwrap()[name].health.clone()
    }

    /// The unhealthy component and why; there is one at the most.
    fn trouble(&self) -> Option<(String, String)> {
        let mut unhealthy = self.graph().unhealthy();
        assert!(unhealthy.len() < 2, "{unhealthy:?}");
        unhealthy.pop().map(|(id, reason)| (id, self.short(&reason)))
    }

    async fn until_unhealthy(&self) -> (String, String) {
        let unhealthy = async {
            loop {
                match self.trouble() {
                    Some(trouble) => return trouble,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, unhealthy).await.expect("it becomes unhealthy")
    }

    async fn end(mut self) -> Vec<String> {
        self.stop.cancel();
        let task = self.task.take().expect("it runs");
        tokio::time::timeout(PATIENCE, task).await.expect("it stops in time").expect("it does not panic");
        self.journal.take()
    }
}

fn place(lines: &[String], line: &str) -> usize {
    lines.iter().position(|other| other == line).unwrap_or_else(|| panic!("{line:?} is not in {lines:?}"))
}

/// The first lines of the messages.
fn headlines(errors: &str) -> Vec<&str> {
    errors.lines().filter_map(|line| line.strip_prefix("Error: ")).collect()
}
