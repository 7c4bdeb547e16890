//! The trait [`Component`] and what a component gets from the agent.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Decode, Value};
use crate::ownership::Ownership;
use crate::telemetry::Page;

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
}

impl Exports {
    /// Sets one field. Those who refer to this component are evaluated again if it has changed.
    pub fn set(&self, name: &str, value: Value) {
        let mut fields = self.fields.lock().expect("no code panics while holding it");
        let Value::Object(object) = &mut *fields else { unreachable!("exports are made as an object") };
        Arc::make_mut(object).insert(name.to_owned(), value);
    }
}

/// How a component is. Healthy until it says otherwise.
#[derive(Clone, Default)]
pub struct Health {
    trouble: Arc<Mutex<Option<String>>>,
}

impl Health {
    /// All is well.
    pub fn ok(&self) {
        *self.trouble.lock().expect("no code panics while holding it") = None;
    }

    /// Something is wrong; `/-/healthy` shows it until all is well again.
    pub fn unhealthy(&self, reason: impl Into<String>) {
        *self.trouble.lock().expect("no code panics while holding it") = Some(reason.into());
    }
}
