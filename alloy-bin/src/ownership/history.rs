//! What happened in the cluster lately: one line in the log for each change, and the newest kept for people who come later.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use alloy_cluster::ClusterEvent;
use serde::Serialize;

/// How many changes are kept.
const KEPT: usize = 256;

/// One change, as this node saw it.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// When, by this node's clock (RFC 3339).
    pub time: String,
    /// How grave it is: `info`, `warn`, `error`.
    pub level: &'static str,
    /// What happened.
    pub what: &'static str,
    /// To whom; empty: to this node, or to nobody in particular.
    pub member: String,
    /// More of it; may be empty.
    pub detail: String,
}

/// What there has been.
#[derive(Default)]
pub(super) struct History(Mutex<Changes>);

#[derive(Default)]
struct Changes {
    /// The newest, oldest first.
    newest: VecDeque<Change>,
    /// How many there have been.
    count: u64,
}

impl History {
    /// Tells the log and keeps it.
    pub(super) fn note(&self, event: &ClusterEvent) {
        let change = change(event);
        let Change { level, what, member, detail, .. } = &change;
        match *level {
            "error" => tracing::error!(member, detail, "{what}"),
            "warn" => tracing::warn!(member, detail, "{what}"),
            _ => tracing::info!(member, detail, "{what}"),
        }
        let mut changes = self.lock();
        if changes.newest.len() == KEPT {
            changes.newest.pop_front();
        }
        changes.newest.push_back(change);
        changes.count += 1;
    }

    pub(super) fn newest(&self) -> Vec<Change> {
        self.lock().newest.iter().cloned().collect()
    }

    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().expect("no code panics while holding it")
    }
}

fn change(event: &ClusterEvent) -> Change {
    let told = |level, what, member: &dyn ToString, detail: String| Change {
        time: format!("{:.3}", jiff::Timestamp::now()),
        level,
        what,
        member: member.to_string(),
        detail,
    };
    let of_this = |level, what, detail: String| told(level, what, &"", detail);
    match event {
        ClusterEvent::MemberUp(node) => told("info", "a member is up", &node.name, node.address.to_string()),
        ClusterEvent::MemberReplaced(node) => {
            told("info", "a member has restarted", &node.name, node.address.to_string())
        }
        ClusterEvent::MemberPhase { name, phase } => {
            told("info", "a member's phase has changed", name, phase.as_str().to_owned())
        }
        ClusterEvent::MemberLeft(node) => told("info", "a member has left", &node.name, String::new()),
        ClusterEvent::MemberDown(node) => {
            told("warn", "a member is down", &node.name, node.address.to_string())
        }
        ClusterEvent::Rejoined => {
            of_this("warn", "the others took this node for dead; it is back", String::new())
        }
        ClusterEvent::NameTaken(node) => told(
            "error",
            "another node runs under this node's name; this one has withdrawn",
            &node.name,
            node.address.to_string(),
        ),
        ClusterEvent::ForeignCluster(address) => {
            of_this("warn", "packets of another cluster are refused (--cluster.name)", address.to_string())
        }
        ClusterEvent::JoinFailed { address, reason } => {
            of_this("warn", "cannot join; trying again", format!("{address}: {reason}"))
        }
        ClusterEvent::Isolated { others, patience } => of_this(
            "warn",
            "nobody is heard any more; this node keeps to what it owns",
            format!("{others} others were there; for {patience:?} at most"),
        ),
        ClusterEvent::Reconnected => of_this("info", "the others are heard again", String::new()),
        ClusterEvent::ViewsDiffer { with } => told(
            "warn",
            "a member has seen other members than this node for more than 10 s",
            with,
            String::new(),
        ),
        ClusterEvent::InTheClear => {
            of_this("info", "the cluster has no key; its packets travel in the clear", String::new())
        }
        ClusterEvent::StartedAlone { known } => of_this(
            "warn",
            "none of the members of the last start is found; this node goes ahead without them",
            format!("{known} were known"),
        ),
        ClusterEvent::TooSmall { members, wanted } => of_this(
            "warn",
            "too few members have come in time; this node goes ahead (--cluster.wait-timeout)",
            format!("{members} of {wanted}"),
        ),
        other => of_this("info", "the cluster has changed", format!("{other:?}")),
    }
}
