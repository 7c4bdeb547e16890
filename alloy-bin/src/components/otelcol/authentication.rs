//! What the components `otelcol.auth.*` share: they export a handler, and another one when their arguments change.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Capsule, Decode};
use crate::graph::{Component, Context, ExportType, Exports};
use crate::otlp::Handler;

/// A way to say who one is: the arguments of a component.
pub trait Credentials: Decode + PartialEq + Send + Sync + 'static {
    /// The component's name.
    const NAME: &'static str;

    /// What they come to. The error is for people.
    fn handler(&self) -> Result<Handler, String>;
}

/// The component.
pub struct Authentication<C> {
    now: Mutex<C>,
    exports: Exports,
}

fn publish(credentials: &impl Credentials, exports: &Exports) -> anyhow::Result<()> {
    let handler = credentials.handler().map_err(anyhow::Error::msg)?;
    exports.set("handler", Capsule::new(Arc::new(handler)).into());
    Ok(())
}

#[async_trait]
impl<C: Credentials> Component for Authentication<C> {
    const NAME: &str = C::NAME;
    const EXPORTS: &'static [ExportType] = &[("handler", Handler::placeholder)];
    type Arguments = C;

    fn build(arguments: C, context: Context) -> anyhow::Result<Self> {
        publish(&arguments, &context.exports)?;
        Ok(Authentication { now: Mutex::new(arguments), exports: context.exports })
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: C) -> anyhow::Result<()> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        // Who uses the handler is made anew by another one.
        if *now != arguments {
            publish(&arguments, &self.exports)?;
            *now = arguments;
        }
        Ok(())
    }
}
