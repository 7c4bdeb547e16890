//! A message compressed once, so that several make one request without being compressed again.
//!
//! ```text
//! 0       1  0 0  4             8          12
//! +-------+-------+-------------+----------+------------
//! | method| signal| plain bytes | CRC-32   | compressed       a piece, in the log; little-endian
//! +-------+-------+-------------+----------+------------
//! +-------+----------+---------------+------------------
//! | method| flag u8  | length u32 BE | joined             a request: behind the method it is as gRPC frames it
//! +-------+----------+---------------+------------------
//! ```
//! Frames of zstd and of framed snappy may stand behind one another, raw blocks of snappy are joined by [`Splice`]. Members of
//! gzip may, too, but some receivers read the first only and would lose the rest without a word. So a piece is a part of one
//! member: deflate blocks that end on a byte (a sync flush) and none of which is the last. Joined, they get one head, one last,
//! empty block, and the checksum of all, which is computed from those of the pieces.

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression as Level, FlushCompress};

use super::{check_otlp, otlp_part};
use crate::formats::compression::{Compression, unpack};
use crate::formats::snappy::{Splice, SpliceError, compress};
use crate::formats::split::Part;
use crate::telemetry::Signal;

/// How pieces are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    None,
    /// With a level of 1 to 9.
    Gzip(u32),
    /// With a level of 1 to 22.
    Zstd(i32),
    /// Raw blocks: what HTTP means by the name.
    Snappy,
    /// The framed format: what gRPC means by the name.
    SnappyFrames,
}

const PIECE_BYTES: usize = 12;
const REQUEST_BYTES: usize = 6;
/// RFC 1952: magic, deflate, no flags, no time, fastest, unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];
/// RFC 1951: the last block, with fixed codes, which ends at once.
const LAST_BLOCK: [u8; 2] = [3, 0];

impl Packing {
    fn method(self) -> u8 {
        match self {
            Packing::None => 0,
            Packing::Gzip(_) => 1,
            Packing::Zstd(_) => 2,
            Packing::Snappy => 3,
            Packing::SnappyFrames => 4,
        }
    }

    /// Compresses one message.
    pub fn pack(self, signal: Signal, message: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(PIECE_BYTES + message.len() / 3 + 64);
        out.extend_from_slice(&[self.method(), signal as u8, 0, 0]);
        out.extend_from_slice(&(message.len() as u32).to_le_bytes());
        let checksum = if let Packing::Gzip(_) = self { crc32fast::hash(message) } else { 0 };
        out.extend_from_slice(&checksum.to_le_bytes());
        match self {
            Packing::None => out.extend_from_slice(message),
            Packing::Gzip(level) => deflate(message, level, &mut out),
            Packing::Zstd(level) => {
                let frame = zstd::bulk::compress(message, level).expect("memory is all it needs");
                out.extend_from_slice(&frame);
            }
            Packing::Snappy => out.extend_from_slice(&compress(message)),
            Packing::SnappyFrames => {
                let mut frames = snap::write::FrameEncoder::new(&mut out);
                std::io::Write::write_all(&mut frames, message).expect("memory is all it needs");
                drop(frames.into_inner());
            }
        }
        out.into()
    }
}

/// Blocks that end on a byte, none of which is the last.
fn deflate(message: &[u8], level: u32, out: &mut Vec<u8>) {
    let mut deflate = Compress::new(Level::new(level), false);
    loop {
        let rest = &message[deflate.total_in() as usize..];
        out.reserve(rest.len() / 3 + 64);
        deflate.compress_vec(rest, out, FlushCompress::Sync).expect("deflating has no errors");
        // Room that is left says that the flush is done.
        if deflate.total_in() as usize == message.len() && out.len() < out.capacity() {
            return;
        }
    }
}

/// How long a piece's message is: what a receiver's limit is about.
pub fn packed_plain_bytes(piece: &Bytes) -> usize {
    piece.get(4..8).map_or(0, |length| u32::from_le_bytes(length.try_into().expect("four bytes")) as usize)
}

