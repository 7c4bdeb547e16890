//! Planning and running with components that only write down what happens to them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::load::Loaded;
use super::*;
use crate::config::{Body, Decode, Number, Value};
use crate::ownership::{self, ClusterFlags};
use crate::server::Health as _;
use crate::syntax::{Sources, parse};
use crate::telemetry::{Collect, Page};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened in one world, and handles of the components in it.
#[derive(Clone, Default)]
struct Journal {
    lines: watch::Sender<Vec<String>>,
    contexts: Arc<Mutex<HashMap<String, Context>>>,
}

/// Components know their world by the host's storage folder, which nobody makes.
static JOURNALS: LazyLock<Mutex<HashMap<PathBuf, Journal>>> = LazyLock::new(Mutex::default);

impl Journal {
    fn of(storage: &Path) -> Journal {
        JOURNALS.lock().unwrap().entry(storage.to_owned()).or_default().clone()
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
        Arguments {
            inputs: body.optional("inputs", Vec::new()),
            behaviour: body.optional("behaviour", String::new()),
        }
    }
}

#[async_trait]
impl Component for Node {
    const NAME: &'static str = "test.node";
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let name = context.id.rsplit('.').next().unwrap_or_default().to_owned();
        let journal = Journal::of(context.storage.parent().unwrap());
        journal.write(format!("build {name} {:?}", arguments.inputs));
        anyhow::ensure!(arguments.behaviour != "fail", "cannot be built");
        context.exports.set("value", Value::from(Number::Int(1)));
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
        self.journal.write(format!("update {} {:?}", self.name, arguments.inputs));
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        page.gauge("test_node", "A node.", &[], 1.0);
    }
}

fn checked(text: &str) -> Result<Checked, String> {
    let mut sources = Sources::default();
    let source = sources.add("main.alloy", text);
    let (parsed, diagnostics) = parse(&sources, source);
    assert!(diagnostics.is_empty(), "{}", diagnostics.render(&sources));
    let loaded = Loaded { statements: parsed.statements, sources };
    Checked::new(loaded, &[Registration::of::<Node>()], "host")
}

/// A graph and what happens in it.
struct World {
    graph: Arc<Graph>,
    journal: Journal,
    stop: CancellationToken,
}

impl World {
    async fn build(text: &str) -> Result<World, String> {
        let ownership = {
            ownership::start(&ClusterFlags::default(), "host", ([127, 0, 0, 1], 1).into())
                .await
                .unwrap()
                .ownership
        };
        let folder = tempfile::tempdir().unwrap();
        let host = Host { storage: folder.path().to_owned(), ownership };
        let journal = Journal::of(&host.storage);
        let graph = Arc::new(checked(text)?.build(&host)?);
        Ok(World { graph, journal, stop: CancellationToken::new() })
    }

    /// Builds, runs, and waits until all these components run.
    async fn run(text: &str, components: &[&str]) -> (World, JoinHandle<()>) {
        let world = World::build(text).await.unwrap();
        let (graph, stop) = (world.graph.clone(), world.stop.clone());
        let task = tokio::spawn(async move { graph.run(stop).await });
        for name in components {
            world.journal.wait_for(&format!("run {name}")).await;
        }
        world.journal.take();
        (world, task)
    }

    fn export(&self, name: &str, value: i64) {
        let context = self.journal.contexts.lock().unwrap()[name].clone();
        context.exports.set("value", Value::from(Number::Int(value)));
    }

    fn health(&self, name: &str) -> Health {
        self.journal.contexts.lock().unwrap()[name].health.clone()
    }

    /// The unhealthy component and why; there is one at the most.
    fn trouble(&self) -> Option<(String, String)> {
        let mut unhealthy = self.graph.unhealthy();
        assert!(unhealthy.len() < 2, "{unhealthy:?}");
        unhealthy.pop()
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

    async fn end(self, task: JoinHandle<()>) -> Vec<String> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, task).await.expect("it stops in time").expect("it does not panic");
        self.journal.take()
    }
}

/// Sources `a` and `b`, what `c` makes of both, and `d` beside them; written down against their order.
const DIAMOND: &str = r#"
test.node "e" { inputs = [test.node.c.value, test.node.a.value] }
test.node "c" { inputs = [test.node.a.value, test.node.b.value] }
test.node "b" { }
test.node "a" { }
test.node "d" { }
"#;

