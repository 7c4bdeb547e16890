//! A receiver's ports as clients see them.

mod exporting;
mod limits;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::config::{Scope, decode_block};
use crate::formats::{print_otlp, rejected_by_response, retry_delay};
use crate::graph::{ConsumeError, Consumer, OtelConsumer};
use crate::syntax::{Sources, ast::Statement, parse};
use crate::telemetry::{OtlpBatch, Signal};

const LOGS: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"one"}},{"body":{"stringValue":"two"}}]}]}]}"#;
/// The same in protobuf.
const LOGS_PROTOBUF: &[u8] = b"\x0a\x14\x12\x12\x12\x07\x2a\x05\x0a\x03one\x12\x07\x2a\x05\x0a\x03two";

/// Of all requests together.
const MEMORY_BYTES: usize = 8 << 20;

/// Keeps what it takes, and answers as it is told.
#[derive(Default)]
struct Script {
    taken: Mutex<Vec<OtlpBatch>>,
    refusal: Mutex<Option<ConsumeError>>,
    drops: Mutex<u64>,
    /// Set: what comes waits until it is cancelled.
    holds: Mutex<Option<CancellationToken>>,
}

#[async_trait]
impl Consumer<OtlpBatch> for Script {
    async fn consume(&self, batch: &OtlpBatch) -> Result<(), ConsumeError> {
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        let holds = self.holds.lock().unwrap().clone();
        if let Some(holds) = holds {
            holds.cancelled().await;
        }
        batch.dropped.note(*self.drops.lock().unwrap(), "too odd");
        self.taken.lock().unwrap().push(batch.clone());
        Ok(())
    }
}

/// The block with that body.
fn decode<T: crate::config::Decode>(text: &str) -> Result<T, String> {
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", format!("block {{\n{text}\n}}"));
    let (file, _) = parse(&sources, id);
    let Statement::Block(block) = &file.statements[0] else { panic!("it is a block") };
    decode_block(block, &Scope::default()).map_err(|diagnostics| diagnostics.render(&sources))
}

struct Receiver {
    grpc: String,
    http: String,
    script: Arc<Script>,
    ingest: Arc<Ingest>,
    stop: CancellationToken,
    _stop: DropGuard,
}

/// A receiver with what these bodies of blocks say.
async fn receiver(grpc: &str, http: &str) -> Receiver {
    let port = "endpoint = \"127.0.0.1:0\"\n";
    let grpc = decode::<GrpcSettings>(&format!("{port}{grpc}")).expect("valid");
    let http = decode::<HttpSettings>(&format!("{port}{http}")).expect("valid");
    serve(grpc, http)
}

/// The same with what a test makes of the settings.
async fn receiver_with(change: impl Fn(&mut GrpcSettings, &mut HttpSettings)) -> Receiver {
    let port = "endpoint = \"127.0.0.1:0\"";
    let (mut grpc, mut http) = (decode(port).expect("valid"), decode(port).expect("valid"));
    change(&mut grpc, &mut http);
    serve(grpc, http)
}

fn serve(grpc: GrpcSettings, http: HttpSettings) -> Receiver {
    let (grpc, http) = (Arc::new(grpc), Arc::new(http));
    let script = Arc::new(Script::default());
    let ingest = Arc::new(Ingest::within(MEMORY_BYTES, Output::all(script.clone() as OtelConsumer)));
    let stop = CancellationToken::new();
    let ports = (grpc.bind().expect("a port"), http.bind().expect("a port"));
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    let address = |port: &Port| format!("{scheme}://{}", port.address());
    let addresses = (address(&ports.0), address(&ports.1));
    let (of_grpc, of_http, stopping) = (ingest.clone(), ingest.clone(), stop.clone());
    tokio::spawn(async move {
        tokio::join!(
            grpc.serve(&ports.0, of_grpc, stopping.clone()),
            http.serve(&ports.1, of_http, stopping.clone())
        )
    });
    let _stop = stop.clone().drop_guard();
    Receiver { grpc: addresses.0, http: addresses.1, script, ingest, stop, _stop }
}

struct Answer {
    head: Response<()>,
    body: Bytes,
    trailers: ::http::HeaderMap,
}

async fn send(request: Request<Bytes>, is_http2: bool) -> Answer {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http();
    let response = client.request(request.map(Full::new)).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole answer");
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answer { head: Response::from_parts(head, ()), body: body.to_bytes(), trailers }
}

async fn post(receiver: &Receiver, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut request = Request::post(format!("{}/v1/logs", receiver.http));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(body.into()).expect("a request"), false).await
}

