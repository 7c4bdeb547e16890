//! What happened in the cluster, for logs and people. Decisions follow the view, not these.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Node, NodeName, Phase};

/// One change of state in the cluster, as seen from this node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// A member came, or came back after it had been declared down.
    MemberUp(Node),
    /// A member restarted: its name is now held by a newer incarnation, maybe at another address.
    MemberReplaced(Node),
    /// A member is ready for something else.
    MemberPhase {
        /// Who.
        name: NodeName,
        /// What for.
        phase: Phase,
    },
    /// A member said goodbye.
    MemberLeft(Node),
    /// A member no longer answers.
    MemberDown(Node),
    /// The others had declared this node down; it has come back by itself.
    Rejoined,
    /// A newer process of this node's name runs elsewhere. This node has withdrawn: it is alone in its view, in
    /// phase joining, and silent. Stop it, or start it again under another name.
    NameTaken(Node),
    /// Packets of a cluster with another name arrive, and are refused. Told once per address and minute.
    ForeignCluster(SocketAddr),
    /// No packet of anybody comes any more, though there were others: this node keeps to its view, works on what it owns,
    /// and takes over nothing, for this long at most.
    Isolated {
        /// How many others there were.
        others: usize,
        /// How long it waits for them ([`Timing::isolation_patience`](crate::Timing::isolation_patience)).
        patience: Duration,
    },
    /// After [`Isolated`](ClusterEvent::Isolated) somebody is heard again.
    Reconnected,
    /// A node that knew others in its last life ([`Hint`](crate::Hint)) finds none of them, and owns everything from now on.
    StartedAlone {
        /// How many others it knew.
        known: usize,
    },
    /// [`Cluster::wait_for_size`](crate::Cluster::wait_for_size) has waited in vain.
    TooSmall {
        /// How many members there are.
        members: usize,
        /// How many were waited for.
        wanted: usize,
    },
    /// A member sees another view than this node for longer than 10 s, though they exchange all they know.
    ViewsDiffer {
        /// Who.
        with: NodeName,
    },
    /// There is no key: packets and streams travel in the clear. Told once.
    InTheClear,
    /// None of the addresses to join answers, or one does not resolve. Tried again at every rejoin interval.
    JoinFailed {
        /// What was tried, as configured.
        address: String,
        /// What went wrong.
        reason: String,
    },
}
