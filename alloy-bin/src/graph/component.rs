//! The trait [`Component`], what a component gets from the agent, and the registry's entry for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Decode, Scope, Value, decode_block};
use crate::ownership::Ownership;
use crate::syntax::ast::Block;
use crate::syntax::{Diagnostic, Diagnostics};
use crate::telemetry::Page;

use super::changes::Changes;

/// A running part of the pipeline. Its name is the path of its file.
///
/// # Contract
/// 1. `build` opens what the component needs and sets its first exports; it starts no task.
/// 2. `run` ends soon after `stop` is cancelled, and has given all that it accepted to the next in line or to its log.
/// 3. `update` takes effect without losing what is under way; after an error the old arguments go on.
#[async_trait]
pub trait Component: Send + Sync + Sized + 'static {
    /// The name in the configuration: `prometheus.scrape`.
    const NAME: &'static str;

    /// The decoded block.
    type Arguments: Decode + Send + 'static;

    /// Makes the component.
    fn build(arguments: Self::Arguments, context: Context) -> anyhow::Result<Self>;

    /// Works until `stop` is cancelled.
    async fn run(&self, stop: CancellationToken);

    /// Takes new arguments: something that the block refers to has changed, or the configuration has.
    fn update(&self, arguments: Self::Arguments) -> anyhow::Result<()>;

    /// Writes the component's figures; its id is on them already.
    fn collect(&self, _page: &mut Page) {}
}

/// What a component gets from the agent.
#[derive(Clone)]
pub struct Context {
    /// `prometheus.scrape.default`.
    pub id: Arc<str>,
    /// The component's own folder below `--storage.path`; made when first used.
    pub storage: PathBuf,
    /// Who owns what.
    pub ownership: Ownership,
    /// What other components see of this one.
    pub exports: Exports,
    /// How the component is.
    pub health: Health,
}

/// What other components see of this one: `prometheus.remote_write.default.receiver`.
#[derive(Clone)]
pub struct Exports {
    fields: Arc<Mutex<Value>>,
    node: usize,
    changes: Arc<Changes>,
}

impl Exports {
    pub(super) fn new(node: usize, changes: Arc<Changes>) -> Self {
        Exports { fields: Arc::new(Mutex::new(Value::object::<String>([]))), node, changes }
    }

    /// Sets one field. Those who refer to this component are evaluated again if it has changed.
    pub fn set(&self, name: &str, value: Value) {
        let mut fields = self.fields.lock().expect("no code panics while holding it");
        let Value::Object(object) = &mut *fields else { unreachable!("exports are made as an object") };
        if object.get(name) != Some(&value) {
            Arc::make_mut(object).insert(name.to_owned(), value);
            drop(fields);
            self.changes.note(self.node);
        }
    }

    pub(super) fn value(&self) -> Value {
        self.fields.lock().expect("no code panics while holding it").clone()
    }
}

/// How a component is. Healthy until it says otherwise.
#[derive(Clone, Default)]
pub struct Health {
    troubles: Arc<Mutex<Troubles>>,
}

/// What is wrong, by who says so: each takes back its own word alone.
#[derive(Default)]
struct Troubles {
    /// Says the component.
    own: Option<String>,
    /// Say its arguments, which it was given last.
    arguments: Option<String>,
    /// Says its task, which is no more. For good.
    ended: Option<String>,
}

impl Health {
    /// All is well.
    pub fn ok(&self) {
        self.lock().own = None;
    }

    /// Something is wrong; `/-/healthy` shows it until all is well again.
    pub fn unhealthy(&self, reason: impl Into<String>) {
        self.lock().own = Some(reason.into());
    }

    /// What is wrong with the arguments that it was given last.
    pub(super) fn arguments(&self, trouble: Option<String>) {
        self.lock().arguments = trouble;
    }

    /// It works no more.
    pub(super) fn ended(&self, reason: impl Into<String>) {
        self.lock().ended = Some(reason.into());
    }

    pub(super) fn trouble(&self) -> Option<String> {
        let troubles = self.lock();
        [&troubles.ended, &troubles.arguments, &troubles.own].into_iter().find_map(Clone::clone)
    }

    fn lock(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().expect("no code panics while holding it")
    }
}

/// A kind of component that configurations may use.
#[derive(Clone, Copy)]
pub struct Registration {
    pub(super) name: &'static str,
    pub(super) build: Build,
}

/// Decodes a block and makes the component.
type Build = fn(&Block, &Scope, Context) -> Result<Arc<dyn Running>, Diagnostics>;

impl Registration {
    /// The entry of a component.
    pub const fn of<C: Component>() -> Self {
        Registration { name: C::NAME, build: build::<C> }
    }

    /// The component's name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

fn build<C: Component>(
    block: &Block,
    scope: &Scope,
    context: Context,
) -> Result<Arc<dyn Running>, Diagnostics> {
    let arguments = decode_block::<C::Arguments>(block, scope)?;
    match C::build(arguments, context) {
        Ok(component) => Ok(Arc::new(Built(component))),
        Err(error) => Err(at_header(block, &error)),
    }
}

/// An error of the component itself, at its block's first line.
fn at_header(block: &Block, error: &anyhow::Error) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    diagnostics.push(Diagnostic::error(block.header(), format!("{}: {error:#}", block.id())));
    diagnostics
}

/// A component whose type is forgotten.
#[async_trait]
pub(super) trait Running: Send + Sync {
    async fn run(&self, stop: CancellationToken);
    fn update(&self, block: &Block, scope: &Scope) -> Result<(), Diagnostics>;
    fn collect(&self, page: &mut Page);
}

struct Built<C>(C);

#[async_trait]
impl<C: Component> Running for Built<C> {
    async fn run(&self, stop: CancellationToken) {
        self.0.run(stop).await;
    }

    fn update(&self, block: &Block, scope: &Scope) -> Result<(), Diagnostics> {
        let arguments = decode_block::<C::Arguments>(block, scope)?;
        self.0.update(arguments).map_err(|error| at_header(block, &error))
    }

    fn collect(&self, page: &mut Page) {
        self.0.collect(page);
    }
}
