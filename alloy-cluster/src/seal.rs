//! Sealing of packets and link frames: an AEAD under a ring of keys, and the memory that refuses repeats.
//!
//! XChaCha20-Poly1305 (RFC 8439 with the extended nonce of draft-irtf-cfrg-xchacha): its nonce of 24 bytes has room for
//! 16 bytes that tell this process from all others and a counter, so no nonce comes twice without any state on disk, and
//! the counter is what a repeat is known by.
//!
//! What it promises: who does not have a key can neither read, nor change, nor make, nor repeat what members say. What it
//! does not: a member is trusted in all it says, and a recorded packet passes once where its sender has been forgotten
//! (after a restart of the receiver, or 20,000 other senders); incarnations make such old news harmless.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU8;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key as CipherKey, KeyInit, XChaCha20Poly1305, XNonce};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use twox_hash::XxHash3_64;

use crate::Node;

/// The bytes of what tells one sender from all others.
pub(crate) const SALT_BYTES: usize = 16;
/// What sealing adds to a packet: the nonce before, the tag behind.
pub(crate) const SEAL_BYTES: usize = NONCE_BYTES + 16;
const NONCE_BYTES: usize = SALT_BYTES + 8;

/// Senders that are remembered in each of two generations, 64 bytes each: as many as a cluster can have members.
const SENDERS_MAX: usize = 10_000;
/// Packets of one sender may overtake each other by so many: 25 s at five packets a second.
const WINDOW: u64 = 128;

/// Keys that seal packets and streams: several open, one seals. Cheap to clone.
///
/// Changing a key without a break takes three steps, each of them on all nodes before the next
/// ([`Cluster::set_keys`](crate::Cluster::set_keys)): `new(1, old).opens(2, new)`, then `new(2, new).opens(1, old)`, then
/// `new(2, new)`. So does sealing a cluster that runs in the clear: `new(1, key).still_plain()`, then
/// `new(1, key).opens_plain()`, then `new(1, key)`.
#[derive(Clone)]
pub struct KeyRing {
    seals: NonZeroU8,
    keys: Vec<(NonZeroU8, [u8; 32])>,
    plain: Plain,
}

/// What becomes of packets that are not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Refused,
    Taken,
    /// Taken, and sent.
    Sent,
}

impl KeyRing {
    /// Seals with this key, and opens what it has sealed. The id travels with each packet; it is no secret. The key should
    /// be 32 random bytes.
    pub fn new(id: NonZeroU8, key: [u8; 32]) -> Self {
        KeyRing { seals: id, keys: vec![(id, key)], plain: Plain::Refused }
    }

    /// Opens what this key has sealed, too; of two keys of one id the first counts.
    #[must_use]
    pub fn opens(mut self, id: NonZeroU8, key: [u8; 32]) -> Self {
        if self.key(id.get()).is_none() {
            self.keys.push((id, key));
        }
        self
    }

    /// Takes what is not sealed, too: for the time in which a cluster that runs in the clear is being sealed.
    #[must_use]
    pub fn opens_plain(mut self) -> Self {
        self.plain = Plain::Taken;
        self
    }

    /// Seals nothing yet, and takes both: the first step from a cluster that runs in the clear.
    #[must_use]
    pub fn still_plain(mut self) -> Self {
        self.plain = Plain::Sent;
        self
    }

    /// The id of the key that seals; 0: none yet.
    pub(crate) fn sealing_id(&self) -> u8 {
        if self.plain == Plain::Sent { 0 } else { self.seals.get() }
    }

