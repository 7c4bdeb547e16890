//! How far a file is delivered: what is saved, replicated and handed over.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Fingerprint, Identity};

/// How far a file is delivered. Usable on every node that sees the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The file, whatever its name is now.
    pub identity: Identity,
    /// Its first bytes: of those that are delivered, or of all while none is.
    pub fingerprint: Fingerprint,
    /// All before this byte is in custody. It is where a line begins, or the next piece of a very long one.
    pub offset: u64,
    /// The timestamp of the last line, nanoseconds since the Unix epoch: the next one's is larger.
    pub last_ns: i64,
    /// The batch that was under way.
    pub intent: Option<Intent>,
}

/// A batch that was offered and may have been taken. It is offered again with the same bytes and the same timestamps, so
/// that the receiver can tell that it is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// It ends before this byte.
    pub to: u64,
    /// The timestamp of its first line; each further line's is one nanosecond later.
    pub base_ns: i64,
}

/// The first byte of an encoded position.
const VERSION: u8 = 1;

impl Position {
    /// Whether nothing is known of the file.
    pub(super) fn is_blank(&self) -> bool {
        self.offset == 0 && self.fingerprint.bytes == 0
    }

    /// Version, identity, fingerprint, offset, timestamp, presence of the intent, intent.
    pub(super) const ENCODED_BYTES: usize = 1 + 16 + 12 + 8 + 8 + 1 + 16;

    /// The beginning of that file.
    pub fn beginning(identity: Identity, last_ns: i64) -> Self {
        Position { identity, last_ns, ..Position::default() }
    }

    /// The compact form: 62 bytes, little endian, the version first.
    pub fn encode(&self) -> Bytes {
        let intent = self.intent.unwrap_or(Intent { to: 0, base_ns: 0 });
        let mut out = BytesMut::with_capacity(Self::ENCODED_BYTES);
        out.put_u8(VERSION);
        out.put_u64_le(self.identity.device);
        out.put_u64_le(self.identity.inode);
        out.put_u64_le(self.fingerprint.hash);
        out.put_u32_le(self.fingerprint.bytes);
        out.put_u64_le(self.offset);
        out.put_i64_le(self.last_ns);
        out.put_u8(u8::from(self.intent.is_some()));
        out.put_u64_le(intent.to);
        out.put_i64_le(intent.base_ns);
        out.freeze()
    }

    /// Reads the compact form; `None` if it is of another version or makes no sense.
    pub fn decode(mut encoded: &[u8]) -> Option<Self> {
        if encoded.len() != Self::ENCODED_BYTES || encoded.get_u8() != VERSION {
            return None;
        }
        let identity = Identity { device: encoded.get_u64_le(), inode: encoded.get_u64_le() };
        let fingerprint = Fingerprint { hash: encoded.get_u64_le(), bytes: encoded.get_u32_le() };
        let offset = encoded.get_u64_le();
        let last_ns = encoded.get_i64_le();
        let has_intent = encoded.get_u8() == 1;
        let intent = Intent { to: encoded.get_u64_le(), base_ns: encoded.get_i64_le() };
        let position =
            Position { identity, fingerprint, offset, last_ns, intent: has_intent.then_some(intent) };
        position.is_sound().then_some(position)
    }

    /// Whether the parts fit each other: the fingerprint is of delivered bytes if there are any, the intent lies behind them.
    pub(super) fn is_sound(&self) -> bool {
        let covered = self.fingerprint.bytes as usize;
        covered <= Fingerprint::BYTES_MAX
            && (covered as u64 <= self.offset || self.offset == 0)
            && self.intent.is_none_or(|intent| intent.to > self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_encoding() {
        let plain = Position {
            identity: Identity { device: 5, inode: 6 },
            fingerprint: Fingerprint { hash: 7, bytes: 8 },
            offset: 9,
            last_ns: -10,
            intent: None,
        };
        let underway = Position { intent: Some(Intent { to: 11, base_ns: 12 }), ..plain };
        for position in [plain, underway, Position::default()] {
            assert_eq!(Position::decode(&position.encode()), Some(position));
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        let good = Position { offset: 20, ..Position::default() };
        let check = |encoded: &[u8]| assert_eq!(Position::decode(encoded), None, "{encoded:?}");
        check(b"");
        check(&good.encode()[1..]);
        check(&[b"\x02", &good.encode()[1..]].concat());
        check(&Position { fingerprint: Fingerprint { hash: 1, bytes: 21 }, ..good }.encode());
        check(
            &Position { fingerprint: Fingerprint { hash: 1, bytes: 1025 }, ..Position::default() }.encode(),
        );
        check(&Position { intent: Some(Intent { to: 20, base_ns: 1 }), ..good }.encode());
    }
}