async fn call(receiver: &Receiver, headers: &[(&str, &str)], flag: u8, message: &[u8]) -> Answer {
    let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let mut request =
        Request::post(format!("{}{path}", receiver.grpc)).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat();
    send(request.body(body.into()).expect("a request"), true).await
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

impl Answer {
    fn code(&self) -> &str {
        let status = self.trailers.get("grpc-status").or(self.head.headers().get("grpc-status"));
        status.and_then(|status| status.to_str().ok()).unwrap_or("none")
    }
}

#[tokio::test]
async fn what_is_taken_over_either_protocol_is_the_same_message() {
    let receiver = receiver("", "").await;
    let gzip = {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(LOGS_PROTOBUF).expect("memory");
        encoder.finish().expect("memory")
    };
    assert_eq!(post(&receiver, &[PROTOBUF], LOGS_PROTOBUF).await.head.status(), 200);
    assert_eq!(
        post(&receiver, &[PROTOBUF, ("content-encoding", "gzip")], gzip.clone()).await.head.status(),
        200
    );
    let json = post(&receiver, &[("content-type", "application/json; charset=utf-8")], LOGS).await;
    assert_eq!((json.head.status(), &json.body[..]), (StatusCode::OK, &br#"{"partialSuccess":{}}"#[..]));
    let grpc = call(&receiver, &[], 0, LOGS_PROTOBUF).await;
    assert_eq!((grpc.code(), &grpc.body[..]), ("0", &b"\0\0\0\0\0"[..]));
    assert_eq!(call(&receiver, &[("grpc-encoding", "gzip")], 1, &gzip).await.code(), "0");
    // The encoding is of compressed messages; this one is none.
    assert_eq!(call(&receiver, &[("grpc-encoding", "gzip")], 0, LOGS_PROTOBUF).await.code(), "0");
    let taken = receiver.script.taken.lock().unwrap();
    assert_eq!(taken.len(), 6);
    for batch in &*taken {
        assert_eq!(
            (batch.signal, batch.items, &batch.body[..]),
            (Signal::Logs, 2, LOGS_PROTOBUF),
            "{}",
            print_otlp(batch)
        );
    }
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_its_code() {
    let receiver = receiver(
        "max_recv_msg_size = 100",
        "max_request_body_size = 200\ncompression_algorithms = [\"\", \"gzip\"]",
    )
    .await;
    let check = async |headers: &[(&str, &str)], body: &[u8], status: u16| {
        let answer = post(&receiver, headers, body.to_vec()).await;
        assert_eq!(answer.head.status(), status, "{headers:?} {body:?}: {:?}", answer.body);
    };
    check(&[PROTOBUF], b"\x0a", 400).await;
    check(&[JSON], b"{\"resourceLogs\":1}", 400).await;
    check(&[JSON], b"{", 400).await;
    check(&[PROTOBUF, ("content-encoding", "gzip")], b"no gzip", 400).await;
    check(&[PROTOBUF, ("content-encoding", "zstd")], b"", 415).await;
    check(&[PROTOBUF, ("content-encoding", "br")], b"", 415).await;
    check(&[("content-type", "text/plain")], b"", 415).await;
    check(&[], b"", 415).await;
    check(&[PROTOBUF], &[b' '; 201], 413).await;
    let answer =
        send(Request::get(format!("{}/v1/logs", receiver.http)).body(Bytes::new()).unwrap(), false).await;
    assert_eq!(answer.head.status(), 405);
    let answer =
        send(Request::post(format!("{}/v1/other", receiver.http)).body(Bytes::new()).unwrap(), false).await;
    assert_eq!(answer.head.status(), 404);

    let check = async |headers: &[(&str, &str)], flag: u8, message: &[u8], code: &str| {
        let answer = call(&receiver, headers, flag, message).await;
        assert_eq!(answer.code(), code, "{headers:?} {message:?}: {:?}", answer.head);
    };
    check(&[], 0, b"\x0a", "3").await;
    check(&[], 2, b"", "3").await;
    check(&[("grpc-encoding", "gzip")], 1, b"no gzip", "3").await;
    check(&[("grpc-encoding", "br")], 1, b"", "12").await;
    check(&[], 0, &[b' '; 101], "8").await;
    let other =
        Request::post(format!("{}/a.b/C", receiver.grpc)).header("content-type", "application/grpc+proto");
    assert_eq!(send(other.body(Bytes::from_static(&[0; 5])).unwrap(), true).await.code(), "12");
    let other = Request::post(format!("{}/a.b/C", receiver.grpc));
    assert_eq!(send(other.body(Bytes::new()).unwrap(), true).await.head.status(), 415);
    assert!(receiver.script.taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_message_that_unpacks_to_more_than_the_limit_is_refused() {
    let receiver = receiver("max_recv_msg_size = \"1MiB\"", "max_request_body_size = \"1MiB\"").await;
    let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 1).expect("memory");
    assert!(bomb.len() < 10_000);
    assert_eq!(
        post(&receiver, &[PROTOBUF, ("content-encoding", "zstd")], bomb.clone()).await.head.status(),
        413
    );
    assert_eq!(call(&receiver, &[("grpc-encoding", "zstd")], 1, &bomb).await.code(), "8");
}

#[tokio::test]
async fn back_pressure_and_partial_success_are_said_in_each_protocols_words() {
    let receiver = receiver("", "").await;
    *receiver.script.drops.lock().unwrap() = 1;
    let grpc = call(&receiver, &[], 0, LOGS_PROTOBUF).await;
    assert_eq!(rejected_by_response(&grpc.body[5..]), (1, "too odd".to_owned()));
    let http = post(&receiver, &[PROTOBUF], LOGS_PROTOBUF).await;
    assert_eq!(rejected_by_response(&http.body), (1, "too odd".to_owned()));
    let json = post(&receiver, &[JSON], LOGS).await;
    assert_eq!(json.body, r#"{"partialSuccess":{"errorMessage":"too odd","rejectedLogRecords":"1"}}"#);

    let refuse = |refusal| *receiver.script.refusal.lock().unwrap() = Some(refusal);
    let details = |answer: &Answer| {
        use base64::Engine as _;
        let encoded = answer.head.headers()["grpc-status-details-bin"].as_bytes().to_vec();
        retry_delay(&base64::engine::general_purpose::STANDARD_NO_PAD.decode(encoded).expect("base64"))
    };
    refuse(ConsumeError::Full { by: "a".into(), reason: "100 % \n ä".into() });
    let grpc = call(&receiver, &[], 0, LOGS_PROTOBUF).await;
    assert_eq!((grpc.code(), details(&grpc)), ("8", Some(Duration::from_secs(5))));
    assert_eq!(grpc.head.headers()["grpc-message"], "a has no room: 100 %25 %0A %C3%A4");
    let http = post(&receiver, &[PROTOBUF], LOGS_PROTOBUF).await;
    assert_eq!(
        (http.head.status().as_u16(), &http.head.headers()["retry-after"]),
        (429, &::http::HeaderValue::from(5))
    );
    assert_eq!(retry_delay(&http.body), Some(Duration::from_secs(5)));
    refuse(ConsumeError::Closed { by: "a".into(), reason: "b".into() });
    let grpc = call(&receiver, &[], 0, LOGS_PROTOBUF).await;
    assert_eq!((grpc.code(), details(&grpc)), ("14", Some(Duration::from_secs(5))));
    assert_eq!(post(&receiver, &[JSON], LOGS).await.head.status(), 503);
}

#[tokio::test]
async fn while_it_drains_clients_are_told_to_go() {
    let receiver = receiver("", "").await;
    receiver.ingest.drain();
    let http = post(&receiver, &[PROTOBUF], LOGS_PROTOBUF).await;
    assert_eq!(
        (http.head.status().as_u16(), http.head.headers()["connection"].as_bytes()),
        (503, &b"close"[..])
    );
    assert_eq!(call(&receiver, &[], 0, LOGS_PROTOBUF).await.code(), "14");
    assert!(receiver.script.taken.lock().unwrap().is_empty());
    receiver.stop.cancel();
}

#[tokio::test]
async fn a_browser_is_told_what_it_may_send() {
    let receiver = receiver("", "cors {\nallowed_origins = [\"https://*.shop\"]\nmax_age = \"1h\"\n}").await;
    let ask = async |origin: &str| {
        let request = Request::options(format!("{}/v1/traces", receiver.http)).header("origin", origin);
        send(request.header("access-control-request-method", "POST").body(Bytes::new()).unwrap(), false).await
    };
    let allowed = ask("https://a.shop").await;
    let header =
        |name: &str| allowed.head.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(allowed.head.status(), 204);
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("https://a.shop"));
    assert_eq!(header("access-control-max-age").as_deref(), Some("3600"));
    assert_eq!(
        header("access-control-allow-headers").as_deref(),
        Some("Content-Type, Content-Encoding, X-Requested-With")
    );
    assert!(ask("https://evil").await.head.headers().get("access-control-allow-origin").is_none());
    let sent = post(&receiver, &[JSON, ("origin", "https://a.shop")], LOGS).await;
    assert_eq!(sent.head.headers()["access-control-allow-origin"], "https://a.shop");
}
