//! The envelope of a datagram. Pure; a packet is either taken whole or refused whole.
//!
//! ```text
//!  0      4         5        6      7      8              16              24         28
//!  | magic | version | key id | kind | zero | cluster (u64) | digest (u64)  | checksum | payload ...
//! ```
//! Integers are little-endian. `cluster` is the XXH3 of the cluster's name: it keeps clusters that share a
//! network apart, it is no secret. `digest` is the digest of the sender's view. The checksum is the low half of
//! the XXH3 of the packet with a zero checksum: a flipped bit is seen here and not by the protocol. Key id 0 says
//! that the payload is not encrypted.

use bytes::{BufMut, Bytes, BytesMut};
use twox_hash::XxHash3_64;

/// The longest datagram sent or accepted: fits an Ethernet frame with room for tunnels.
pub(crate) const PACKET_BYTES_MAX: usize = 1400;

/// The bytes before the payload.
pub(crate) const ENVELOPE_BYTES: usize = 28;

const MAGIC: [u8; 4] = *b"ALCL";
const VERSION: u8 = 1;
const KEY_ID_PLAIN: u8 = 0;

/// What the payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketKind {
    /// A message of the membership protocol.
    Swim = 0,
    /// "You are suspected": sent to the suspect itself, so that it can object before it is declared down.
    Accuse = 1,
    /// "Do you live?"
    Watch = 2,
    /// "I do."
    Watched = 3,
}

/// A datagram that passed the checks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) kind: PacketKind,
    pub(crate) digest: u64,
    pub(crate) payload: &'a [u8],
}

/// Why a datagram was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketError {
    /// Not ours, damaged, or of a version we do not speak.
    Malformed,
    /// Well-formed, of a cluster with another name.
    Foreign,
}

/// The hash of a cluster's name as it travels in packets.
pub(crate) fn cluster_hash(name: &str) -> u64 {
    XxHash3_64::oneshot(name.as_bytes())
}

/// Puts a payload into its envelope.
pub(crate) fn seal(cluster: u64, kind: PacketKind, digest: u64, payload: &[u8]) -> Bytes {
    let mut packet = BytesMut::with_capacity(ENVELOPE_BYTES + payload.len());
    packet.put_slice(&MAGIC);
    packet.put_slice(&[VERSION, KEY_ID_PLAIN, kind as u8, 0]);
    packet.put_u64_le(cluster);
    packet.put_u64_le(digest);
    packet.put_u32_le(0);
    packet.put_slice(payload);
    let sum = XxHash3_64::oneshot(&packet) as u32;
    packet[24..28].copy_from_slice(&sum.to_le_bytes());
    packet.freeze()
}

/// Takes a payload out of its envelope.
pub(crate) fn open(cluster: u64, packet: &[u8]) -> Result<Packet<'_>, PacketError> {
    let too_long = packet.len() > PACKET_BYTES_MAX;
    let Some((head, payload)) = packet.split_first_chunk::<ENVELOPE_BYTES>() else {
        return Err(PacketError::Malformed);
    };
    if too_long || head[..4] != MAGIC || head[4] != VERSION || head[5] != KEY_ID_PLAIN || head[7] != 0 {
        return Err(PacketError::Malformed);
    }
    let kind = match head[6] {
        0 => PacketKind::Swim,
        1 => PacketKind::Accuse,
        2 => PacketKind::Watch,
        3 => PacketKind::Watched,
        _ => return Err(PacketError::Malformed),
    };
    let mut unsummed = packet.to_vec();
    unsummed[24..28].fill(0);
    let sum = XxHash3_64::oneshot(&unsummed) as u32;
    if head[24..28] != sum.to_le_bytes() {
        return Err(PacketError::Malformed);
    }
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(word)
    };
    if word(8) != cluster {
        return Err(PacketError::Foreign);
    }
    Ok(Packet { kind, digest: word(16), payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_packet_opens() {
        let packet = seal(7, PacketKind::Accuse, 9, b"payload");
        assert_eq!(open(7, &packet), Ok(Packet { kind: PacketKind::Accuse, digest: 9, payload: b"payload" }));
        assert_eq!(open(8, &packet), Err(PacketError::Foreign));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused() {
        let packet = seal(7, PacketKind::Swim, 9, b"some payload");
        for bit in 0..packet.len() * 8 {
            let mut damaged = packet.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(7, &damaged).is_err(), "bit {bit}");
        }
        for len in 0..packet.len() {
            assert_eq!(open(7, &packet[..len]), Err(PacketError::Malformed), "length {len}");
        }
    }
}