    pub(crate) fn takes_plain(&self) -> bool {
        self.plain != Plain::Refused
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn has(&self, id: u8) -> bool {
        self.key(id).is_some()
    }

    fn key(&self, id: u8) -> Option<&[u8; 32]> {
        self.keys.iter().find(|(known, _)| known.get() == id).map(|(_, key)| key)
    }

    /// Seals with the key of that id; `None`: it is not in the ring.
    pub(crate) fn seal(&self, id: u8, nonce: Nonce, head: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let payload = Payload { msg: plain, aad: head };
        self.cipher(id)?.encrypt(&XNonce::from(nonce.bytes()), payload).ok()
    }

    /// Opens with the key of that id; `None`: the key is not in the ring, or did not seal this.
    pub(crate) fn open(&self, id: u8, nonce: Nonce, head: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let payload = Payload { msg: sealed, aad: head };
        self.cipher(id)?.decrypt(&XNonce::from(nonce.bytes()), payload).ok()
    }

    fn cipher(&self, id: u8) -> Option<XChaCha20Poly1305> {
        self.key(id).map(|key| XChaCha20Poly1305::new(&CipherKey::from(*key)))
    }
}

impl fmt::Debug for KeyRing {
    /// Says which keys there are, and no key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u8> = self.keys.iter().map(|(id, _)| id.get()).collect();
        formatter
            .debug_struct("KeyRing")
            .field("seals", &self.seals)
            .field("opens", &ids)
            .finish_non_exhaustive()
    }
}

/// Never the same twice under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nonce {
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) counter: u64,
}

impl Nonce {
    pub(crate) fn bytes(self) -> [u8; NONCE_BYTES] {
        let mut bytes = [0; NONCE_BYTES];
        bytes[..SALT_BYTES].copy_from_slice(&self.salt);
        bytes[SALT_BYTES..].copy_from_slice(&self.counter.to_le_bytes());
        bytes
    }

    fn split(bytes: &[u8]) -> Option<(Nonce, &[u8])> {
        let (salt, rest) = bytes.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        Some((Nonce { salt: *salt, counter: u64::from_le_bytes(*counter) }, rest))
    }
}

/// Seals this node's packets, and opens the others'.
pub(crate) struct Sealer {
    ring: Option<KeyRing>,
    salt: [u8; SALT_BYTES],
    counter: u64,
    senders: Senders,
}

impl Sealer {
    /// The salt is 8 bytes by the seed and 8 by the life of the node.
    pub(crate) fn new(ring: Option<KeyRing>, seed: u64, node: &Node) -> Self {
        let mut salt = [0; SALT_BYTES];
        salt[..8].copy_from_slice(&StdRng::seed_from_u64(seed).random::<u64>().to_le_bytes());
        let life = XxHash3_64::oneshot_with_seed(node.incarnation, node.name.as_str().as_bytes());
        salt[8..].copy_from_slice(&life.to_le_bytes());
        Sealer { ring, salt, counter: 0, senders: Senders::default() }
    }

    /// Whether this node's packets travel in the clear.
    pub(crate) fn is_open(&self) -> bool {
        self.key_id() == 0
    }

    pub(crate) fn set_keys(&mut self, ring: Option<KeyRing>) {
        self.ring = ring;
    }

    /// The id of the key to seal with; 0: none.
    pub(crate) fn key_id(&self) -> u8 {
        self.ring.as_ref().map_or(0, KeyRing::sealing_id)
    }

    /// The nonce and the sealed bytes; the plain bytes if there is no key.
    pub(crate) fn seal(&mut self, head: &[u8], plain: &[u8]) -> Vec<u8> {
        let Some(ring) = self.ring.as_ref().filter(|ring| ring.sealing_id() != 0) else {
            return plain.to_vec();
        };
        self.counter += 1;
        let nonce = Nonce { salt: self.salt, counter: self.counter };
        let sealed = ring.seal(ring.sealing_id(), nonce, head, plain);
        let sealed =
            sealed.expect("the sealing key is in the ring, and a packet is far below the cipher's limit");
        [&nonce.bytes()[..], &sealed].concat()
    }

    /// The plain bytes of what was sealed with the key of that id, unless they came before.
    pub(crate) fn open(&mut self, key_id: u8, head: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
        let Some(ring) = &self.ring else { return (key_id == 0).then(|| payload.to_vec()) };
        if key_id == 0 {
            return ring.takes_plain().then(|| payload.to_vec());
        }
        let (nonce, sealed) = Nonce::split(payload)?;
        let plain = ring.open(key_id, nonce, head, sealed)?;
        // Only what has been opened is noted: a stranger cannot fill the memory, nor close the window for anybody.
        self.senders.is_first(nonce).then_some(plain)
    }
}