fn place(lines: &[String], line: &str) -> usize {
    lines.iter().position(|other| other == line).unwrap_or_else(|| panic!("{line:?} is not in {lines:?}"))
}

#[tokio::test]
async fn components_are_built_behind_those_that_they_refer_to() {
    let world = World::build(DIAMOND).await.unwrap();
    let built = ["build b []", "build a []", "build d []", "build c [1, 1]", "build e [1, 1]"];
    assert_eq!(world.journal.take(), built);
    assert_eq!(world.trouble(), None);
}

#[tokio::test]
async fn components_are_stopped_when_all_that_refer_to_them_have_stopped() {
    let (world, task) = World::run(DIAMOND, &["a", "b", "c", "d", "e"]).await;
    let lines = world.end(task).await;
    assert_eq!(lines.len(), 10, "{lines:?}");
    for (user, used) in [("e", "c"), ("e", "a"), ("c", "a"), ("c", "b")] {
        let stopped = place(&lines, &format!("stopped {user}"));
        assert!(stopped < place(&lines, &format!("stopping {used}")), "{user}, {used}: {lines:?}");
    }
    assert!(
        place(&lines, "stopping d") < place(&lines, "stopped e"),
        "what can stop does not wait: {lines:?}"
    );
}

#[tokio::test]
async fn a_change_is_heard_by_those_that_refer_to_it_alone() {
    let (world, task) = World::run(DIAMOND, &["a", "b", "c", "d", "e"]).await;
    world.export("b", 7);
    world.journal.wait_for("update c [1, 7]").await;
    world.export("b", 7);
    world.export("d", 5);
    world.export("a", 9);
    world.journal.wait_for("update c [9, 7]").await;
    world.journal.wait_for("update e [1, 9]").await;
    let updates: Vec<String> =
        world.end(task).await.into_iter().filter(|line| line.starts_with("update")).collect();
    assert_eq!(updates, ["update c [1, 7]", "update c [9, 7]", "update e [1, 9]"]);
}

const PAIR: &str = r#"
test.node "a" { }
test.node "b" { inputs = [test.node.a.value] }
"#;

#[tokio::test]
async fn arguments_that_are_refused_show_in_the_health_and_the_old_ones_go_on() {
    let (world, task) = World::run(PAIR, &["a", "b"]).await;
    world.export("a", -1);
    let (id, reason) = world.until_unhealthy().await;
    assert_eq!(id, "test.node.b");
    assert!(reason.contains("main.alloy:3:1: test.node.b: a negative input"), "{reason}");
    assert_eq!(world.journal.take(), Vec::<String>::new());
    world.export("a", 2);
    world.journal.wait_for("update b [2]").await;
    world.export("a", 3);
    world.journal.wait_for("update b [3]").await;
    assert_eq!(world.trouble(), None, "good arguments heal it");
    assert_eq!(world.end(task).await.len(), 2 + 4, "two updates, two stops");
}

#[tokio::test]
async fn good_arguments_do_not_hide_what_a_component_says_of_itself() {
    let (world, task) = World::run(PAIR, &["a", "b"]).await;
    world.health("b").unhealthy("a file is missing");
    world.export("a", 2);
    world.journal.wait_for("update b [2]").await;
    world.export("a", 3);
    world.journal.wait_for("update b [3]").await;
    assert_eq!(world.trouble(), Some(("test.node.b".to_owned(), "a file is missing".to_owned())));
    world.health("b").ok();
    assert_eq!(world.trouble(), None);
    world.end(task).await;
}

#[tokio::test]
async fn a_component_that_panics_or_ends_is_unhealthy_and_the_others_go_on() {
    for (behaviour, expected) in [("panic", "has failed: "), ("end", "has ended by itself")] {
        let text = format!(
            "{PAIR}\ntest.node \"c\" {{\n\tbehaviour = {behaviour:?}\n\tinputs = [test.node.a.value]\n}}\n"
        );
        let (world, task) = World::run(&text, &["a", "b", "c"]).await;
        let (id, reason) = world.until_unhealthy().await;
        assert!(id == "test.node.c" && reason.starts_with(expected), "{id}: {reason}");
        world.export("a", 2);
        world.journal.wait_for("update b [2]").await;
        world.export("a", 3);
        world.journal.wait_for("update b [3]").await;
        let (_, reason) = world.trouble().expect("new arguments do not bring it back to life");
        assert!(reason.starts_with(expected), "{reason}");
        let lines = world.end(task).await;
        assert!(place(&lines, "stopped b") < place(&lines, "stopping a"), "{lines:?}");
    }
}

