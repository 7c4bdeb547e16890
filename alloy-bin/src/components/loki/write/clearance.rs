//! Lines of shared files in a log: the outbox asks, ownership answers.

use async_trait::async_trait;

use crate::outbox::{Clear, Clearance};
use crate::ownership::Tenures;
use crate::telemetry::Origin;

#[async_trait]
impl Clearance for Tenures {
    fn accepted(&self, origin: &Origin) {
        Tenures::accepted(self, origin);
    }

    fn withdrawn(&self, origin: &Origin) {
        Tenures::withdrawn(self, origin);
    }

    fn waits(&self, origin: &Origin) {
        Tenures::waits(self, origin);
    }

    fn try_clear(&self, origin: &Origin) -> Option<Clear> {
        self.look(origin).map(clear)
    }

    async fn clear(&self, origin: &Origin) -> Clear {
        clear(self.wait(origin).await)
    }

    fn delivered(&self, origin: &Origin) {
        Tenures::delivered(self, origin);
    }
}

fn clear(is_ours: bool) -> Clear {
    if is_ours { Clear::Send } else { Clear::Drop }
}
