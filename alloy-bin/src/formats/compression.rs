//! Compressed bodies -> plain ones, never longer than asked for: what unpacks to more is refused before it takes the memory.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// How a body is compressed, as `Content-Encoding` and `grpc-encoding` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, of any number of members.
    Gzip,
    /// RFC 1950 is what the name means; RFC 1951 is what some send.
    Deflate,
    /// RFC 8878, of any number of frames.
    Zstd,
    /// A raw block, or the framed format.
    Snappy,
}

impl Compression {
    /// By its name; `None` if nobody here knows it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "" | "identity" | "none" => Some(Compression::None),
            "gzip" | "x-gzip" => Some(Compression::Gzip),
            "deflate" | "zlib" => Some(Compression::Deflate),
            "zstd" => Some(Compression::Zstd),
            "snappy" | "x-snappy-framed" => Some(Compression::Snappy),
            _ => None,
        }
    }
}

/// Why a body could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// It is longer than is allowed.
    #[error("the message has more than {0} bytes when it is unpacked")]
    TooLong(usize),
    /// It is not what its encoding says.
    #[error("the message is not compressed as it says: {0}")]
    Broken(#[from] io::Error),
}

/// The longest history that a zstd frame may ask us to keep: 8 MiB is what every decoder must offer.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// How the framed format of snappy begins.
const SNAPPY_FRAMES: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// What the body holds, at most `bytes_max` long.
pub fn unpack(body: Bytes, compression: Compression, bytes_max: usize) -> Result<Bytes, UnpackError> {
    match compression {
        Compression::None if body.len() > bytes_max => Err(UnpackError::TooLong(bytes_max)),
        Compression::None => Ok(body),
        // A stream of frames that holds nothing may have no frame at all.
        Compression::Snappy if body.is_empty() => Ok(body),
        Compression::Gzip => read(MultiGzDecoder::new(&body[..]), body.len(), bytes_max),
        // The first byte of RFC 1950 says method 8, and the first two are a multiple of 31.
        Compression::Deflate => match body.first_chunk::<2>() {
            Some(head) if head[0] & 15 == 8 && u16::from_be_bytes(*head).is_multiple_of(31) => {
                read(ZlibDecoder::new(&body[..]), body.len(), bytes_max)
            }
            _ => read(DeflateDecoder::new(&body[..]), body.len(), bytes_max),
        },
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(&body[..])?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            read(decoder, body.len(), bytes_max)
        }
        Compression::Snappy if body.starts_with(SNAPPY_FRAMES) => {
            read(snap::read::FrameDecoder::new(body.as_ref()), body.len(), bytes_max)
        }
        Compression::Snappy => match snap::raw::decompress_len(&body) {
            Ok(length) if length > bytes_max => Err(UnpackError::TooLong(bytes_max)),
            _ => {
                let plain = snap::raw::Decoder::new().decompress_vec(&body);
                Ok(plain.map_err(io::Error::from)?.into())
            }
        },
    }
}

fn read(decoder: impl Read, packed_bytes: usize, bytes_max: usize) -> Result<Bytes, UnpackError> {
    // A guess that most messages reach; the rest is grown as it comes.
    let mut plain = Vec::with_capacity((packed_bytes * 4).min(bytes_max));
    decoder.take(bytes_max as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > bytes_max { Err(UnpackError::TooLong(bytes_max)) } else { Ok(plain.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// The text under every encoding that a client may use.
    fn packed(text: &[u8]) -> Vec<(Compression, Vec<u8>)> {
        let level = flate2::Compression::fast();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), level);
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), level);
        let mut frames = snap::write::FrameEncoder::new(Vec::new());
        gzip.write_all(text).unwrap();
        zlib.write_all(text).unwrap();
        deflate.write_all(text).unwrap();
        frames.write_all(text).unwrap();
        vec![
            (Compression::None, text.to_vec()),
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Deflate, zlib.finish().unwrap()),
            (Compression::Deflate, deflate.finish().unwrap()),
            (Compression::Zstd, zstd::encode_all(text, 1).unwrap()),
            (Compression::Snappy, frames.into_inner().unwrap()),
            (Compression::Snappy, snap::raw::Encoder::new().compress_vec(text).unwrap()),
        ]
    }

    #[test]
    fn what_was_packed_is_unpacked_up_to_the_limit_and_not_a_byte_further() {
        let text = vec![b'x'; 100_000];
        for (compression, body) in packed(&text) {
            let body = Bytes::from(body);
            assert_eq!(unpack(body.clone(), compression, text.len()).unwrap(), text, "{compression:?}");
            let error = unpack(body, compression, text.len() - 1).unwrap_err();
            assert!(matches!(error, UnpackError::TooLong(99_999)), "{compression:?}: {error}");
        }
    }

    #[test]
    fn members_and_frames_behind_one_another_are_one_message() {
        for (compression, body) in packed(b"one").into_iter().zip(packed(b"two")).filter_map(|(one, two)| {
            let joins =
                matches!(one.0, Compression::Gzip | Compression::Zstd) || one.1.starts_with(SNAPPY_FRAMES);
            joins.then(|| (one.0, [one.1, two.1].concat()))
        }) {
            assert_eq!(unpack(body.into(), compression, 100).unwrap(), &b"onetwo"[..], "{compression:?}");
        }
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_refused() {
        for (compression, body) in packed(&b"0123456789".repeat(10)) {
            if compression != Compression::None {
                let cut = Bytes::from(body).slice(..12);
                assert!(unpack(cut, compression, 1000).is_err(), "{compression:?}");
                assert!(
                    unpack(Bytes::from_static(&[0xff; 40]), compression, 1000).is_err(),
                    "{compression:?}"
                );
            }
        }
    }
}
