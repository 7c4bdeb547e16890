//! The trait [`Component`], what a component gets from the agent, and the registry's entry for it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Argument, Decode, Object, Scope, Value, decode_block, shown_arguments};
use crate::ownership::Ownership;
use crate::syntax::ast::Block;
use crate::syntax::{Diagnostic, Diagnostics};
use crate::telemetry::Page;

use super::changes::Changes;
use super::values::{self, ExportType};

/// A running part of the pipeline. Its name is the path of its file.
///
/// # Contract
/// 1. `build` opens what the component needs and sets its first exports; it starts no task.
/// 2. `run` ends soon after `stop` is cancelled, and has given all that it accepted to the next in line or to its log.
/// 3. `update` takes effect without losing what is under way, or changes nothing and says why not. Arguments that were
///    taken once are taken again: a reload that fails half-way gives them back.
/// 4. A component whose `update` says no is stopped and built with the new arguments in the same place. So `build` must
///    find what `run` has left when it ended; batches for its receivers wait meanwhile.
/// 5. What was built and is dropped without having run has changed nothing on disk that an earlier life had left.
/// 6. A receiver takes batches from `build` on, before `run` begins.
#[async_trait]
pub trait Component: Send + Sync + Sized + 'static {
    /// The name in the configuration: `prometheus.scrape`.
    const NAME: &'static str;

    /// What it exports, so that configurations can be checked without making anything.
    const EXPORTS: &'static [ExportType];
    /// The decoded block.
    type Arguments: Decode + Send + 'static;

    /// Makes the component.
    fn build(arguments: Self::Arguments, context: Context) -> anyhow::Result<Self>;

    /// Works until `stop` is cancelled.
    async fn run(&self, stop: CancellationToken);

    /// Takes new arguments: something that the block refers to has changed, or the configuration has. An error: it can't
    /// take them as it stands, and has to be built anew.
    fn update(&self, arguments: Self::Arguments) -> anyhow::Result<()>;

    /// Writes the component's figures; its id is on them already.
    fn collect(&self, _page: &mut Page) {}
}

/// What a component gets from the agent.
#[derive(Clone)]
pub struct Context {
    /// `prometheus.scrape.default`; inside a module with the module's in front of it:
    /// `monitoring.app.default/prometheus.scrape.default`. The same over reloads and restarts.
    pub id: Arc<str>,
    /// The component's own folder below `--storage.path`; made when first used.
    pub storage: PathBuf,
    /// Who owns what.
    pub ownership: Ownership,
    /// What other components see of this one.
    pub exports: Exports,
    /// How the component is.
    pub health: Health,
    /// Why it stops.
    pub removal: Removal,
}

/// Whether a component stops because the configuration has it no more. An agent that stops may come back.
#[derive(Clone, Default)]
pub struct Removal(Arc<AtomicBool>);

impl Removal {
    /// Said before the component is told to stop.
    pub(super) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Of use when `run` is about to end.
    pub fn is_announced(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What other components see of this one: `prometheus.remote_write.default.receiver`.
#[derive(Clone)]
pub struct Exports {
    fields: Arc<Mutex<Object>>,
    id: Arc<str>,
    changes: Arc<Changes>,
}

impl Exports {
    pub(super) fn new(id: Arc<str>, changes: Arc<Changes>) -> Self {
        Exports { fields: Arc::default(), id, changes }
    }

    /// Sets one field. Those who refer to this component are evaluated again if it has changed. A receiver takes the
    /// place of the one before, without their knowing.
    pub fn set(&self, name: &str, value: Value) {
        let mut fields = self.lock();
        match fields.get(name) {
            Some(old) if *old == value || values::adopt(old, &value) => {}
            _ => {
                *fields = fields.with([(name.into(), value)]);
                drop(fields);
                self.changes.note(|news| {
                    news.exports.insert(self.id.clone());
                });
            }
        }
    }

    /// Has batches wait until another receiver is set. The answer says whether all have let go of the old ones.
    pub(super) fn close(&self) -> impl Fn() -> bool + Send + use<> {
        let closed: Vec<_> = self.lock().values().filter_map(values::close).collect();
        move || closed.iter().all(|is_released| is_released())
    }

    /// Whether they have these names and types, and no others.
    fn are(&self, types: &[ExportType]) -> bool {
        let fields = self.lock();
        let is_set = |(name, placeholder): &ExportType| {
            let expected = placeholder().type_name();
            fields.get(name).is_some_and(|value| expected == "anything" || value.type_name() == expected)
        };
        fields.len() == types.len() && types.iter().all(is_set)
    }

    pub(super) fn value(&self) -> Value {
        Value::Object(Arc::new(self.lock().clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Object> {
        self.fields.lock().expect("no code panics while holding it")
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
    /// Says its task, which is no more until the component is built again.
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

    /// It is built anew.
    pub(super) fn reborn(&self) {
        *self.lock() = Troubles::default();
    }

    pub(crate) fn trouble(&self) -> Option<String> {
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
    pub(super) exports: &'static [ExportType],
    /// Decodes a block and forgets what it says.
    pub(super) check: fn(&Block, &Scope) -> Result<(), Diagnostics>,
    /// What a block says, for people.
    pub(super) shown: fn(&Block, &Scope) -> Vec<Argument>,
    /// Decodes a block and makes the component.
    pub(super) build: Build,
}

type Build = fn(&Block, &Scope, Context) -> Result<Arc<dyn Running>, Diagnostics>;

impl Registration {
    /// The entry of a component.
    pub const fn of<C: Component>() -> Self {
        let check = |block: &Block, scope: &Scope| decode_block::<C::Arguments>(block, scope).map(drop);
        let shown = shown_arguments::<C::Arguments>;
        Registration { name: C::NAME, exports: C::EXPORTS, check, shown, build: build::<C> }
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
    let exports = context.exports.clone();
    match C::build(arguments, context) {
        Ok(component) => {
            debug_assert!(exports.are(C::EXPORTS), "{} exports something else than its EXPORTS say", C::NAME);
            Ok(Arc::new(Built(component)))
        }
        Err(error) => Err(at_header(block, &error)),
    }
}

/// An error of the component itself, at its block's first line.
fn at_header(block: &Block, error: &anyhow::Error) -> Diagnostics {
    Diagnostic::error(block.header(), format!("{}: {error:#}", block.id())).into()
}

/// A component whose type is forgotten.
#[async_trait]
pub(super) trait Running: Send + Sync {
    async fn run(&self, stop: CancellationToken);
    fn update(&self, block: &Block, scope: &Scope) -> Result<(), Refusal>;
    fn collect(&self, page: &mut Page);
}

/// Why new arguments have not taken effect.
pub(super) enum Refusal {
    /// They are wrong.
    Wrong(Diagnostics),
    /// They need the component to be built anew.
    Rebuild(anyhow::Error),
}

struct Built<C>(C);

#[async_trait]
impl<C: Component> Running for Built<C> {
    async fn run(&self, stop: CancellationToken) {
        self.0.run(stop).await;
    }

    fn update(&self, block: &Block, scope: &Scope) -> Result<(), Refusal> {
        let arguments = decode_block::<C::Arguments>(block, scope).map_err(Refusal::Wrong)?;
        self.0.update(arguments).map_err(Refusal::Rebuild)
    }

    fn collect(&self, page: &mut Page) {
        self.0.collect(page);
    }
}
