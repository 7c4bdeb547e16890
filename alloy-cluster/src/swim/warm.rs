//! For simulations of thousands: nodes begin where a finished exchange of the full state has left them.

use std::sync::Arc;
use std::time::Instant;

use foca::Member;

use super::protocol::Swim;
use super::sync::{FullState, SyncKind};
use crate::View;

/// All there is to know of all nodes, decoded once for all of them.
pub(crate) struct Everybody(FullState);

impl Everybody {
    pub(crate) fn of<'a>(nodes: impl Iterator<Item = &'a Swim> + Clone) -> Self {
        Everybody(FullState {
            kind: SyncKind::Answer,
            members: nodes.clone().map(|node| Member::alive(node.foca.identity().clone())).collect(),
            attributes: nodes.map(|node| Arc::new(node.mine.clone())).collect(),
        })
    }
}

impl Swim {
    /// As if a member had sent all that.
    pub(crate) fn handle_everybody(&mut self, now: Instant, everybody: &Everybody) {
        let from = self.mine.name.clone();
        self.handle_state(now, &from, everybody.0.clone());
        self.renew_view(now);
    }

    /// Puts an equal view into the place of the view.
    pub(crate) fn replace_view(&mut self, share: impl FnOnce(&View) -> View) {
        self.view = Arc::new(share(&self.view));
    }
}
