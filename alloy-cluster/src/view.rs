//! The members as one node sees them at one moment.

use std::net::SocketAddr;
use std::sync::Arc;

use twox_hash::XxHash3_64;

use crate::{Node, NodeName};

/// What a member is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Sees the cluster and owns nothing: its configuration and discovery are not ready.
    Joining,
    /// Owns its share.
    Active,
    /// Still answers, owns nothing new: its keys are being claimed by the others.
    Leaving,
}

impl Phase {
    /// The word for people and labels: `joining`, `active`, `leaving`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Joining => "joining",
            Phase::Active => "active",
            Phase::Leaving => "leaving",
        }
    }
}

/// One living member in a [`View`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub node: Node,
    /// What it is ready for.
    pub phase: Phase,
    /// Failure domain; successors are chosen from another zone where there is one. Empty: unknown.
    pub zone: Arc<str>,
    /// Share of the keys relative to the others, in hundredths: 100 is one share. Never 0.
    pub weight: u16,
    /// The version of the program that runs there, for people, at most 32 bytes; empty: unknown.
    pub version: Arc<str>,
    /// Small data of the caller (an HTTP address, a configuration's hash), at most 512 bytes.
    pub metadata: Arc<[u8]>,
}

impl Member {
    /// A member with one share that is not ready for anything yet, and says nothing else of itself.
    pub fn new(node: Node) -> Self {
        Member {
            node,
            phase: Phase::Joining,
            zone: "".into(),
            weight: 100,
            version: "".into(),
            metadata: [].into(),
        }
    }
}

/// The living members, sorted by name, at one moment. Immutable and shared.
///
/// Views with the same members that say the same of themselves have the same [`digest`](View::digest), on every machine;
/// the epoch counts changes on this node alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub(crate) epoch: u64,
    pub(crate) content: Arc<Content>,
}

/// All of a view but its epoch: simulated nodes that see the same share it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    members: Vec<Member>,
    name_hashes: Vec<u64>,
    digest: u64,
}

impl View {
    /// A view of these members, in any order; of two with one name the higher incarnation stays.
    pub fn new(epoch: u64, mut members: Vec<Member>) -> Self {
        members
            .sort_by(|a, b| a.node.name.cmp(&b.node.name).then(b.node.incarnation.cmp(&a.node.incarnation)));
        members.dedup_by(|a, b| a.node.name == b.node.name);
        let digest = digest(&members);
        let name_hashes = members.iter().map(|member| member.node.name.hash()).collect();
        View { epoch, content: Arc::new(Content { members, name_hashes, digest }) }
    }

    /// Counts the changes of the view on this node.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The members, sorted by name.
    pub fn members(&self) -> &[Member] {
        &self.content.members
    }

    /// XXH3 of the name of each of the [`members`](View::members): a sharder mixes it with the key, so that a
    /// name is hashed once per view and not once per key.
    pub fn name_hashes(&self) -> &[u64] {
        &self.content.name_hashes
    }

    /// Equal on two nodes exactly when they see the same members and the same of each; where they are does not count.
    pub fn digest(&self) -> u64 {
        self.content.digest
    }

    /// The member of that name.
    pub fn member(&self, name: &NodeName) -> Option<&Member> {
        self.index_of(name).map(|index| &self.members()[index])
    }

    /// The index of the member of that name in [`members`](View::members).
    pub fn index_of(&self, name: &NodeName) -> Option<usize> {
        self.members().binary_search_by(|member| member.node.name.cmp(name)).ok()
    }

    /// The address of the member of that name.
    pub fn address(&self, name: &NodeName) -> Option<SocketAddr> {
        self.member(name).map(|member| member.node.address)
    }
}

/// XXH3 over all that a member says of itself but its address, each string behind its length.
fn digest(members: &[Member]) -> u64 {
    let mut bytes = Vec::with_capacity(members.len() * 64);
    for member in members {
        let texts = [member.node.name.as_str(), &member.zone, &member.version].map(str::as_bytes);
        for text in texts.into_iter().chain([&*member.metadata]) {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text);
        }
        bytes.extend_from_slice(&member.node.incarnation.to_le_bytes());
        bytes.extend_from_slice(&member.weight.to_le_bytes());
        bytes.push(member.phase as u8);
    }
    XxHash3_64::oneshot(&bytes)
}
