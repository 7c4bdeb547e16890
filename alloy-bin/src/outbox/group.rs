//! The endpoints of one component: what is done to all of them together.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Outbox;

/// How long sending may go on when the agent stops. What is left stays in the log.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How long a flush may take: a hand-over waits for it.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// The outboxes of one component, each with what the component itself knows of the endpoint.
pub struct Group<X> {
    members: Vec<(Outbox, X)>,
}

impl<X> Group<X> {
    /// These endpoints, in this order.
    pub fn new(members: Vec<(Outbox, X)>) -> Self {
        Group { members }
    }

    /// The endpoints.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Outbox, X)> {
        self.members.iter()
    }

    /// Runs all until `stop`; see [`Outbox::run`].
    pub async fn run(&self, stop: CancellationToken) {
        self.each(|outbox| {
            let stop = stop.clone();
            async move { outbox.run(stop, STOP_PATIENCE).await }
        })
        .await;
    }

    /// Waits until all that was accepted before the call is synced.
    pub async fn durable(&self) {
        for (outbox, _) in &self.members {
            outbox.durable().await;
        }
    }

    /// Has all send what they have, for at most a time that a hand-over can wait.
    pub async fn flush(&self) {
        self.each(|outbox| async move { outbox.flush(FLUSH_PATIENCE).await }).await;
    }

    /// Works on all outboxes at once, each in a task of its own.
    async fn each<F: Future<Output = ()> + Send + 'static>(&self, work: impl Fn(Outbox) -> F) {
        let mut tasks = JoinSet::new();
        for (outbox, _) in &self.members {
            tasks.spawn(work(outbox.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}
