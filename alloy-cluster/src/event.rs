//! What happened in the cluster, for logs and people. Decisions follow the view, not these.

use std::net::SocketAddr;

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
    /// None of the addresses to join answers, or one does not resolve. Tried again at every rejoin interval.
    JoinFailed {
        /// What was tried, as configured.
        address: String,
        /// What went wrong.
        reason: String,
    },
}
