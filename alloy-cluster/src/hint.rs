//! [`Hint`]: the members of the last view, for the next start.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{self, CodecError};
use crate::node::Life;
use crate::{NodeName, View};

/// Members in a hint: 28 bytes and the name for each.
const MEMBERS_MAX: usize = 20_000;
const MAGIC: [u8; 4] = *b"ALCH";
const VERSION: u8 = 1;

/// Who was there when this node last looked. The caller keeps it over a restart, for example in a file that it replaces
/// whenever the view changes, and gives it to [`ClusterConfig::hint`](crate::ClusterConfig::hint): the node asks those it
/// knew, too, and does not take it that it is alone only because its names do not resolve today.
///
/// ```text
/// | ALCH | version (1) | member count (u32) | name, address, incarnation, renewal (0) ... |
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hint {
    members: Vec<(NodeName, SocketAddr)>,
}

impl Hint {
    /// The others in a view.
    pub fn of(view: &View, me: &NodeName) -> Self {
        let members = view.members().iter().filter(|member| member.node.name != *me);
        let members = members.map(|member| (member.node.name.clone(), member.node.address));
        Hint { members: members.take(MEMBERS_MAX).collect() }
    }

    /// Who they were, and where.
    pub fn members(&self) -> &[(NodeName, SocketAddr)] {
        &self.members
    }

    /// As bytes that [`decode`](Hint::decode) reads, in this and in later versions.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(9 + self.members.len() * 48);
        out.put_slice(&MAGIC);
        out.put_u8(VERSION);
        out.put_u32_le(self.members.len() as u32);
        for (name, address) in &self.members {
            let life = Life { name: name.clone(), address: *address, incarnation: 0, renewal: 0 };
            codec::put_identity(&mut out, &life);
        }
        out.freeze()
    }

    /// Reads what [`encode`](Hint::encode) wrote. Anything else, an empty file too, is a hint of nobody: a damaged hint is
    /// no reason not to start.
    pub fn decode(bytes: &[u8]) -> Self {
        decode(bytes).unwrap_or_default()
    }
}

fn decode(bytes: &[u8]) -> Result<Hint, CodecError> {
    let rest = bytes.strip_prefix(&MAGIC).and_then(|rest| rest.strip_prefix(&[VERSION]));
    let mut rest = rest.ok_or(CodecError::Malformed)?;
    let count = codec::take_u32(&mut rest)? as usize;
    let mut members = Vec::new();
    for _ in 0..count.min(MEMBERS_MAX) {
        let identity = codec::take_identity(&mut rest)?;
        members.push((identity.name.clone(), identity.address));
    }
    Ok(Hint { members })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Member, Node};

    #[test]
    fn a_hint_survives_and_damage_is_a_hint_of_nobody() {
        let member = |name: &str, port| {
            Member::new(Node { name: name.into(), address: ([10, 0, 0, 1], port).into(), incarnation: 7 })
        };
        let view = View::new(1, vec![member("me", 1), member("a", 2), member("b", 3)]);
        let hint = Hint::of(&view, &"me".into());
        assert_eq!(hint.members().len(), 2);
        let bytes = hint.encode();
        assert_eq!(Hint::decode(&bytes), hint);
        for len in 0..bytes.len() {
            assert_eq!(Hint::decode(&bytes[..len]), Hint::default(), "length {len}");
        }
    }
}
