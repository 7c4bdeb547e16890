//! The Kubernetes API that a source's arguments name.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::graph::Health;
use crate::kubernetes::{Access, Api};

/// Its connections. `None`: it cannot be told where it is, which was the component's trouble until its arguments have changed or
/// it is to stop.
pub(super) async fn reach<A>(
    access: &Access,
    health: &Health,
    arguments: &mut watch::Receiver<A>,
    stop: &CancellationToken,
) -> Option<Arc<Api>> {
    match Api::shared(access) {
        Ok(api) => Some(api),
        Err(error) => {
            health.unhealthy(format!("{error:#}"));
            tokio::select! {
                () = stop.cancelled() => {}
                _ = arguments.changed() => {}
            }
            None
        }
    }
}
