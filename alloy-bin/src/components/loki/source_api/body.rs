//! From a request's body to streams. What is unpacked has a bound, whatever its length says.

use std::io::{self, Read};

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder};

use super::intake::Refusal;
use crate::formats::{
    LokiRequestError, PushedStream, decompress, decompressed_len, read_loki_json, read_loki_push,
};
use crate::telemetry::LogEntry;

/// Deflate can't unpack to more than so many times its length.
const DEFLATE_RATIO_MAX: usize = 1032;
/// A line takes some 60 bytes of memory besides its text, and no less than 16 of a request if it has a time.
const BYTES_PER_LINE_MIN: usize = 8;
/// However small the request is.
const LINES_MIN: usize = 1000;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    packing: Packing,
    content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Packing {
    None,
    Gzip,
    Deflate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Content {
    /// In one block of snappy.
    Protobuf,
    Json,
    Lines,
}

impl Form {
    /// What the headers say of a push.
    pub(super) fn push(headers: &HeaderMap) -> Result<Form, Refusal> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let is_json = essence.eq_ignore_ascii_case("application/json");
        Form::of(headers, if is_json { Content::Json } else { Content::Protobuf })
    }

    /// What the headers say of lines.
    pub(super) fn lines(headers: &HeaderMap) -> Result<Form, Refusal> {
        Form::of(headers, Content::Lines)
    }

    fn of(headers: &HeaderMap, content: Content) -> Result<Form, Refusal> {
        let packing =
            match headers.get(header::CONTENT_ENCODING).map_or(b"".as_slice(), |name| name.as_bytes()) {
                // Protobuf is in snappy whether that is said or not, as in Loki.
                b"" | b"snappy" | b"identity" => Packing::None,
                b"gzip" => Packing::Gzip,
                b"deflate" => Packing::Deflate,
                other => {
                    let other = String::from_utf8_lossy(other);
                    let reason =
                        format!("Content-Encoding {other:?} is not supported; use snappy, gzip or deflate");
                    return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
                }
            };
        Ok(Form { packing, content })
    }

    /// How many bytes reading this body may take, as far as that can be known before.
    pub(super) fn cost(self, body: &[u8], bytes_max: usize) -> usize {
        let unpacked = match (self.packing, self.content) {
            (Packing::None, Content::Protobuf) => decompressed_len(body).unwrap_or_default(),
            (Packing::None, _) => body.len(),
            // Inside may be more of the same.
            (_, Content::Protobuf) => bytes_max,
            _ => body.len().saturating_mul(DEFLATE_RATIO_MAX),
        };
        let unpacked = unpacked.min(bytes_max);
        // Of lines there may be one in each two bytes.
        if self.content == Content::Lines { unpacked.saturating_mul(BYTES_PER_LINE_MIN) } else { unpacked }
    }

    /// Unpacks and reads the body.
    pub(super) fn read(self, body: Bytes, bytes_max: usize) -> Result<Vec<PushedStream>, Refusal> {
        let body = match self.packing {
            Packing::None => body,
            Packing::Gzip => unpack(MultiGzDecoder::new(&*body), bytes_max)?,
            Packing::Deflate => unpack(DeflateDecoder::new(&*body), bytes_max)?,
        };
        let lines_max = |body: &Bytes| (body.len() / BYTES_PER_LINE_MIN).max(LINES_MIN);
        match self.content {
            Content::Protobuf => {
                let length = decompressed_len(&body).ok_or_else(not_snappy)?;
                if length > bytes_max {
                    return Err(Refusal::too_large(bytes_max));
                }
                let body = Bytes::from(decompress(&body).ok_or_else(not_snappy)?);
                read_loki_push(&body, lines_max(&body)).map_err(refused)
            }
            Content::Json => read_loki_json(&body, lines_max(&body)).map_err(refused),
            Content::Lines => Ok(vec![PushedStream { labels: Ok(Vec::new()), entries: lines(&body) }]),
        }
    }
}

fn unpack(packed: impl Read, bytes_max: usize) -> Result<Bytes, Refusal> {
    let mut unpacked = Vec::new();
    let wrong = |error: io::Error| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("the body can't be unpacked: {error}"))
    };
    packed.take(bytes_max as u64 + 1).read_to_end(&mut unpacked).map_err(wrong)?;
    if unpacked.len() > bytes_max { Err(Refusal::too_large(bytes_max)) } else { Ok(unpacked.into()) }
}

fn not_snappy() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "the body is no block of snappy".to_owned())
}

fn refused(error: LokiRequestError) -> Refusal {
    let status = match error {
        LokiRequestError::TooMany(_) => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    Refusal::new(status, error.to_string())
}

/// The lines that are not empty, without their ends.
fn lines(body: &Bytes) -> Vec<LogEntry> {
    let ends = |line: &[u8]| line.len() - line.iter().rev().take_while(|byte| **byte == b'\r').count();
    let lines = body.split(|byte| *byte == b'\n').map(|line| &line[..ends(line)]);
    let entry = |line| match String::from_utf8_lossy(line) {
        std::borrow::Cow::Borrowed(line) => LogEntry::new(0, body.slice_ref(line.as_bytes())),
        std::borrow::Cow::Owned(line) => LogEntry::new(0, line),
    };
    lines.filter(|line| !line.is_empty()).map(entry).collect()
}
