//! What people and programs ask of the cluster: who is there, and who owns what.

use serde::Serialize;

use super::service::Ownership;

/// A member, as the API shows it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub address: String,
    /// Whether it is this node.
    pub is_self: bool,
    /// In Alloy's words: `viewer`, `participant`, `terminating`.
    pub state: &'static str,
    /// The agent's version; empty: it has not said.
    pub version: String,
    /// The hash of the configuration that runs there; empty: it has not said.
    pub configuration: String,
}

/// A key and who owns it, as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Owned {
    /// The component that the key belongs to.
    pub component: String,
    /// What it is: a target's address or a file's path.
    pub name: String,
    /// The key, in hexadecimal.
    pub key: String,
    /// Who owns it by this node's view; `None` while nobody is active.
    pub owner: Option<String>,
    /// Who comes next.
    pub successor: Option<String>,
    /// Whose key it is, if this node works on it because its owner cannot.
    pub stands_in_for: Option<String>,
    /// What this node does about it: `idle`, `claiming`, `acting`, `stopping`.
    pub here: &'static str,
    /// For how long it has done that.
    pub here_seconds: u64,
}

impl Ownership {
    /// The members.
    pub fn peers(&self) -> Vec<Peer> {
        let me = self.membership().me();
        let view = self.membership().view();
        let peers = view.members().iter().map(|member| Peer {
            name: member.node.name.to_string(),
            address: member.node.address.to_string(),
            is_self: member.node.name == *me,
            state: Ownership::state_name(member.phase),
            version: member.version.to_string(),
            configuration: String::from_utf8_lossy(&member.metadata).into_owned(),
        });
        peers.collect()
    }

    /// Every key that this node knows, with its owner.
    pub fn list(&self) -> Vec<Owned> {
        let shards: Vec<_> = self.shards().values().cloned().collect();
        let mut list = Vec::new();
        for core in shards {
            let inner = core.lock();
            for status in inner.handover.statuses() {
                // States of keys that this node's discovery does not know (any more) are kept, but are nobody's.
                let Some(name) = inner.names.get(&status.key) else { continue };
                list.push(Owned {
                    component: core.component.to_string(),
                    name: name.to_string(),
                    key: format!("{:016x}", status.key),
                    owner: status.owner.as_ref().map(ToString::to_string),
                    successor: status.successor.as_ref().map(ToString::to_string),
                    stands_in_for: status.stands_in_for.as_ref().map(ToString::to_string),
                    here: status.activity.as_str(),
                    here_seconds: status.since.elapsed().as_secs(),
                });
            }
        }
        list.sort_by(|a, b| (&a.component, &a.name, &a.key).cmp(&(&b.component, &b.name, &b.key)));
        list
    }
}
