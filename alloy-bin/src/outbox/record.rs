//! One record of the log.
//!
//! ```text
//! 0        1        4            8              16              24
//! +--------+--------+------------+--------------+---------------+----------
//! | version| t 0 0  | items u32  | lane u64     | newest ms i64 | tenant, body ...
//! +--------+--------+------------+--------------+---------------+----------
//! ```
//! Little-endian; `t` is how many bytes the tenant has. The body is a piece of a request body as it goes over the wire. The log's own frame has the length,
//! the checksum and the time of appending.

use std::sync::Arc;

use bytes::Bytes;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 24;

/// A piece of a request body, ready to be sent.
#[derive(Debug, Clone)]
pub struct Piece {
    /// What keeps order: records of one key are sent one after the other.
    pub lane: u64,
    /// Samples or lines in it.
    pub items: u32,
    /// The newest timestamp in it, milliseconds since the Unix epoch.
    pub newest_ms: i64,
    /// Whose it is, if not the endpoint's own: at most [`Piece::TENANT_BYTES_MAX`], and fit for a header.
    pub tenant: Option<Arc<str>>,
    /// The encoded, compressed bytes.
    pub body: Bytes,
}

impl Piece {
    /// Loki takes names of at most 150 characters.
    pub const TENANT_BYTES_MAX: usize = 150;

    /// The piece as a record.
    pub(super) fn encode(&self) -> Vec<u8> {
        let tenant = self.tenant.as_deref().unwrap_or_default().as_bytes();
        debug_assert!(tenant.len() <= Piece::TENANT_BYTES_MAX);
        let mut record = Vec::with_capacity(HEADER_BYTES + tenant.len() + self.body.len());
        record.extend_from_slice(&[VERSION, tenant.len() as u8, 0, 0]);
        record.extend_from_slice(&self.items.to_le_bytes());
        record.extend_from_slice(&self.lane.to_le_bytes());
        record.extend_from_slice(&self.newest_ms.to_le_bytes());
        record.extend_from_slice(tenant);
        record.extend_from_slice(&self.body);
        record
    }

    /// The record as a piece, without a copy. `None`: written by something else than this version.
    pub(super) fn decode(record: &Bytes) -> Option<Piece> {
        let header = record.get(..HEADER_BYTES)?;
        if header[0] != VERSION {
            return None;
        }
        let body_at = HEADER_BYTES + usize::from(header[1]);
        let tenant = std::str::from_utf8(record.get(HEADER_BYTES..body_at)?).ok()?;
        Some(Piece {
            tenant: (!tenant.is_empty()).then(|| tenant.into()),
            items: u32::from_le_bytes(header[4..8].try_into().ok()?),
            lane: u64::from_le_bytes(header[8..16].try_into().ok()?),
            newest_ms: i64::from_le_bytes(header[16..24].try_into().ok()?),
            body: record.slice(body_at..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_comes_back_and_a_stranger_does_not() {
        let (lane, tenant) = (u64::MAX - 1, Some("team".into()));
        let piece = Piece { lane, items: 7, newest_ms: -5, tenant, body: Bytes::from_static(b"body") };
        let record = Bytes::from(piece.encode());
        let back = Piece::decode(&record).expect("same version");
        assert_eq!(
            (back.lane, back.items, back.newest_ms, &back.body[..]),
            (piece.lane, 7, -5, &b"body"[..])
        );
        assert_eq!(back.tenant.as_deref(), Some("team"));
        assert!(Piece::decode(&record.slice(..26)).is_none());
        assert!(Piece::decode(&record.slice(..20)).is_none());
        assert!(Piece::decode(&Bytes::from_static(&[9; 40])).is_none());
    }
}