#[tokio::test]
async fn a_component_that_panics_over_new_arguments_does_not_end_the_others() {
    let text = format!("{PAIR}test.node \"c\" {{ inputs = [test.node.b.value] }}");
    let (world, task) = World::run(&text, &["a", "b", "c"]).await;
    world.export("a", 666);
    let (id, reason) = world.until_unhealthy().await;
    assert!(id == "test.node.b" && reason.contains("panicked"), "{id}: {reason}");
    world.export("b", 4);
    world.journal.wait_for("update c [4]").await;
    let lines = world.end(task).await;
    assert!(place(&lines, "stopped c") < place(&lines, "stopping b"), "{lines:?}");
}

#[tokio::test]
async fn everything_that_cannot_be_built_is_said_at_once_and_what_depends_on_it_is_not() {
    let text = r#"
test.node "a" { behaviour = "fail" }
test.node "b" { inputs = [test.node.a.value] }
test.node "c" { inputs = "many" }
test.node "d" { inputs = [test.node.e.size] }
test.node "e" { }
"#;
    let errors = World::build(text).await.err().expect("most of it is wrong");
    let first_lines: Vec<&str> = errors.lines().filter_map(|line| line.strip_prefix("Error: ")).collect();
    assert_eq!(
        first_lines,
        [
            "main.alloy:2:1: test.node.a: cannot be built",
            "main.alloy:4:26: expected array, got string",
            "main.alloy:5:39: field \"size\" does not exist",
        ],
        "{errors}"
    );
}

#[tokio::test]
async fn figures_carry_the_name_of_their_component() {
    let (world, task) = World::run(PAIR, &["a", "b"]).await;
    world.health("a").unhealthy("a cold");
    let mut page = Page::default();
    world.graph.collect(&mut page);
    let page = page.render();
    for line in [
        r#"test_node{component_id="test.node.a",component_path="/"} 1"#,
        r#"test_node{component_id="test.node.b",component_path="/"} 1"#,
        r#"alloy_component_controller_running_components{health_type="healthy"} 1"#,
        r#"alloy_component_controller_running_components{health_type="unhealthy"} 1"#,
    ] {
        assert!(page.lines().any(|other| other == line), "{line} is not in\n{page}");
    }
    world.end(task).await;
}

fn check_plan(text: &str, expected: &[&str]) {
    let errors = checked(text).err().unwrap_or_default();
    let first_lines: Vec<&str> = errors.lines().filter_map(|line| line.strip_prefix("Error: ")).collect();
    assert_eq!(first_lines, expected, "{text}");
}

#[test]
fn a_cycle_is_found_whatever_leads_to_it() {
    let node =
        |name: &str, needs: &str| format!("test.node {name:?} {{ inputs = [test.node.{needs}.value] }}\n");
    check_plan(&node("a", "a"), &["main.alloy:1:27: cannot reference self"]);
    let two = node("a", "b") + &node("b", "a");
    check_plan(&two, &["main.alloy:1:1: cycle detected: test.node.a, test.node.b"]);
    let tail = node("t", "a") + &node("a", "b") + &node("b", "c") + &node("c", "a");
    check_plan(&tail, &["main.alloy:2:1: cycle detected: test.node.a, test.node.b, test.node.c"]);
}

#[test]
fn everything_that_is_wrong_with_the_names_is_said_at_once() {
    check_plan(
        "logging { }\ntest.node \"a\" { inputs = [test.other.b.value, sys.env(\"X\")] }\ntest.node \"a\" { }\n\
         test.nod \"x\" { }\ntest.node { }\nlevel = 1\nlogging { }\n",
        &[
            "main.alloy:2:27: component \"test.other.b.value\" does not exist or is out of scope",
            "main.alloy:3:1: block test.node.a already declared at main.alloy:2:1",
            "main.alloy:4:1: cannot find the definition of component name \"test.nod\"",
            "main.alloy:5:1: component \"test.node\" must have a label",
            "main.alloy:6:1: unrecognized attribute name \"level\"",
            "main.alloy:7:1: block logging already declared at main.alloy:1:1",
        ],
    );
}