/// What has come of each sender.
#[derive(Default)]
pub(crate) struct Senders {
    young: HashMap<[u8; SALT_BYTES], Window>,
    old: HashMap<[u8; SALT_BYTES], Window>,
}

impl Senders {
    /// Notes a nonce; `false` if it came before, or is too old to know.
    pub(crate) fn is_first(&mut self, nonce: Nonce) -> bool {
        if self.young.len() >= SENDERS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        let window =
            self.young.entry(nonce.salt).or_insert_with(|| old.remove(&nonce.salt).unwrap_or_default());
        window.is_first(nonce.counter)
    }
}

/// The highest counter, and which of the 128 up to it have come; as in RFC 4303, section 3.4.3.
#[derive(Default)]
struct Window {
    highest: u64,
    came: u128,
}

impl Window {
    fn is_first(&mut self, counter: u64) -> bool {
        if counter > self.highest {
            let ahead = counter - self.highest;
            self.came = if ahead < WINDOW { self.came << ahead } else { 0 };
            self.highest = counter;
        }
        let behind = self.highest - counter;
        if behind >= WINDOW || self.came & (1 << behind) != 0 {
            return false;
        }
        self.came |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u8) -> NonZeroU8 {
        NonZeroU8::new(id).expect("tests do not use 0")
    }

    fn sealer(ring: Option<KeyRing>, seed: u64) -> Sealer {
        let node = Node { name: "n".into(), address: ([127, 0, 0, 1], 1).into(), incarnation: 1 };
        Sealer::new(ring, seed, &node)
    }

    #[test]
    fn what_is_sealed_opens_once_and_only_with_its_key_and_head() {
        let mut one = sealer(Some(KeyRing::new(id(1), [1; 32])), 1);
        let mut other = sealer(Some(KeyRing::new(id(1), [1; 32])), 2);
        let mut stranger = sealer(Some(KeyRing::new(id(1), [2; 32])), 3);
        let sealed = one.seal(b"head", b"payload");
        assert_eq!(sealed.len(), b"payload".len() + SEAL_BYTES);
        assert_eq!(stranger.open(1, b"head", &sealed), None);
        assert_eq!(other.open(1, b"heaD", &sealed), None);
        assert_eq!(other.open(2, b"head", &sealed), None);
        assert_eq!(other.open(1, b"head", &sealed).as_deref(), Some(&b"payload"[..]));
        assert_eq!(other.open(1, b"head", &sealed), None, "a repeat is refused");
        assert_eq!(other.open(0, b"head", b"payload"), None, "plain is refused");
        for len in 0..sealed.len() {
            assert_eq!(other.open(1, b"head", &sealed[..len]), None);
        }
    }

    #[test]
    fn packets_may_overtake_each_other_and_come_once_each() {
        let mut window = Window::default();
        for counter in [5, 3, 4, 130, 10, 131, 129] {
            assert!(window.is_first(counter), "{counter}");
        }
        for counter in [5, 3, 130, 10, 131, 129, 0, 1] {
            assert!(!window.is_first(counter), "{counter} came before or is too old");
        }
        assert!(window.is_first(10_000));
        assert!(!window.is_first(131) && !window.is_first(10_000 - 128));
        assert!(window.is_first(10_000 - 127));
    }

    #[test]
    fn two_lives_of_a_node_share_no_nonce() {
        let ring = || Some(KeyRing::new(id(1), [1; 32]));
        let (mut one, mut other) = (sealer(ring(), 1), sealer(ring(), 2));
        assert_ne!(one.seal(b"", b"x")[..NONCE_BYTES], other.seal(b"", b"x")[..NONCE_BYTES]);
        assert!(!format!("{:?}", ring()).contains("1, 1, 1"), "a ring never prints its keys");
    }
}
