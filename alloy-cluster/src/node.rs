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
