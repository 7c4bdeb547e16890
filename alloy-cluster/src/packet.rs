//! The envelope of a datagram. Pure; a packet is either taken whole or refused whole.
//!
//! ```text
//!  0      4         5        6      7      8              16              24         28
//!  | magic | version | key id | kind | zero | cluster (u64) | digest (u64)  | checksum | payload ...
//! ```
//! Integers are little-endian. `cluster` is the XXH3 of the cluster's name: it keeps clusters that share a
//! network apart, it is no secret. `digest` is the digest of the sender's view. The checksum is the low half of
//! the XXH3 of the payload, seeded with that of the 24 bytes before: a flipped bit is seen here and not by the protocol,
//! and costs no decryption. Key id 0 says that the payload is in the clear; with any other it is the nonce (24) and the
//! sealed payload with its tag (16), and the 24 bytes are authenticated with it (`seal.rs`).

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use twox_hash::XxHash3_64;

use crate::seal::Sealer;

/// The longest datagram sent or accepted: fits an Ethernet frame with room for tunnels.
pub(crate) const PACKET_BYTES_MAX: usize = 1400;

/// The bytes before the payload.
pub(crate) const ENVELOPE_BYTES: usize = 28;

const MAGIC: [u8; 4] = *b"ALCL";
const VERSION: u8 = 1;
/// The bytes before the checksum: those are authenticated with a sealed payload.
const HEAD_BYTES: usize = 24;

/// What the payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketKind {
    /// A message of the membership protocol.
    Swim = 0,
    /// "You are suspected": sent to the suspect itself, so that it can object before it is declared down.
    Accuse = 1,
    /// "Do you live?"
    Watch = 2,
    /// "I live."
    Beat = 3,
}

/// A datagram that passed the checks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) kind: PacketKind,
    pub(crate) digest: u64,
    pub(crate) payload: Cow<'a, [u8]>,
}

/// Why a datagram was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketError {
    /// Not ours, damaged, or of a version we do not speak.
    Malformed,
    /// Well-formed, of a cluster with another name.
    Foreign,
    /// No key of the ring opens it, it is not sealed though it has to be, or it came before.
    Unsealed,
}

/// The hash of a cluster's name as it travels in packets.
pub(crate) fn cluster_hash(name: &str) -> u64 {
    XxHash3_64::oneshot(name.as_bytes())
}

/// Puts a payload into its envelope.
pub(crate) fn seal(
    sealer: &mut Sealer,
    cluster: u64,
    kind: PacketKind,
    digest: u64,
    payload: &[u8],
) -> Bytes {
    let mut packet = BytesMut::with_capacity(ENVELOPE_BYTES + crate::seal::SEAL_BYTES + payload.len());
    packet.put_slice(&MAGIC);
    packet.put_slice(&[VERSION, sealer.key_id(), kind as u8, 0]);
    packet.put_u64_le(cluster);
    packet.put_u64_le(digest);
    if sealer.is_open() {
        packet.put_u32_le(checksum(&packet, payload));
        packet.put_slice(payload);
    } else {
        let sealed = sealer.seal(&packet, payload);
        packet.put_u32_le(checksum(&packet, &sealed));
        packet.put_slice(&sealed);
    }
    packet.freeze()
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(head), payload) as u32
}

/// Takes a payload out of its envelope.
pub(crate) fn open<'a>(
    sealer: &mut Sealer,
    cluster: u64,
    packet: &'a [u8],
) -> Result<Packet<'a>, PacketError> {
    let too_long = packet.len() > PACKET_BYTES_MAX;
    let Some((envelope, payload)) = packet.split_first_chunk::<ENVELOPE_BYTES>() else {
        return Err(PacketError::Malformed);
    };
    let (head, sum) = envelope.split_at(HEAD_BYTES);
    if too_long || head[..4] != MAGIC || head[4] != VERSION || head[7] != 0 {
        return Err(PacketError::Malformed);
    }
    let kind = match head[6] {
        0 => PacketKind::Swim,
        1 => PacketKind::Accuse,
        2 => PacketKind::Watch,
        3 => PacketKind::Beat,
        _ => return Err(PacketError::Malformed),
    };
    if sum != checksum(head, payload).to_le_bytes() {
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
    let payload = match head[5] {
        0 if sealer.is_open() => Cow::Borrowed(payload),
        key_id => Cow::Owned(sealer.open(key_id, head, payload).ok_or(PacketError::Unsealed)?),
    };
    Ok(Packet { kind, digest: word(16), payload })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::*;
    use crate::Node;
    use crate::seal::KeyRing;

    fn sealers() -> [Sealer; 2] {
        let node = Node { name: "n".into(), address: ([127, 0, 0, 1], 1).into(), incarnation: 1 };
        let ring = KeyRing::new(NonZeroU8::MIN, [7; 32]);
        [Sealer::new(None, 1, &node), Sealer::new(Some(ring), 1, &node)]
    }

    #[test]
    fn a_sealed_packet_opens() {
        for mut sealer in sealers() {
            let packet = seal(&mut sealer, 7, PacketKind::Accuse, 9, b"payload");
            assert_eq!(open(&mut sealer, 8, &packet), Err(PacketError::Foreign));
            let expected = Packet { kind: PacketKind::Accuse, digest: 9, payload: b"payload".into() };
            assert_eq!(open(&mut sealer, 7, &packet), Ok(expected));
        }
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused() {
        for mut sealer in sealers() {
            let packet = seal(&mut sealer, 7, PacketKind::Swim, 9, b"some payload");
            for bit in 0..packet.len() * 8 {
                let mut damaged = packet.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&mut sealer, 7, &damaged).is_err(), "bit {bit}");
            }
            for len in 0..packet.len() {
                assert_eq!(open(&mut sealer, 7, &packet[..len]), Err(PacketError::Malformed), "length {len}");
            }
        }
    }
}
