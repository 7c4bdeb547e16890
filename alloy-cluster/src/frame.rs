//! What travels on a link: a hello, then frames. Pure.
//!
//! ```text
//! hello: | magic (4) | version | key id | cluster (u64) | incarnation (u64) | sender's name (text) | salt (16) if sealed |
//! frame: | length of the rest (u32) | 0 state   |                  payload |
//!        |                          | 1 message | channel (text) | payload |
//! ```
//! Little-endian. With a key id that is not 0, all of a frame but the length is sealed (`link_seal.rs`). The magic begins with a byte that no HTTP request begins with, so that links can share a port
//! with an HTTP server that looks at the first four bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::NodeName;
use crate::codec::{CodecError, put_text, take_name, take_text, take_u8, take_u64};

/// The first bytes of every link.
pub const LINK_MAGIC: [u8; 4] = [0xA1, b'L', b'N', b'K'];

/// The longest frame: the full state of 20,000 members, or a batch of states with room to spare.
pub(crate) const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What sealing adds to a frame.
pub(crate) const FRAME_TAG_BYTES: usize = 16;

/// The bytes of a hello before the name's.
pub(crate) const HELLO_HEAD_BYTES: usize = 23;

const VERSION: u8 = 1;

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// 0: in the clear, without a salt.
    pub(crate) key_id: u8,
    pub(crate) cluster: u64,
    pub(crate) incarnation: u64,
    pub(crate) name: NodeName,
}

impl Hello {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&LINK_MAGIC);
        out.put_slice(&[VERSION, self.key_id]);
        out.put_u64_le(self.cluster);
        out.put_u64_le(self.incarnation);
        put_text(&mut out, self.name.as_str());
        out.freeze()
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let is_ours = bytes.strip_prefix(&LINK_MAGIC).and_then(|rest| rest.strip_prefix(&[VERSION]));
        bytes = is_ours.ok_or(CodecError::Malformed)?;
        let key_id = take_u8(&mut bytes)?;
        let (cluster, incarnation) = (take_u64(&mut bytes)?, take_u64(&mut bytes)?);
        let name = take_name(&mut bytes)?;
        if bytes.has_remaining() {
            Err(CodecError::Malformed)
        } else {
            Ok(Hello { key_id, cluster, incarnation, name })
        }
    }
}

/// One thing said over a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The membership protocol's full state.
    State(Bytes),
    /// The caller's.
    Message { channel: String, payload: Bytes },
}

impl Frame {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Frame::State(payload) => 5 + payload.len(),
            Frame::Message { channel, payload } => 6 + channel.len() + payload.len(),
        }
    }

    /// The bytes before the payload, and the payload.
    pub(crate) fn encode(&self) -> (Bytes, Bytes) {
        let mut head = BytesMut::new();
        head.put_u32_le((self.bytes() - 4) as u32);
        match self {
            Frame::State(payload) => {
                head.put_u8(0);
                (head.freeze(), payload.clone())
            }
            Frame::Message { channel, payload } => {
                head.put_u8(1);
                put_text(&mut head, channel);
                (head.freeze(), payload.clone())
            }
        }
    }

    /// Decodes what follows the length.
    pub(crate) fn decode(mut rest: Bytes) -> Result<Self, CodecError> {
        match take_u8(&mut rest)? {
            0 => Ok(Frame::State(rest)),
            1 => Ok(Frame::Message { channel: take_text(&mut rest, 255)?, payload: rest }),
            _ => Err(CodecError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_and_frames_survive_the_wire() {
        let hello = Hello { key_id: 3, cluster: 1, incarnation: 2, name: "node".into() };
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello.clone()));
        assert_eq!(hello.encode().len(), HELLO_HEAD_BYTES + 4);
        for frame in [
            Frame::State(Bytes::from_static(b"state")),
            Frame::Message { channel: "targets".into(), payload: Bytes::from_static(b"claim") },
        ] {
            let (head, payload) = frame.encode();
            assert_eq!(head.len() + payload.len(), frame.bytes());
            let rest: Bytes = [&head[4..], &payload[..]].concat().into();
            assert_eq!(Frame::decode(rest), Ok(frame));
        }
    }
}
