//! The order in which components stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::live::Live;
use super::node::{Node, Role};

/// How long all components together may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(40);

/// The components that are not in `kept`, in groups: those of one have stopped when the next is told to. Each comes behind
/// all that refer to it, and so may send to it.
pub(super) fn stop_order(nodes: &[Node], kept: &BTreeSet<Arc<str>>) -> Vec<Vec<Arc<Live>>> {
    // How many components follow one another up to each node.
    let mut levels = vec![0_usize; nodes.len()];
    for (index, node) in nodes.iter().enumerate().rev() {
        let level = levels[index] + usize::from(matches!(node.role, Role::Component(..)));
        for (_, need) in &node.needs {
            levels[*need] = levels[*need].max(level);
        }
    }
    let mut groups: BTreeMap<usize, Vec<Arc<Live>>> = BTreeMap::new();
    for (node, level) in nodes.iter().zip(levels) {
        if let Role::Component(live) = &node.role
            && !kept.contains(&node.id)
        {
            groups.entry(level).or_default().push(live.clone());
        }
    }
    groups.into_values().collect()
}

/// Stops the groups, one after the other.
pub(super) async fn stop_all(groups: Vec<Vec<Arc<Live>>>) {
    let deadline = Instant::now() + STOP_PATIENCE;
    for group in groups {
        let mut stopping: JoinSet<()> =
            group.into_iter().map(|live| async move { live.stop(deadline).await }).collect();
        while stopping.join_next().await.is_some() {}
    }
}
