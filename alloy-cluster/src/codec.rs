//! Bytes of the membership protocol: identities, members, headers and attributes. Pure.
//!
//! Texts are one length byte and UTF-8, integers little-endian, an address is 4 or 6, the octets and the port.
//! Decoding checks every length before it reads, so bytes from anywhere cost an error at worst.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};

use crate::node::{Identity, Life};
use crate::{NodeName, Phase};

/// The longest name of a node, of a zone and of a version, and the longest metadata: together they and the header of a
/// packet stay below the 1,332 bytes of a sealed payload (header 2 * 160, attributes 160 + 80 + 32 + 512 + 32).
pub(crate) const NAME_BYTES_MAX: usize = 128;
pub(crate) const ZONE_BYTES_MAX: usize = 64;
pub(crate) const VERSION_BYTES_MAX: usize = 32;
pub(crate) const METADATA_BYTES_MAX: usize = 512;

/// The tag of "you are down".
const TURN_UNDEAD: u8 = 10;

/// Bytes that do not decode, or do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("bytes do not decode")]
    Malformed,
    #[error("no room left in the packet")]
    Full,
}

/// What a member says about itself; the newest wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) name: NodeName,
    pub(crate) incarnation: u64,
    /// Grows with each change in one incarnation.
    pub(crate) revision: u32,
    pub(crate) phase: Phase,
    pub(crate) weight: u16,
    pub(crate) zone: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) metadata: Arc<[u8]>,
}

impl Attributes {
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        put_text(out, self.name.as_str());
        out.put_u64_le(self.incarnation);
        out.put_u32_le(self.revision);
        out.put_u8(self.phase as u8);
        out.put_u16_le(self.weight);
        put_text(out, &self.zone);
        put_text(out, &self.version);
        out.put_u16_le(self.metadata.len() as u16);
        out.put_slice(&self.metadata);
    }

    pub(crate) fn decode(bytes: &mut impl Buf) -> Result<Self, CodecError> {
        let name = take_name(bytes)?;
        let incarnation = take_u64(bytes)?;
        let revision = take_u32(bytes)?;
        let phase = match take_u8(bytes)? {
            0 => Phase::Joining,
            1 => Phase::Active,
            2 => Phase::Leaving,
            _ => return Err(CodecError::Malformed),
        };
        let weight = take_u16(bytes)?;
        let zone = take_text(bytes, ZONE_BYTES_MAX)?;
        let version = take_text(bytes, VERSION_BYTES_MAX)?;
        let len = usize::from(take_u16(bytes)?);
        if weight == 0 || len > METADATA_BYTES_MAX {
            return Err(CodecError::Malformed);
        }
        let metadata = take_slice(bytes, len)?.into();
        Ok(Attributes { name, incarnation, revision, phase, weight, zone, version, metadata })
    }
}

/// The codec that foca uses. It knows this node's name, because a node that joins knows addresses only: it
/// leaves the receiver's name empty, and whoever receives that reads its own.
pub(crate) struct Codec {
    pub(crate) me: NodeName,
}

impl foca::Codec<Identity> for Codec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, mut buf: impl BufMut) -> Result<(), CodecError> {
        let mut out = Vec::with_capacity(128);
        put_identity(&mut out, &header.src);
        out.put_u16_le(header.src_incarnation);
        put_identity(&mut out, &header.dst);
        put_message(&mut out, &header.message);
        put_all(&mut buf, &out)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        let src = take_identity(&mut buf)?;
        let src_incarnation = take_u16(&mut buf)?;
        let mut dst = take_life_or_wildcard(&mut buf)?;
        if dst.name.as_str().is_empty() {
            dst.name = self.me.clone();
        }
        let dst = Identity::new(dst);
        let message = take_message(&mut buf)?;
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<Identity>, mut buf: impl BufMut) -> Result<(), CodecError> {
        let mut out = Vec::with_capacity(64);
        put_member(&mut out, member);
        put_all(&mut buf, &out)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        take_member(&mut buf)
    }
}

/// Whether the packet says that its receiver is down: nearly none does, so the identities before that are skipped.
pub(crate) fn is_turn_undead(mut packet: &[u8]) -> bool {
    let bytes = &mut packet;
    let tag = skip_identity(bytes).and_then(|()| take_u16(bytes)).and_then(|_| skip_identity(bytes));
    tag.and_then(|()| take_u8(bytes)) == Ok(TURN_UNDEAD)
}

fn skip_identity(bytes: &mut &[u8]) -> Result<(), CodecError> {
    let name = usize::from(take_u8(bytes)?);
    *bytes = bytes.get(name..).ok_or(CodecError::Malformed)?;
    let address = if take_u8(bytes)? == 4 { 4 } else { 16 };
    // The port, the incarnation and the renewal follow.
    *bytes = bytes.get(address + 2 + 8 + 2..).ok_or(CodecError::Malformed)?;
    Ok(())
}

fn put_all(buf: &mut impl BufMut, bytes: &[u8]) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

pub(crate) fn put_member(out: &mut impl BufMut, member: &Member<Identity>) {
    put_identity(out, member.id());
    out.put_u16_le(member.incarnation());
    out.put_u8(match member.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
}

pub(crate) fn take_member(bytes: &mut impl Buf) -> Result<Member<Identity>, CodecError> {
    let identity = take_identity(bytes)?;
    let incarnation = take_u16(bytes)?;
    let state = match take_u8(bytes)? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(CodecError::Malformed),
    };
    Ok(Member::new(identity, incarnation, state))
}

