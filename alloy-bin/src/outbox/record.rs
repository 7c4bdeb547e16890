//! One record of the log.
//!
//! ```text
//! 0        1   2           4            8              16              24
//! +--------+---+-----------+------------+--------------+---------------+------------+------------+----------
//! | version| t | origin u16| items u32  | lane u64     | newest ms i64 | tenant ... | origin ... | body ...
//! +--------+---+-----------+------------+--------------+---------------+------------+------------+----------
//! origin: key u64, tenure u64, sequence u64, time of the first line i64, bytes of the batch u8, batch ..., component ...
//! ```
//! Little-endian; `t` is how many bytes the tenant has. Without an origin (of that many bytes, 0: none) the version is 1, with one 2.
//! The body is a piece of a request body as it goes over the wire. The log's own frame has the length,
//! the checksum and the time of appending.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::telemetry::Origin;

const VERSION: u8 = 1;
const VERSION_WITH_ORIGIN: u8 = 2;
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
    /// Where it was read, if other nodes may read it too.
    pub origin: Option<Origin>,
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
        let origin = self.origin.as_ref().map(encode_origin).unwrap_or_default();
        let version = if origin.is_empty() { VERSION } else { VERSION_WITH_ORIGIN };
        let mut record = Vec::with_capacity(HEADER_BYTES + tenant.len() + origin.len() + self.body.len());
        record.extend_from_slice(&[version, tenant.len() as u8]);
        record.extend_from_slice(&(origin.len() as u16).to_le_bytes());
        record.extend_from_slice(&self.items.to_le_bytes());
        record.extend_from_slice(&self.lane.to_le_bytes());
        record.extend_from_slice(&self.newest_ms.to_le_bytes());
        record.extend_from_slice(tenant);
        record.extend_from_slice(&origin);
        record.extend_from_slice(&self.body);
        record
    }

    /// The record as a piece, without a copy. `None`: written by something else than this version.
    pub(super) fn decode(record: &Bytes) -> Option<Piece> {
        let header = record.get(..HEADER_BYTES)?;
        let origin_at = HEADER_BYTES + usize::from(header[1]);
        let body_at = match header[0] {
            VERSION => origin_at,
            VERSION_WITH_ORIGIN => origin_at + usize::from(u16::from_le_bytes([header[2], header[3]])),
            _ => return None,
        };
        let tenant = std::str::from_utf8(record.get(HEADER_BYTES..origin_at)?).ok()?;
        let has_origin = body_at > origin_at;
        let origin =
            (has_origin && body_at <= record.len()).then(|| decode_origin(record.slice(origin_at..body_at)));
        Some(Piece {
            tenant: (!tenant.is_empty()).then(|| tenant.into()),
            items: u32::from_le_bytes(header[4..8].try_into().ok()?),
            lane: u64::from_le_bytes(header[8..16].try_into().ok()?),
            newest_ms: i64::from_le_bytes(header[16..24].try_into().ok()?),
            origin: match origin {
                Some(origin) => Some(origin?),
                None => None,
            },
            body: (body_at <= record.len()).then(|| record.slice(body_at..))?,
        })
    }
}

/// Empty, so that the record has none, if it would not fit.
fn encode_origin(origin: &Origin) -> Vec<u8> {
    let Ok(batch_bytes) = u8::try_from(origin.batch.len()) else { return Vec::new() };
    let mut out = Vec::with_capacity(33 + origin.batch.len() + origin.component.len());
    out.extend_from_slice(&origin.key.to_le_bytes());
    out.extend_from_slice(&origin.tenure.to_le_bytes());
    out.extend_from_slice(&origin.sequence.to_le_bytes());
    out.extend_from_slice(&origin.base_ns.to_le_bytes());
    out.push(batch_bytes);
    out.extend_from_slice(&origin.batch);
    out.extend_from_slice(origin.component.as_bytes());
    if out.len() > usize::from(u16::MAX) { Vec::new() } else { out }
}

fn decode_origin(mut bytes: Bytes) -> Option<Origin> {
    let (key, tenure) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
    let sequence = bytes.try_get_u64_le().ok()?;
    let (base_ns, batch_bytes) = (bytes.try_get_i64_le().ok()?, bytes.try_get_u8().ok()?);
    let batch_bytes = usize::from(batch_bytes);
    let component = std::str::from_utf8(bytes.get(batch_bytes..)?).ok()?.into();
    // Copied: the slice would keep the whole segment of the log in memory.
    let batch = Bytes::copy_from_slice(&bytes[..batch_bytes]);
    Some(Origin { component, key, tenure, sequence, base_ns, batch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_comes_back_and_a_stranger_does_not() {
        let origin = Origin {
            component: "loki.source.file.a".into(),
            key: 3,
            tenure: 4,
            sequence: 6,
            base_ns: -5,
            batch: Bytes::from_static(b"batch"),
        };
        for (origin, tenant) in
            [(None, None), (None, Some("team")), (Some(origin.clone()), None), (Some(origin), Some("team"))]
        {
            let (body, tenant) = (Bytes::from_static(b"body"), tenant.map(Arc::from));
            let piece = Piece { lane: u64::MAX - 1, items: 7, newest_ms: -5, tenant, origin, body };
            let record = Bytes::from(piece.encode());
            let back = Piece::decode(&record).expect("same version");
            assert_eq!((back.lane, back.items, back.newest_ms), (piece.lane, 7, -5));
            assert_eq!((&back.tenant, &back.origin, &back.body), (&piece.tenant, &piece.origin, &piece.body));
            assert!(Piece::decode(&record.slice(..20)).is_none());
            if piece.tenant.is_some() {
                assert!(Piece::decode(&record.slice(..26)).is_none(), "cut in its tenant");
            }
            if piece.origin.is_some() {
                assert!(Piece::decode(&record.slice(..34)).is_none(), "cut in its origin");
            }
        }
        assert!(Piece::decode(&Bytes::from_static(&[9; 40])).is_none());
    }
}
