//! OTLP over gRPC: one call, `Export`, of three services (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio_util::sync::CancellationToken;

use super::ingest::{Encoding, Ingest, Refusal, Transport};
use super::listener::{Manners, Port};
use super::reply::Reply;
use super::settings::GrpcSettings;
use crate::formats::{Compression, export_response, status};
use crate::telemetry::{OtlpBatch, Signal};

/// What we unpack, as `grpc-accept-encoding` names it.
const ENCODINGS: &str = "identity,gzip,zstd,deflate,snappy";
/// How long a message may take to come, and then to be taken, if the client names no deadline.
const PATIENCE: Duration = Duration::from_secs(60);
/// In front of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The codes of gRPC that are answered.
const INVALID_ARGUMENT: u32 = 3;
const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;

impl GrpcSettings {
    /// Binds the port.
    pub fn bind(&self) -> anyhow::Result<Port> {
        let manners = Manners {
            is_grpc: true,
            header_timeout: None,
            keeps_alive: true,
            streams_max: self.streams_max,
            keepalive: self.keepalive.clone(),
        };
        Port::bind(&self.endpoint, self.tls.as_ref(), manners)
    }

    /// Answers what comes to the port until `stop`.
    pub async fn serve(self: Arc<Self>, port: &Port, ingest: Arc<Ingest>, stop: CancellationToken) {
        let answer = move |request| {
            let (settings, ingest) = (self.clone(), ingest.clone());
            async move { answer(&settings, &ingest, request).await }
        };
        port.serve(answer, stop).await;
    }
}

async fn answer(settings: &GrpcSettings, ingest: &Ingest, request: Request<Incoming>) -> Response<Reply> {
    let is_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
    if request.method() != Method::POST || !request.headers().get(header::CONTENT_TYPE).is_some_and(is_grpc) {
        let mut response = Response::new(Reply::of("This port takes OTLP over gRPC (application/grpc).\n"));
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    if settings.auth.as_ref().is_some_and(|auth| !auth.allows(request.headers())) {
        return failed(UNAUTHENTICATED, "the credentials are missing or wrong", None);
    }
    let signal = match request.uri().path() {
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Signal::Metrics,
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Signal::Logs,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Signal::Traces,
        path => return failed(UNIMPLEMENTED, &format!("there is no method {path} here"), None),
    };
    let encoding = request.headers().get("grpc-encoding").map_or(Ok(""), HeaderValue::to_str);
    let Some(compression) = encoding.ok().and_then(Compression::named) else {
        let mut response = failed(UNIMPLEMENTED, "the message's compression is not known here", None);
        response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(ENCODINGS));
        return response;
    };
    let patience = deadline(request.headers()).unwrap_or(PATIENCE);
    let mut items = 0;
    let result = tokio::time::timeout(patience, async {
        let batch = message(settings, ingest, signal, compression, request.into_body()).await?;
        items = batch.0.items;
        ingest.deliver(&batch.0, patience).await
    });
    let result =
        result.await.unwrap_or_else(|_| Err(Refusal::TimedOut(format!("not done within {patience:?}"))));
    ingest.count(Transport::Grpc, signal, items, result.as_ref().map(drop));
    match result {
        Ok((rejected, reason)) => {
            let message = export_response(rejected, &reason);
            let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
            framed.put_u8(0);
            framed.put_u32(message.len() as u32);
            framed.put_slice(&message);
            let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
            respond(Reply { data: Some(framed.freeze()), trailers: Some(trailers) })
        }
        Err(Refusal::Malformed(why)) => failed(INVALID_ARGUMENT, &why, None),
        Err(Refusal::TooLarge(why)) => failed(RESOURCE_EXHAUSTED, &why, None),
        Err(Refusal::Full(why, after)) => failed(RESOURCE_EXHAUSTED, &why, Some(after)),
        Err(Refusal::Unavailable(why, after)) => failed(UNAVAILABLE, &why, Some(after)),
        Err(Refusal::TimedOut(why)) => failed(DEADLINE_EXCEEDED, &why, None),
    }
}

/// The one message of the call, with its share of the memory.
async fn message(
    settings: &GrpcSettings,
    ingest: &Ingest,
    signal: Signal,
    compression: Compression,
    body: Incoming,
) -> Result<(OtlpBatch, super::ingest::Room), Refusal> {
    let bytes_max = settings.message_bytes_max;
    let (body, mut room) = ingest.read(body, bytes_max + PREFIX_BYTES, PATIENCE).await?;
    let (is_compressed, message) = unframe(&body).map_err(Refusal::Malformed)?;
    let compression = if is_compressed { compression } else { Compression::None };
    let batch =
        ingest.decode((signal, Encoding::Protobuf), message, compression, bytes_max, &mut room).await?;
    Ok((batch, room))
}

/// Takes the prefix off.
fn unframe(body: &Bytes) -> Result<(bool, Bytes), String> {
    let Some(prefix) = body.first_chunk::<PREFIX_BYTES>() else {
        return Err("a message has five bytes in front of it".to_owned());
    };
    let [flag, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    if flag > 1 || length != body.len() - PREFIX_BYTES {
        return Err("the bytes in front of the message are not those of one whole message".to_owned());
    }
    Ok((flag == 1, body.slice(PREFIX_BYTES..)))
}

/// `grpc-timeout`: up to eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = number.parse::<u32>().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(u64::from(number) * 3600),
        "M" => Duration::from_secs(u64::from(number) * 60),
        "S" => Duration::from_secs(number.into()),
        "m" => Duration::from_millis(number.into()),
        "u" => Duration::from_micros(number.into()),
        "n" => Duration::from_nanos(number.into()),
        _ => return None,
    })
}

const GRPC_STATUS: header::HeaderName = header::HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: header::HeaderName = header::HeaderName::from_static("grpc-message");
const GRPC_DETAILS: header::HeaderName = header::HeaderName::from_static("grpc-status-details-bin");
/// What may not stand in `grpc-message` as it is; the set adds what is not ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// An answer of headers alone.
fn failed(code: u32, why: &str, retry: Option<Duration>) -> Response<Reply> {
    let mut response = respond(Reply { data: None, trailers: None });
    let headers = response.headers_mut();
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    let mut put = |name, text: String| {
        // Both are ASCII now.
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    put(GRPC_MESSAGE, utf8_percent_encode(why, ESCAPED).to_string());
    if retry.is_some() {
        put(GRPC_DETAILS, STANDARD_NO_PAD.encode(status(code, why, retry)));
    }
    response
}

fn respond(reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
