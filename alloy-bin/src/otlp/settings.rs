//! The blocks `grpc` and `http` of a receiver, with Alloy's names. Differences in defaults are on the page of the component.

use std::sync::Arc;
use std::time::Duration;

use super::Handler;
use super::cors::Cors;
use super::ingest::MEMORY_BYTES;
use crate::config::{Body, ByteSize, Decode};
use crate::formats::Compression;
use crate::outbox;
use crate::server::TlsBlock;
use crate::telemetry::Signal;

/// A `grpc` block.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcSettings {
    pub(super) endpoint: String,
    pub(super) message_bytes_max: usize,
    pub(super) streams_max: Option<u32>,
    pub(super) tls: Option<TlsBlock>,
    pub(super) auth: Option<Arc<Handler>>,
    pub(super) keepalive: Keepalive,
}

/// An `http` block.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSettings {
    pub(super) endpoint: String,
    pub(super) body_bytes_max: usize,
    pub(super) paths: [String; 3],
    pub(super) compressions: Vec<String>,
    pub(super) header_timeout: Duration,
    pub(super) read_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) keeps_alive: bool,
    pub(super) cors: Option<Cors>,
    pub(super) tls: Option<TlsBlock>,
    pub(super) auth: Option<Arc<Handler>>,
}

/// How connections over HTTP/2 are looked after.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Keepalive {
    pub(super) ping: Duration,
    pub(super) pong: Duration,
    /// How long a connection may live, and how long its last requests.
    pub(super) age: Option<(Duration, Duration)>,
}

const SIZED: &str = "buffers grow and shrink by themselves; leave it out";
/// Calls at a time on one connection, as hyper has it.
const STREAMS_MAX: u32 = 200;
/// What `infinity` is for a time.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

impl Decode for GrpcSettings {
    fn decode(body: &mut Body<'_>) -> Self {
        outbox::meaningless(body, &[("read_buffer_size", SIZED), ("write_buffer_size", SIZED)]);
        outbox::only(body, "transport", "tcp".to_owned(), "only \"tcp\" is listened to");
        let keepalive: Option<KeepaliveBlock> = body.block("keepalive");
        GrpcSettings {
            endpoint: endpoint(body, "127.0.0.1:4317"),
            message_bytes_max: size(body, "max_recv_msg_size", 4 << 20),
            streams_max: body.optional("max_concurrent_streams", Some(STREAMS_MAX)),
            tls: body.block::<ServerTls>("tls").map(|tls| tls.0),
            auth: auth(body),
            keepalive: keepalive.and_then(|block| block.0).unwrap_or_default(),
        }
    }
}

impl Decode for HttpSettings {
    fn decode(body: &mut Body<'_>) -> Self {
        let path = |body: &mut Body<'_>, signal: Signal| {
            let name = format!("{}_url_path", signal.name());
            let path: String = body.optional(&name, format!("/v1/{}", signal.name()));
            if path.starts_with('/') { path } else { format!("/{path}") }
        };
        let known = ["", "gzip", "zstd", "zlib", "snappy", "deflate"].map(str::to_owned).to_vec();
        let compressions: Vec<String> = body.optional("compression_algorithms", known);
        for name in &compressions {
            if Compression::named(name).is_none() {
                let message =
                    format!("{name:?} is not unpacked here; gzip, zstd, zlib, deflate and snappy are");
                body.error_at("compression_algorithms", message);
            }
        }
        let idle = body.optional("idle_timeout", Duration::from_secs(60));
        let head = body.optional("read_header_timeout", Duration::from_secs(60));
        HttpSettings {
            endpoint: endpoint(body, "127.0.0.1:4318"),
            body_bytes_max: size(body, "max_request_body_size", 20 << 20),
            paths: Signal::ALL.map(|signal| path(body, signal)),
            compressions,
            header_timeout: some(idle).min(some(head)),
            read_timeout: some(body.optional("read_timeout", Duration::from_secs(60))),
            write_timeout: some(body.optional("write_timeout", Duration::from_secs(30))),
            keeps_alive: body.optional("keep_alives_enabled", true),
            cors: body.block("cors"),
            tls: body.block::<ServerTls>("tls").map(|tls| tls.0),
            auth: auth(body),
        }
    }
}

/// A time of which zero means that there is no limit.
fn some(time: Duration) -> Duration {
    if time.is_zero() { FOREVER } else { time }
}

fn endpoint(body: &mut Body<'_>, default: &str) -> String {
    outbox::only(
        body,
        "include_metadata",
        false,
        "no component here reads the headers of requests: between a receiver and an exporter is a log; leave it out",
    );
    let endpoint: String = body.optional("endpoint", default.to_owned());
    let port = endpoint.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        body.error_at("endpoint", format!("{endpoint:?} is not an address such as \"0.0.0.0:4317\""));
    }
    endpoint
}

fn auth(body: &mut Body<'_>) -> Option<Arc<Handler>> {
    let handler: Option<Arc<Handler>> = body.optional("auth", None);
    if handler.as_ref().is_some_and(|handler| !handler.identifies()) {
        body.error_at("auth", "headers that are added to requests say nothing of who a client is");
    }
    handler
}

fn size(body: &mut Body<'_>, name: &str, default: u64) -> usize {
    let size = body.optional(name, ByteSize(default)).0;
    let most = MEMORY_BYTES as u64 / 2;
    if size == 0 || size > most {
        body.error_at(name, format!("must be above zero and at most {}", ByteSize(most)));
    }
    size as usize
}

struct ServerTls(TlsBlock);

impl Decode for ServerTls {
    fn decode(body: &mut Body<'_>) -> Self {
        ServerTls(TlsBlock::read_otel(body))
    }
}

impl Default for Keepalive {
    /// As in gRPC for Go.
    fn default() -> Self {
        Keepalive { ping: Duration::from_secs(7200), pong: Duration::from_secs(20), age: None }
    }
}

struct KeepaliveBlock(Option<Keepalive>);

impl Decode for KeepaliveBlock {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["enforcement_policy"]);
        KeepaliveBlock(body.block("server_parameters"))
    }
}

impl Decode for Keepalive {
    fn decode(body: &mut Body<'_>) -> Self {
        let idle = "connections without a request cost little and are kept; use max_connection_age";
        outbox::meaningless(body, &[("max_connection_idle", idle)]);
        let default = Keepalive::default();
        let age: Option<Duration> = body.optional("max_connection_age", None);
        let grace = body.optional("max_connection_age_grace", None).unwrap_or(FOREVER);
        Keepalive {
            ping: body.optional("time", default.ping),
            pong: body.optional("timeout", default.pong),
            age: age.filter(|age| !age.is_zero()).map(|age| (age, grace)),
        }
    }
}
