//! Looks through a packet of the protocol before foca sees it.
//!
//! Foca applies the first half of a packet before it notices that the second is broken, and answers news about
//! its own name by declaring the other holder of the name down. So a packet is decoded whole here first; what it says
//! about members is taken out, and applied if it is news.

use bytes::{Buf, BufMut};
use foca::{Codec as _, Header, Member, Message, State};

use crate::NodeName;
use crate::codec::{Attributes, Codec, CodecError};
use crate::node::Identity;

/// A packet that decodes to the last byte.
pub(super) struct Screened {
    pub(super) header: Header<Identity>,
    pub(super) members: Vec<Member<Identity>>,
    header_bytes: usize,
    broadcasts_at: usize,
}

/// Decodes a packet whole.
pub(super) fn screen(me: &NodeName, payload: &[u8]) -> Result<Screened, CodecError> {
    let mut codec = Codec { me: me.clone() };
    let mut rest = payload;
    let header = codec.decode_header(&mut rest)?;
    let header_bytes = payload.len() - rest.len();
    let mut members = Vec::new();
    if rest.len() >= 2 && header.message != Message::Broadcast {
        for _ in 0..rest.get_u16() {
            members.push(codec.decode_member(&mut rest)?);
        }
    }
    let broadcasts_at = payload.len() - rest.len();
    while !rest.is_empty() {
        let len = usize::from(rest.try_get_u16().map_err(|_| CodecError::Malformed)?);
        let mut item = rest.get(..len).ok_or(CodecError::Malformed)?;
        Attributes::decode(&mut item)?;
        if !item.is_empty() {
            return Err(CodecError::Malformed);
        }
        rest.advance(len);
    }
    Ok(Screened { header, members, header_bytes, broadcasts_at })
}

impl Screened {
    /// Other lives of our own name in the packet: who, and whether they are said to live.
    pub(super) fn namesakes(&self, me: &Identity) -> impl Iterator<Item = (&Identity, State)> {
        let members = self.members.iter().map(|member| (member.id(), member.state()));
        members.filter(move |(identity, _)| identity.name == me.name && *identity != me)
    }

    /// The packet without what it says about members.
    pub(super) fn without_members(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = payload[..self.header_bytes].to_vec();
        if self.header_bytes < self.broadcasts_at {
            packet.put_u16(0);
        }
        packet.extend_from_slice(&payload[self.broadcasts_at..]);
        packet
    }
}
