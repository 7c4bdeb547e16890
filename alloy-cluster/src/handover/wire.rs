//! Messages between two handovers, to bytes and back. Pure; little-endian.
//!
//! ```text
//! | version (1) | kind | ...
//!   0 claim, 1 acting   | key (u64) ...
//!   2 answer            | key | 0 idle, 1 stopped, 2 wait | copy ...
//!   3 replicate         | batch (u64) | key | copy ...
//!   4 replicated        | batch (u64) |
//!   5 offer             | key (u64) ...
//! copy: | 0 none | or | 1 | term (u64) | sequence (u64) | writer (text) | 0 | or ... | 1 | length (u32) | state |
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::types::{STATE_BYTES_MAX, Version};
use crate::codec::{CodecError, put_text, take_name, take_slice, take_u8, take_u32, take_u64};
use crate::{Key, NodeName};

const VERSION: u8 = 1;

/// A message is closed once it has this many bytes: a large cluster's keys go in few messages, and one message
/// does not hold up the link for long. One state more may be on top.
pub(super) const MESSAGE_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// "I own these; stop, and give me their states."
    Claim(Vec<Key>),
    /// "I act on these, which you own."
    Acting(Vec<Key>),
    /// To a claim.
    Answer(Vec<Answer>),
    /// "Keep these copies."
    Replicate { batch: u64, copies: Vec<(Key, Copy)> },
    /// "I own these and cannot work on them; can you?"
    Offer(Vec<Key>),
    /// "I have the copies of that batch."
    Replicated { batch: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) key: Key,
    pub(super) kind: AnswerKind,
    pub(super) copy: Option<Copy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerKind {
    /// "I do not act on it."
    Idle = 0,
    /// "I have stopped for you."
    Stopped = 1,
    /// "Not yet: I am stopping, or I do not see yet that you own it."
    Wait = 2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) version: Version,
    pub(super) writer: NodeName,
    pub(super) state: Option<Bytes>,
}

impl Copy {
    pub(super) fn bytes(&self) -> usize {
        32 + self.writer.as_str().len() + self.state.as_ref().map_or(0, Bytes::len)
    }
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1024);
        out.put_u8(VERSION);
        match self {
            Message::Claim(keys) => put_keys(&mut out, 0, keys),
            Message::Acting(keys) => put_keys(&mut out, 1, keys),
            Message::Offer(keys) => put_keys(&mut out, 5, keys),
            Message::Answer(answers) => {
                out.put_u8(2);
                for answer in answers {
                    out.put_u64_le(answer.key);
                    out.put_u8(answer.kind as u8);
                    put_copy(&mut out, answer.copy.as_ref());
                }
            }
            Message::Replicate { batch, copies } => {
                out.put_u8(3);
                out.put_u64_le(*batch);
                for (key, copy) in copies {
                    out.put_u64_le(*key);
                    put_copy(&mut out, Some(copy));
                }
            }
            Message::Replicated { batch } => {
                out.put_u8(4);
                out.put_u64_le(*batch);
            }
        }
        out.freeze()
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        if take_u8(&mut bytes)? != VERSION {
            return Err(CodecError::Malformed);
        }
        match take_u8(&mut bytes)? {
            0 => Ok(Message::Claim(take_keys(bytes)?)),
            1 => Ok(Message::Acting(take_keys(bytes)?)),
            2 => {
                let mut answers = Vec::new();
                while bytes.has_remaining() {
                    answers.push(take_answer(&mut bytes)?);
                }
                Ok(Message::Answer(answers))
            }
            3 => {
                let batch = take_u64(&mut bytes)?;
                let mut copies = Vec::new();
                while bytes.has_remaining() {
                    let key = take_u64(&mut bytes)?;
                    copies.push((key, take_copy(&mut bytes)?.ok_or(CodecError::Malformed)?));
                }
                Ok(Message::Replicate { batch, copies })
            }
            5 => Ok(Message::Offer(take_keys(bytes)?)),
            4 if bytes.len() == 8 => Ok(Message::Replicated { batch: take_u64(&mut bytes)? }),
            _ => Err(CodecError::Malformed),
        }
    }
}

fn put_keys(out: &mut BytesMut, kind: u8, keys: &[Key]) {
    out.put_u8(kind);
    for key in keys {
        out.put_u64_le(*key);
    }
}

fn take_keys(mut bytes: &[u8]) -> Result<Vec<Key>, CodecError> {
    let mut keys = Vec::with_capacity(bytes.len() / 8);
    while bytes.has_remaining() {
        keys.push(take_u64(&mut bytes)?);
    }
    Ok(keys)
}

fn take_answer(bytes: &mut &[u8]) -> Result<Answer, CodecError> {
    let key = take_u64(bytes)?;
    let kind = match take_u8(bytes)? {
        0 => AnswerKind::Idle,
        1 => AnswerKind::Stopped,
        2 => AnswerKind::Wait,
        _ => return Err(CodecError::Malformed),
    };
    Ok(Answer { key, kind, copy: take_copy(bytes)? })
}

fn put_copy(out: &mut BytesMut, copy: Option<&Copy>) {
    let Some(copy) = copy else {
        out.put_u8(0);
        return;
    };
    out.put_u8(1);
    out.put_u64_le(copy.version.term);
    out.put_u64_le(copy.version.sequence);
    put_text(out, copy.writer.as_str());
    match &copy.state {
        None => out.put_u8(0),
        Some(state) => {
            out.put_u8(1);
            out.put_u32_le(state.len() as u32);
            out.put_slice(state);
        }
    }
}

fn take_copy(bytes: &mut &[u8]) -> Result<Option<Copy>, CodecError> {
    if !take_flag(bytes)? {
        return Ok(None);
    }
    let version = Version { term: take_u64(bytes)?, sequence: take_u64(bytes)? };
    let writer = take_name(bytes)?;
    if !take_flag(bytes)? {
        return Ok(Some(Copy { version, writer, state: None }));
    }
    let len = take_u32(bytes)? as usize;
    if len > STATE_BYTES_MAX {
        return Err(CodecError::Malformed);
    }
    let state = Some(take_slice(bytes, len)?.into());
    Ok(Some(Copy { version, writer, state }))
}

fn take_flag(bytes: &mut &[u8]) -> Result<bool, CodecError> {
    match take_u8(bytes)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CodecError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire_and_cuts_never_panic() {
        let copy = Copy {
            version: Version { term: 3, sequence: 9 },
            writer: "a".into(),
            state: Some(Bytes::from_static(b"cursor")),
        };
        let answer = |kind, copy| Answer { key: 7, kind, copy };
        let messages = [
            Message::Claim(vec![1, u64::MAX]),
            Message::Acting(vec![]),
            Message::Offer(vec![3]),
            Message::Answer(vec![
                answer(AnswerKind::Idle, None),
                answer(AnswerKind::Stopped, Some(copy.clone())),
                answer(AnswerKind::Wait, Some(Copy { state: None, ..copy.clone() })),
            ]),
            Message::Replicate { batch: 5, copies: vec![(1, copy)] },
            Message::Replicated { batch: 5 },
        ];
        for message in messages {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Ok(message));
            for len in 0..bytes.len() {
                let _any_answer_but_a_panic = Message::decode(&bytes[..len]);
            }
        }
    }
}
