//! The full state as a stream message: every member with its state, and every member's attributes.
//!
//! ```text
//! | version (1) | kind: 0 ask, 1 answer | member count (u32) | members ... | attribute count (u32) | attributes ... |
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use foca::Member;

use crate::codec::{Attributes, CodecError, put_member, take_member, take_u8, take_u32};
use crate::node::Identity;

const VERSION: u8 = 1;

/// Whether the receiver shall send its own state back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncKind {
    Ask = 0,
    Answer = 1,
}

pub(super) struct FullState {
    pub(super) kind: SyncKind,
    pub(super) members: Vec<Member<Identity>>,
    pub(super) attributes: Vec<Attributes>,
}

impl FullState {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.members.len() * 128);
        out.put_slice(&[VERSION, self.kind as u8]);
        out.put_u32_le(self.members.len() as u32);
        for member in &self.members {
            put_member(&mut out, member);
        }
        out.put_u32_le(self.attributes.len() as u32);
        for attributes in &self.attributes {
            attributes.encode(&mut out);
        }
        out.freeze()
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        if take_u8(&mut bytes)? != VERSION {
            return Err(CodecError::Malformed);
        }
        let kind = match take_u8(&mut bytes)? {
            0 => SyncKind::Ask,
            1 => SyncKind::Answer,
            _ => return Err(CodecError::Malformed),
        };
        let mut members = Vec::new();
        for _ in 0..take_u32(&mut bytes)? {
            members.push(take_member(&mut bytes)?);
        }
        let mut attributes = Vec::new();
        for _ in 0..take_u32(&mut bytes)? {
            attributes.push(Attributes::decode(&mut bytes)?);
        }
        if bytes.has_remaining() {
            Err(CodecError::Malformed)
        } else {
            Ok(FullState { kind, members, attributes })
        }
    }
}
