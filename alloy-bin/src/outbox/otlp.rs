//! How OTLP is sent, over HTTP and over gRPC, and what its answers mean
//! (<https://opentelemetry.io/docs/specs/otlp/#failures>).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::Rejection;
use super::client::{Outcome, retry_after, shown};
use super::options::Dialect;
use crate::formats::{PackedRequest, rejected_by_response, retry_delay};

/// As much of an answer as is read.
const ANSWER_BYTES: usize = 64 << 10;

/// Puts a joined body into the request that is made of it.
pub(super) fn prepare(dialect: Dialect, request: &mut Request<Bytes>) {
    let packed = PackedRequest::of(request.body());
    let is_grpc = dialect == Dialect::OtlpGrpc;
    let name = if is_grpc { "grpc-encoding" } else { "content-encoding" };
    let headers = request.headers_mut();
    if let Some(encoding) = packed.encoding {
        headers.insert(name, HeaderValue::from_static(encoding));
    }
    let kind = if is_grpc { "application/grpc" } else { "application/x-protobuf" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if is_grpc {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        *request.version_mut() = Version::HTTP_2;
    }
    *request.body_mut() = if is_grpc { packed.grpc } else { packed.http };
}

/// Reads the answer.
pub(super) async fn judge(dialect: Dialect, response: Response<Incoming>) -> Outcome {
    let (head, body) = response.into_parts();
    let body = match Limited::new(body, ANSWER_BYTES).collect().await {
        Ok(body) => body,
        Err(error) if head.status.is_success() && dialect == Dialect::OtlpHttp => {
            // It said that it has the data; what it wanted to add is lost.
            tracing::debug!(error, "an answer was broken off behind its head");
            return Outcome::Taken { written: None, rejected: None };
        }
        Err(error) => {
            return Outcome::Later { why: format!("the answer was broken off: {error}"), after: None };
        }
    };
    let trailers = body.trailers().cloned();
    let bytes = body.to_bytes();
    match dialect {
        Dialect::OtlpGrpc => judge_grpc(&head, &trailers.unwrap_or_default(), &bytes),
        _ => judge_http(&head, &bytes),
    }
}

fn taken(response: &[u8]) -> Outcome {
    let (rejected, why) = rejected_by_response(response);
    if rejected == 0 && !why.is_empty() {
        tracing::warn!(why, "the endpoint took everything and has a warning");
    }
    Outcome::Taken { written: None, rejected: (rejected > 0).then_some((rejected, why)) }
}

fn judge_http(head: &http::response::Parts, body: &[u8]) -> Outcome {
    if head.status.is_success() {
        return taken(body);
    }
    let why = format!("status {}: {}", head.status, shown(body));
    match head.status.as_u16() {
        429 | 502 | 503 | 504 => {
            Outcome::Later { why, after: retry_after(&head.headers, std::time::SystemTime::now()) }
        }
        _ => Outcome::Never { why, reason: Rejection::of(head.status, &shown(body)), written: 0 },
    }
}

fn judge_grpc(head: &http::response::Parts, trailers: &HeaderMap, body: &[u8]) -> Outcome {
    let find = |name: &str| {
        let value = trailers.get(name).or_else(|| head.headers.get(name))?;
        value.to_str().ok()
    };
    let code: Option<u32> = find("grpc-status").and_then(|code| code.parse().ok());
    let message = find("grpc-message").unwrap_or_default();
    let message = percent_decode_str(message).decode_utf8_lossy().into_owned();
    let after: Option<Duration> = find("grpc-status-details-bin").and_then(|details| {
        let bytes = STANDARD_NO_PAD.decode(details).or_else(|_| STANDARD.decode(details)).ok()?;
        retry_delay(&bytes)
    });
    let Some(code) = code else {
        // Something in between has answered, such as a proxy: gRPC's own table of what HTTP's codes then mean.
        let why = format!("status {} and none of gRPC: {}", head.status, shown(body));
        return match head.status.as_u16() {
            200 | 429 | 502..=504 => {
                Outcome::Later { why, after: retry_after(&head.headers, std::time::SystemTime::now()) }
            }
            _ => Outcome::Never { why, reason: Rejection::of(head.status, ""), written: 0 },
        };
    };
    let why = format!("gRPC status {code}: {}", shown(message.as_bytes()));
    match code {
        0 => taken(body.get(5..).unwrap_or_default()),
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS.
        1 | 4 | 10 | 11 | 14 | 15 => Outcome::Later { why, after },
        // RESOURCE_EXHAUSTED may pass if it says so.
        8 if after.is_some() => Outcome::Later { why, after },
        8 => Outcome::Never { why, reason: Rejection::TooLarge, written: 0 },
        7 | 16 => Outcome::Never { why, reason: Rejection::Unauthorized, written: 0 },
        3 => Outcome::Never { why, reason: Rejection::Invalid, written: 0 },
        _ => Outcome::Never { why, reason: Rejection::Other, written: 0 },
    }
}