/// Halves a piece between two of its items. `None`: it has only one, or it is damaged.
pub fn split_packed(piece: &[u8]) -> Option<[Part; 2]> {
    let packing = match piece.first()? {
        0 => Packing::None,
        1 => Packing::Gzip(1),
        2 => Packing::Zstd(1),
        3 => Packing::Snappy,
        4 => Packing::SnappyFrames,
        _ => return None,
    };
    let signal = *Signal::ALL.get(usize::from(*piece.get(1)?))?;
    let piece = Bytes::copy_from_slice(piece);
    let request = PackedRequest::of(&join_packed(std::slice::from_ref(&piece)).ok()?);
    let compression = Compression::named(request.encoding.unwrap_or_default())?;
    let plain = unpack(request.http, compression, packed_plain_bytes(&piece)).ok()?;
    let whole = check_otlp(signal, plain).ok().filter(|whole| whole.items > 1)?;
    let halves = [(0, whole.items / 2), (whole.items / 2, whole.items)];
    Some(halves.map(|(from, to)| {
        let half = otlp_part(&whole, from, to);
        Part { body: packing.pack(signal, &half.body), items: half.items }
    }))
}

/// One request of several pieces. Pieces that were compressed in different ways can't be joined, but each alone can.
pub fn join_packed(pieces: &[Bytes]) -> Result<Bytes, SpliceError> {
    let method = pieces.first().and_then(|piece| piece.first()).copied().ok_or(SpliceError::Prefix)?;
    let is_alike = |piece: &Bytes| piece.len() >= PIECE_BYTES && piece[0] == method;
    if !pieces.iter().all(is_alike) {
        return Err(SpliceError::Mixed);
    }
    let size: usize = pieces.iter().map(Bytes::len).sum();
    let mut out = BytesMut::with_capacity(REQUEST_BYTES + size + GZIP_HEAD.len() + 16);
    out.put_slice(&[method, u8::from(method != 0), 0, 0, 0, 0]);
    match method {
        1 => {
            let mut checksum = crc32fast::Hasher::new();
            let mut plain: u32 = 0;
            out.put_slice(&GZIP_HEAD);
            for piece in pieces {
                let length = packed_plain_bytes(piece);
                let own = u32::from_le_bytes(piece[8..12].try_into().expect("four bytes"));
                checksum.combine(&crc32fast::Hasher::new_with_initial_len(own, length as u64));
                plain = plain.wrapping_add(length as u32);
                out.put_slice(&piece[PIECE_BYTES..]);
            }
            out.put_slice(&LAST_BLOCK);
            out.put_u32_le(checksum.finalize());
            out.put_u32_le(plain);
        }
        3 => {
            let mut splice = Splice::new();
            for piece in pieces {
                splice.push(piece.slice(PIECE_BYTES..))?;
            }
            out.put_slice(&splice.to_bytes());
        }
        _ => pieces.iter().for_each(|piece| out.put_slice(&piece[PIECE_BYTES..])),
    }
    let length = u32::try_from(out.len() - REQUEST_BYTES).map_err(|_| SpliceError::TooLarge)?;
    out[2..REQUEST_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(out.freeze())
}

/// A joined request: the name of its compression, and its body for HTTP or for gRPC.
pub struct PackedRequest {
    /// As `Content-Encoding` and `grpc-encoding` have it; `None`: it is not compressed.
    pub encoding: Option<&'static str>,
    /// The body of a POST.
    pub http: Bytes,
    /// The same with gRPC's prefix.
    pub grpc: Bytes,
}

impl PackedRequest {
    /// Reads what [`join_packed`] has made.
    pub fn of(joined: &Bytes) -> Self {
        let names = [None, Some("gzip"), Some("zstd"), Some("snappy"), Some("snappy")];
        let encoding = joined.first().and_then(|method| names.get(usize::from(*method)).copied()).flatten();
        let from = |start: usize| joined.slice(start.min(joined.len())..);
        PackedRequest { encoding, http: from(REQUEST_BYTES), grpc: from(1) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;
    use crate::formats::otlp_from_json;

    const ALL: [Packing; 7] = [
        Packing::None,
        Packing::Gzip(1),
        Packing::Gzip(6),
        Packing::Gzip(9),
        Packing::Zstd(1),
        Packing::Snappy,
        Packing::SnappyFrames,
    ];

    fn check(packing: Packing, messages: &[Vec<u8>]) {
        let pieces: Vec<Bytes> = messages.iter().map(|message| packing.pack(Signal::Logs, message)).collect();
        let plain = messages.concat();
        assert_eq!(pieces.iter().map(packed_plain_bytes).sum::<usize>(), plain.len());
        let request = PackedRequest::of(&join_packed(&pieces).expect("all alike"));
        let compression = Compression::named(request.encoding.unwrap_or_default()).expect("known");
        let unpacked = unpack(request.http.clone(), compression, plain.len()).expect("it unpacks");
        assert!(unpacked == plain, "{packing:?} of {} messages", messages.len());
        let prefix =
            [&[u8::from(packing != Packing::None)][..], &(request.http.len() as u32).to_be_bytes()].concat();
        assert!(request.grpc == [&prefix[..], &request.http].concat());
        if let Packing::Gzip(_) = packing {
            // One member: a decoder that knows no second one reads all.
            let mut single = Vec::new();
            let mut decoder = flate2::bufread::GzDecoder::new(&request.http[..]);
            decoder.read_to_end(&mut single).expect("one member");
            assert!(single == plain && decoder.into_inner().is_empty());
        }
    }

    #[test]
    fn joined_pieces_are_one_message_for_every_decoder() {
        let text: Vec<u8> =
            (0..60_000).flat_map(|n: u32| format!("point_{} ", n % 977).into_bytes()).collect();
        let chance: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for packing in ALL {
            check(packing, &[b"one".to_vec()]);
            check(packing, &[vec![]]);
            check(packing, &[vec![], b"one".to_vec(), vec![]]);
            check(packing, &[text.clone(), chance.clone(), text.clone()]);
        }
    }

    #[test]
    fn pieces_of_two_kinds_are_not_joined() {
        let pieces = [Packing::Gzip(1).pack(Signal::Logs, b"a"), Packing::Zstd(1).pack(Signal::Logs, b"b")];
        assert_eq!(join_packed(&pieces), Err(SpliceError::Mixed));
        assert!(join_packed(&pieces[..1]).is_ok());
        assert!(join_packed(&[]).is_err() && join_packed(&[Bytes::from_static(b"\x01")]).is_err());
    }

    #[test]
    fn a_piece_is_halved_until_it_is_one_item() {
        let record = r#"{"body":{"stringValue":"a"}}"#;
        let text = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record},{record},{record}]}}]}}]}}"#
        );
        let batch = otlp_from_json(Signal::Logs, text.as_bytes(), 1000).expect("valid");
        for packing in ALL {
            let [one, two] = split_packed(&packing.pack(Signal::Logs, &batch.body)).expect("three items");
            assert_eq!((one.items, two.items), (1, 2), "{packing:?}");
            assert!(split_packed(&one.body).is_none());
            let [two, three] = split_packed(&two.body).expect("two items");
            assert_eq!(two.body, one.body);
            let whole = PackedRequest::of(&join_packed(&[one.body, two.body, three.body]).expect("alike"));
            let compression = Compression::named(whole.encoding.unwrap_or_default()).expect("known");
            let plain = unpack(whole.http, compression, 1000).expect("it unpacks");
            assert_eq!(check_otlp(Signal::Logs, plain).expect("a message").items, 3);
        }
        for damaged in [&b""[..], b"\x01", b"\x09\0\0\0\0\0\0\0\0\0\0\0", b"\x01\x09\0\0\0\0\0\0\0\0\0\0"] {
            assert!(split_packed(damaged).is_none(), "{damaged:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn messages_of_any_kind_survive(
            messages in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..40), 0usize..3_000).prop_map(|(unit, times)| unit.repeat(times)),
                1..6,
            ),
            kind in 0..ALL.len(),
        ) {
            check(ALL[kind], &messages);
        }
    }
}
