//! Who a member is.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use twox_hash::XxHash3_64;

/// A member's name: unique in its cluster, stable over restarts. Ownership hashes it. Cheap to clone and to compare.
#[derive(Clone)]
pub struct NodeName {
    text: Arc<str>,
    hash: u64,
    /// The first eight bytes, so that most names are put in order without looking at the text.
    head: u64,
}

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// XXH3 of the name.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl From<&str> for NodeName {
    fn from(name: &str) -> Self {
        let mut head = [0; 8];
        let len = name.len().min(8);
        head[..len].copy_from_slice(&name.as_bytes()[..len]);
        NodeName {
            text: name.into(),
            hash: XxHash3_64::oneshot(name.as_bytes()),
            head: u64::from_be_bytes(head),
        }
    }
}

impl PartialEq for NodeName {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for NodeName {}

impl Hash for NodeName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialOrd for NodeName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NodeName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head).then_with(|| {
            // Nearly all names that begin alike are clones of one.
            if Arc::ptr_eq(&self.text, &other.text) { Ordering::Equal } else { self.text.cmp(&other.text) }
        })
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, formatter)
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
///
/// Foca keeps one for every member and copies it often, so it is a shared [`Life`] and takes 16 bytes.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    life: Arc<Life>,
    /// The name's: foca compares it with that of every member for each packet.
    name_hash: u64,
}

/// What an [`Identity`] stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) name: NodeName,
    pub(crate) address: SocketAddr,
    pub(crate) incarnation: u64,
    pub(crate) renewal: u16,
}

impl Identity {
    pub(crate) fn new(life: Life) -> Self {
        Identity { name_hash: life.name.hash(), life: Arc::new(life) }
    }

    /// Whoever listens at the address.
    pub(crate) fn wildcard(address: SocketAddr) -> Self {
        Identity::new(Life { name: NodeName::from(""), address, incarnation: 0, renewal: 0 })
    }

    /// Stands for this very identity in small packets, on every machine.
    pub(crate) fn tag(&self) -> u64 {
        let mut bytes = Vec::with_capacity(160);
        crate::codec::put_identity(&mut bytes, self);
        XxHash3_64::oneshot(&bytes)
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
        let Node { name, address, incarnation } = node;
        Identity::new(Life { name, address, incarnation, renewal: 0 })
    }
}

impl Deref for Identity {
    type Target = Life;

    fn deref(&self) -> &Life {
        &self.life
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        // The hashes tell nearly all others apart without a look at them.
        self.name_hash == other.name_hash && self.life == other.life
    }
}

impl Eq for Identity {}

impl foca::Identity for Identity {
    /// The name's hash. Two names of one hash among 10,000 are less likely than one in 10^11.
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        let (incarnation, renewal) = match self.renewal.checked_add(1) {
            Some(renewal) => (self.incarnation, renewal),
            None => (self.incarnation + 1, 0),
        };
        Some(Identity::new(Life { incarnation, renewal, ..Life::clone(self) }))
    }

    fn addr(&self) -> u64 {
        self.name_hash
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.beats(adversary)
    }
}