pub(crate) fn put_identity(out: &mut impl BufMut, identity: &Life) {
    put_text(out, identity.name.as_str());
    match identity.address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16_le(identity.address.port());
    out.put_u64_le(identity.incarnation);
    out.put_u16_le(identity.renewal);
}

pub(crate) fn take_identity(bytes: &mut impl Buf) -> Result<Identity, CodecError> {
    let life = take_life_or_wildcard(bytes)?;
    if life.name.as_str().is_empty() { Err(CodecError::Malformed) } else { Ok(Identity::new(life)) }
}

fn take_life_or_wildcard(bytes: &mut impl Buf) -> Result<Life, CodecError> {
    let name = take_text(bytes, NAME_BYTES_MAX)?;
    let ip = match take_u8(bytes)? {
        4 => IpAddr::V4(Ipv4Addr::from(take_array::<4>(bytes)?)),
        6 => IpAddr::V6(Ipv6Addr::from(take_array::<16>(bytes)?)),
        _ => return Err(CodecError::Malformed),
    };
    let address = SocketAddr::new(ip, take_u16(bytes)?);
    Ok(Life { name, address, incarnation: take_u64(bytes)?, renewal: take_u16(bytes)? })
}

fn put_message(out: &mut impl BufMut, message: &Message<Identity>) {
    let (tag, number, identity) = match message {
        Message::Ping(number) => (0, Some(*number), None),
        Message::Ack(number) => (1, Some(*number), None),
        Message::PingReq { target, probe_number } => (2, Some(*probe_number), Some(target)),
        Message::IndirectPing { origin, probe_number } => (3, Some(*probe_number), Some(origin)),
        Message::IndirectAck { target, probe_number } => (4, Some(*probe_number), Some(target)),
        Message::ForwardedAck { origin, probe_number } => (5, Some(*probe_number), Some(origin)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::Broadcast => (9, None, None),
        Message::TurnUndead => (TURN_UNDEAD, None, None),
    };
    out.put_u8(tag);
    if let Some(number) = number {
        out.put_u8(number);
    }
    if let Some(identity) = identity {
        put_identity(out, identity);
    }
}

fn take_message(bytes: &mut impl Buf) -> Result<Message<Identity>, CodecError> {
    let tag = take_u8(bytes)?;
    let probe_number = if tag <= 5 { take_u8(bytes)? } else { 0 };
    Ok(match tag {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq { target: take_identity(bytes)?, probe_number },
        3 => Message::IndirectPing { origin: take_identity(bytes)?, probe_number },
        4 => Message::IndirectAck { target: take_identity(bytes)?, probe_number },
        5 => Message::ForwardedAck { origin: take_identity(bytes)?, probe_number },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        TURN_UNDEAD => Message::TurnUndead,
        _ => return Err(CodecError::Malformed),
    })
}

/// One length byte and the text; the caller has checked that it is at most 255 bytes long.
pub(crate) fn put_text(out: &mut impl BufMut, text: &str) {
    debug_assert!(text.len() <= 255);
    out.put_u8(text.len() as u8);
    out.put_slice(text.as_bytes());
}

/// Reads a text of at most so many bytes, as whatever is made of texts.
pub(crate) fn take_text<T: for<'a> From<&'a str>>(bytes: &mut impl Buf, max: usize) -> Result<T, CodecError> {
    let len = usize::from(take_u8(bytes)?);
    if len > max || bytes.remaining() < len {
        return Err(CodecError::Malformed);
    }
    let made = |text: &[u8]| std::str::from_utf8(text).map(T::from).map_err(|_| CodecError::Malformed);
    if bytes.chunk().len() < len {
        return made(&take_slice(bytes, len)?);
    }
    let text = made(&bytes.chunk()[..len]);
    bytes.advance(len);
    text
}

pub(crate) fn take_name(bytes: &mut impl Buf) -> Result<NodeName, CodecError> {
    let name: NodeName = take_text(bytes, NAME_BYTES_MAX)?;
    if name.as_str().is_empty() { Err(CodecError::Malformed) } else { Ok(name) }
}

pub(crate) fn take_slice(bytes: &mut impl Buf, len: usize) -> Result<Vec<u8>, CodecError> {
    if bytes.remaining() < len {
        return Err(CodecError::Malformed);
    }
    let mut slice = vec![0; len];
    bytes.copy_to_slice(&mut slice);
    Ok(slice)
}

fn take_array<const N: usize>(bytes: &mut impl Buf) -> Result<[u8; N], CodecError> {
    let mut array = [0; N];
    bytes.try_copy_to_slice(&mut array).map_err(|_| CodecError::Malformed)?;
    Ok(array)
}

pub(crate) fn take_u8(bytes: &mut impl Buf) -> Result<u8, CodecError> {
    bytes.try_get_u8().map_err(|_| CodecError::Malformed)
}

pub(crate) fn take_u16(bytes: &mut impl Buf) -> Result<u16, CodecError> {
    bytes.try_get_u16_le().map_err(|_| CodecError::Malformed)
}

pub(crate) fn take_u32(bytes: &mut impl Buf) -> Result<u32, CodecError> {
    bytes.try_get_u32_le().map_err(|_| CodecError::Malformed)
}

pub(crate) fn take_u64(bytes: &mut impl Buf) -> Result<u64, CodecError> {
    bytes.try_get_u64_le().map_err(|_| CodecError::Malformed)
}
