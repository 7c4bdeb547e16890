//! The keys of the links, and what a link is sealed with.
//!
//! A sealed link's hello ends with 16 random bytes, the salt. Frame n is sealed with the nonce (salt, n) and authenticates
//! the hello, so frames can neither be changed, dropped, repeated nor moved to another link. The receiver remembers the
//! last salts: a recorded link is refused as a whole.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::seal::{KeyRing, Nonce, SALT_BYTES};

/// Salts that are remembered in each of two generations: links are opened once per pair of members and restart.
const SALTS_MAX: usize = 16_384;

/// What all links of a node share. The ring can be replaced while they run.
#[derive(Clone)]
pub(crate) struct LinkKeys {
    ring: Arc<RwLock<Option<KeyRing>>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    young: HashSet<[u8; SALT_BYTES]>,
    old: HashSet<[u8; SALT_BYTES]>,
}

impl LinkKeys {
    pub(crate) fn new(ring: Option<KeyRing>) -> Self {
        LinkKeys { ring: Arc::new(RwLock::new(ring)), seen: Arc::default() }
    }

    pub(crate) fn replace(&self, ring: Option<KeyRing>) {
        *self.ring.write().expect("no code panics while holding it") = ring;
    }

    /// The id of the key to open a link with; 0: in the clear.
    pub(crate) fn key_id(&self) -> u8 {
        self.with(|ring| ring.map_or(0, KeyRing::sealing_id))
    }

    /// Whether a link with that key may be opened, or may go on.
    pub(crate) fn takes(&self, key_id: u8) -> bool {
        self.with(|ring| match ring {
            None => key_id == 0,
            Some(ring) if key_id == 0 => ring.takes_plain(),
            Some(ring) => ring.has(key_id),
        })
    }

    /// Notes a salt; `false` if it came before.
    pub(crate) fn is_first(&self, salt: [u8; SALT_BYTES]) -> bool {
        let mut seen = self.seen.lock().expect("no code panics while holding it");
        if seen.young.len() >= SALTS_MAX {
            seen.old = std::mem::take(&mut seen.young);
        }
        !seen.old.contains(&salt) && seen.young.insert(salt)
    }

    fn with<T>(&self, look: impl FnOnce(Option<&KeyRing>) -> T) -> T {
        look(self.ring.read().expect("no code panics while holding it").as_ref())
    }
}

/// Bytes that no link had before.
pub(crate) fn random_salt() -> io::Result<[u8; SALT_BYTES]> {
    let mut salt = [0; SALT_BYTES];
    SysRng.try_fill_bytes(&mut salt).map_err(io::Error::other)?;
    Ok(salt)
}

/// Seals or opens the frames of one link, in order.
pub(crate) struct LinkSeal {
    keys: LinkKeys,
    key_id: u8,
    salt: [u8; SALT_BYTES],
    hello: Bytes,
    frames: u64,
}

impl LinkSeal {
    /// For a link that began with this hello.
    pub(crate) fn new(keys: LinkKeys, key_id: u8, salt: [u8; SALT_BYTES], hello: Bytes) -> Self {
        LinkSeal { keys, key_id, salt, hello, frames: 0 }
    }

    /// Whether this link still has the key that a new one would have.
    pub(crate) fn is_current(&self) -> bool {
        self.key_id == self.keys.key_id()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.key_id == 0
    }

    /// Whether one frame has been sealed or opened, and no more.
    pub(crate) fn is_first_frame(&self) -> bool {
        self.frames == 1
    }

    pub(crate) fn salt(&self) -> [u8; SALT_BYTES] {
        self.salt
    }

    /// Seals the next frame; `None`: the key is gone.
    pub(crate) fn seal(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let nonce = self.next();
        self.keys.with(|ring| ring?.seal(self.key_id, nonce, &self.hello, frame))
    }

    /// Opens the next frame; `None`: the key is gone, or the frame is not the next of this link.
    pub(crate) fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce = self.next();
        self.keys.with(|ring| ring?.open(self.key_id, nonce, &self.hello, sealed))
    }

    fn next(&mut self) -> Nonce {
        self.frames += 1;
        Nonce { salt: self.salt, counter: self.frames }
    }
}
