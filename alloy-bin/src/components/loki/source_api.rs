//! `loki.source.api`: takes what others push as they would push it to Loki.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::arguments::{Arguments, Listen};
use self::intake::{Intake, Now, router};
use crate::graph::{Component, Context, ExportType, Fanout, Health};
use crate::server::{Front, Listener, Protection};
use crate::telemetry::Page;

mod arguments;
mod body;
mod intake;
mod shape;

/// How long to wait before the port is tried again: it doubles from the first to the last of these.
const RETRY: std::ops::Range<Duration> = Duration::from_millis(250)..Duration::from_secs(15);

/// The component.
pub struct SourceApi {
    id: Arc<str>,
    health: Health,
    listen: Listen,
    front: Arc<Front>,
    intake: Arc<Intake>,
}

#[async_trait]
impl Component for SourceApi {
    const NAME: &'static str = "loki.source.api";
    const EXPORTS: &'static [ExportType] = &[];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let Context { id, health, .. } = context;
        let (listen, protection, now) = taken_apart(arguments)?;
        let front = Arc::new(Front::new(protection));
        let intake = Arc::new(Intake::new(&id, health.clone(), now));
        Ok(SourceApi { id, health, listen, front, intake })
    }

    /// Another component may have the port until it ends, so whoever does not get it waits.
    async fn run(&self, stop: CancellationToken) {
        let mut wait = RETRY.start;
        while !stop.is_cancelled() {
            let address = &self.listen.address;
            match Listener::bind(address).await {
                Ok(listener) => return self.serve(listener, stop).await,
                Err(error) => {
                    self.health.unhealthy(format!("cannot listen on {address}: {error:#}"));
                    tracing::warn!(component = %self.id, %address, error = format!("{error:#}"), "cannot listen, trying again");
                }
            }
            let _ = tokio::time::timeout(wait, stop.cancelled()).await;
            wait = (wait * 2).min(RETRY.end);
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        let (listen, protection, now) = taken_apart(arguments)?;
        anyhow::ensure!(listen == self.listen, "another port needs another listener");
        self.front.set(protection);
        self.intake.set(now);
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        self.intake.collect(page);
    }
}

impl SourceApi {
    async fn serve(&self, listener: Listener, stop: CancellationToken) {
        self.health.ok();
        tracing::info!(component = %self.id, address = %self.listen.address, "taking pushes");
        let listener = listener.limited(self.listen.limits.clone());
        listener.serve(router(self.intake.clone()), self.front.clone(), None, stop).await;
    }
}

fn taken_apart(arguments: Arguments) -> anyhow::Result<(Listen, Protection, Arc<Now>)> {
    let Arguments { forward_to, listen, protection, shape, bounds } = arguments;
    Ok((listen, Protection::new(protection)?, Now::new(Fanout::new(forward_to), shape, bounds)))
}

#[cfg(test)]
mod tests;
