//! OTLP over HTTP: a POST of protobuf or JSON, answered in kind
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::ingest::{Encoding, Ingest, Refusal, Transport};
use super::listener::{Manners, Port};
use super::reply::Reply;
use super::settings::{HttpSettings, Keepalive};
use crate::formats::{Compression, export_response, status};
use crate::telemetry::Signal;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

impl HttpSettings {
    /// Binds the port.
    pub fn bind(&self) -> anyhow::Result<Port> {
        let manners = Manners {
            is_grpc: false,
            header_timeout: Some(self.header_timeout),
            keeps_alive: self.keeps_alive,
            streams_max: None,
            keepalive: Keepalive::default(),
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

async fn answer(settings: &HttpSettings, ingest: &Ingest, request: Request<Incoming>) -> Response<Reply> {
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let allowed = settings.cors.as_ref().map(|cors| cors.headers(request.headers(), is_preflight));
    let is_http1 = request.version() < http::Version::HTTP_2;
    let mut response = match &allowed {
        Some(_) if is_preflight => plain(StatusCode::NO_CONTENT, ""),
        _ => receive(settings, ingest, request).await,
    };
    response.headers_mut().extend(allowed.unwrap_or_default());
    if ingest.draining.is_cancelled() && is_http1 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn receive(settings: &HttpSettings, ingest: &Ingest, request: Request<Incoming>) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let Some(signal) =
        Signal::ALL.into_iter().find(|signal| settings.paths[*signal as usize] == head.uri.path())
    else {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    if head.method != Method::POST {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed, supported: [POST]");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if settings.auth.as_ref().is_some_and(|auth| !auth.allows(&head.headers)) {
        return plain(StatusCode::UNAUTHORIZED, "The credentials are missing or wrong.\n");
    }
    let Some(encoding) = content_type(&head.headers) else {
        let text = "415 unsupported media type, supported: [application/json, application/x-protobuf]";
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    };
    let name = head.headers.get(header::CONTENT_ENCODING).map_or(Ok(""), HeaderValue::to_str).ok();
    let name = name.map(|name| if name == "identity" { "" } else { name });
    let taken = name.filter(|name| settings.compressions.iter().any(|taken| taken == name));
    let Some(compression) = taken.and_then(Compression::named) else {
        let text = format!("unsupported Content-Encoding, supported: {}", settings.compressions.join(", "));
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, 12, &text, None, encoding);
    };
    let bytes_max = settings.body_bytes_max;
    let mut items = 0;
    let result = async {
        let (body, mut room) = ingest.read(body, bytes_max, settings.read_timeout).await?;
        let batch = ingest.decode((signal, encoding), body, compression, bytes_max, &mut room).await?;
        items = batch.items;
        ingest.deliver(&batch, settings.write_timeout).await
    };
    let result = result.await;
    ingest.count(Transport::Http, signal, items, result.as_ref().map(drop));
    match result {
        Ok((rejected, reason)) => taken_but(signal, rejected, &reason, encoding),
        Err(Refusal::Malformed(why)) => refused(StatusCode::BAD_REQUEST, 3, &why, None, encoding),
        Err(Refusal::TooLarge(why)) => refused(StatusCode::PAYLOAD_TOO_LARGE, 8, &why, None, encoding),
        Err(Refusal::Full(why, after)) => {
            refused(StatusCode::TOO_MANY_REQUESTS, 8, &why, Some(after), encoding)
        }
        Err(Refusal::Unavailable(why, after)) => {
            refused(StatusCode::SERVICE_UNAVAILABLE, 14, &why, Some(after), encoding)
        }
        Err(Refusal::TimedOut(why)) => refused(StatusCode::REQUEST_TIMEOUT, 4, &why, None, encoding),
    }
}

fn content_type(headers: &HeaderMap) -> Option<Encoding> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = text.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(PROTOBUF) {
        Some(Encoding::Protobuf)
    } else {
        kind.eq_ignore_ascii_case(JSON).then_some(Encoding::Json)
    }
}

fn taken_but(signal: Signal, rejected: u64, reason: &str, encoding: Encoding) -> Response<Reply> {
    let reply = match encoding {
        Encoding::Protobuf => Reply::of(export_response(rejected, reason)),
        Encoding::Json if rejected == 0 => Reply::of(r#"{"partialSuccess":{}}"#),
        Encoding::Json => {
            let name = ["rejectedDataPoints", "rejectedLogRecords", "rejectedSpans"][signal as usize];
            let partial = serde_json::json!({ name: rejected.to_string(), "errorMessage": reason });
            Reply::of(serde_json::json!({ "partialSuccess": partial }).to_string())
        }
    };
    respond(StatusCode::OK, reply, encoding)
}

/// A `google.rpc.Status` with its code of gRPC.
fn refused(
    http: StatusCode,
    code: u32,
    why: &str,
    after: Option<Duration>,
    encoding: Encoding,
) -> Response<Reply> {
    let reply = match encoding {
        Encoding::Protobuf => Reply::of(status(code, why, after)),
        Encoding::Json => Reply::of(serde_json::json!({ "code": code, "message": why }).to_string()),
    };
    let mut response = respond(http, reply, encoding);
    if let Some(after) = after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

fn respond(code: StatusCode, reply: Reply, encoding: Encoding) -> Response<Reply> {
    let kind = match encoding {
        Encoding::Protobuf => PROTOBUF,
        Encoding::Json => JSON,
    };
    let mut response = Response::new(reply);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn plain(code: StatusCode, text: &'static str) -> Response<Reply> {
    let mut response = Response::new(Reply::of(text));
    *response.status_mut() = code;
    response
}
