//! The trait [`Component`] and what a component gets from the agent.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::ownership::Ownership;

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
    type Arguments: Send + 'static;

    /// Makes the component.
    fn build(arguments: Self::Arguments, context: Context) -> anyhow::Result<Self>;

    /// Works until `stop` is cancelled.
    async fn run(&self, stop: CancellationToken);

    /// Takes new arguments: something that the block refers to has changed, or the configuration has.
    fn update(&self, arguments: Self::Arguments) -> anyhow::Result<()>;
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
}
