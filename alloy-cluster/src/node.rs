//! Who a member is.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A member's name: unique in its cluster, stable over restarts. Ownership hashes it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeName {
    fn from(name: &str) -> Self {
        NodeName(name.into())
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

/// A member as the protocol knows it. Two nodes of one name are the same member at different times:
/// the one with the higher incarnation wins at once, whatever its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Where its packets go (UDP); its streams go to the same address and port over TCP.
    pub address: SocketAddr,
    /// Grows with each start of the name: milliseconds since the Unix epoch when it started will do.
    pub incarnation: u64,
}

/// A [`Node`] as the failure detector tells it apart. A node that was declared down while it lived comes back
/// with the next renewal; its incarnation, which counts its starts, stays.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) name: NodeName,
    pub(crate) address: SocketAddr,
    pub(crate) incarnation: u64,
    pub(crate) renewal: u16,
}

impl Identity {
    /// Whoever listens at the address.
    pub(crate) fn wildcard(address: SocketAddr) -> Self {
        Identity { name: NodeName::from(""), address, incarnation: 0, renewal: 0 }
    }

    /// Stands for this very identity in small packets, on every machine.
    pub(crate) fn tag(&self) -> u64 {
        let mut bytes = Vec::with_capacity(160);
        crate::codec::put_identity(&mut bytes, self);
        twox_hash::XxHash3_64::oneshot(&bytes)
    }

    pub(crate) fn node(&self) -> Node {
        Node { name: self.name.clone(), address: self.address, incarnation: self.incarnation }
    }

    /// Of two lives of one name the one that started later counts; the address only settles a tie, so that
    /// all nodes settle it alike.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        (self.incarnation, self.renewal, self.address) > (other.incarnation, other.renewal, other.address)
    }
}

impl From<Node> for Identity {
    fn from(node: Node) -> Self {
        Identity { name: node.name, address: node.address, incarnation: node.incarnation, renewal: 0 }
    }
}

impl foca::Identity for Identity {
    type Addr = NodeName;

    fn renew(&self) -> Option<Self> {
        let (incarnation, renewal) = match self.renewal.checked_add(1) {
            Some(renewal) => (self.incarnation, renewal),
            None => (self.incarnation + 1, 0),
        };
        Some(Identity { incarnation, renewal, ..self.clone() })
    }

    fn addr(&self) -> NodeName {
        self.name.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.beats(adversary)
    }
}
