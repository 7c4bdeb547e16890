//! What `otelcol.exporter.otlp` and `otelcol.exporter.otlphttp` share: a log for each signal, and the blocks around it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, Uri};
use tokio_util::sync::CancellationToken;

use super::{DebugMetrics, Handler, sensitive};
use crate::config::{Body, ConversionError, Decode, FromValue, Secret, Value};
use crate::formats::{Packing, first_resource, join_packed, otlp_part, packed_plain_bytes, split_packed};
use crate::graph::{ConsumeError, Consumer};
use crate::http_client::{HttpClientOptions, TlsOptions};
use crate::outbox::{
    self, Batching, Dialect, Endpoint, Form, Group, OnTooManyRequests, Options, Outbox, Piece, Retry,
    WalBlock,
};
use crate::telemetry::{OtlpBatch, Page, Signal};

/// Of a request, unpacked: receivers take 4 MiB over gRPC unless they are told otherwise.
const REQUEST_BYTES: usize = 3 << 20;

/// Messages from this size on are compressed where a thread may be busy for long.
const LARGE_BYTES: usize = 256 << 10;
/// What the log adds to a piece, and more.
const RECORD_BYTES: usize = 1 << 10;

/// Arguments beside the block `client`.
#[derive(Debug, Clone, PartialEq)]
pub struct Common {
    queue: Queue,
    retry: RetryBlock,
    wal: WalBlock,
}

impl Common {
    /// Reads the blocks.
    pub fn read(body: &mut Body<'_>) -> Self {
        body.block::<DebugMetrics>("debug_metrics");
        Common {
            queue: body.block("sending_queue").unwrap_or_default(),
            retry: body.block("retry_on_failure").unwrap_or_default(),
            wal: body.block("wal").unwrap_or_default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Queue {
    lanes: usize,
    batch: Batch,
}

#[derive(Debug, Clone, PartialEq)]
struct Batch {
    deadline: Duration,
    max_items: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct RetryBlock {
    initial: Duration,
    max: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { lanes: 10, batch: Batch::default() }
    }
}

impl Decode for Queue {
    fn decode(body: &mut Body<'_>) -> Self {
        let log = "the queue is a log on disk; leave it out, and limit the log by max_bytes in the block wal";
        outbox::meaningless(body, &[("queue_size", log), ("sizer", log), ("storage", log)]);
        outbox::only(
            body,
            "enabled",
            true,
            "the log is always on: it is what keeps data while an endpoint is down",
        );
        let refuse = "a full log refuses, and clients are told to come again; leave it out";
        outbox::only(body, "block_on_overflow", false, refuse);
        outbox::only(body, "wait_for_result", false, "a batch is taken when it is in the log; leave it out");
        let lanes = body.optional("num_consumers", 10);
        if !(1..=1000).contains(&lanes) {
            body.error_at("num_consumers", "must be from 1 to 1000");
        }
        Queue { lanes, batch: body.block("batch").unwrap_or_default() }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch { deadline: Duration::from_millis(200), max_items: 8192 }
    }
}

impl Decode for Batch {
    fn decode(body: &mut Body<'_>) -> Self {
        let goes = "a request goes when it has max_size items, or after flush_timeout; leave it out";
        outbox::meaningless(body, &[("min_size", goes)]);
        outbox::only(body, "sizer", "items".to_owned(), "only \"items\" are counted here");
        let default = Batch::default();
        let batch = Batch {
            deadline: body.optional("flush_timeout", default.deadline),
            max_items: body.optional("max_size", default.max_items),
        };
        if batch.max_items == 0 {
            body.error_at("max_size", "must be above zero");
        }
        batch
    }
}

impl Default for RetryBlock {
    fn default() -> Self {
        RetryBlock { initial: Duration::from_secs(5), max: Duration::from_secs(30) }
    }
}

impl Decode for RetryBlock {
    fn decode(body: &mut Body<'_>) -> Self {
        let doubled = "waits double, and their upper half is chance; leave it out";
        outbox::meaningless(body, &[("multiplier", doubled), ("randomization_factor", doubled)]);
        let kept = "what may still be taken is kept until it is; leave it out, or limit the log by max_keepalive_time \
                    in the block wal";
        outbox::only(body, "enabled", true, kept);
        outbox::only(body, "max_elapsed_time", Duration::ZERO, kept);
        let default = RetryBlock::default();
        let retry = RetryBlock {
            initial: body.optional("initial_interval", default.initial),
            max: body.optional("max_interval", default.max),
        };
        outbox::check_backoff(body, ("initial_interval", retry.initial), ("max_interval", retry.max));
        retry
    }
}

/// What the `client` blocks have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientBlock {
    /// As it is written.
    pub endpoint: String,
    /// Without TLS.
    pub insecure: bool,
    tls: TlsOptions,
    headers: BTreeMap<String, Secret>,
    auth: Option<Arc<Handler>>,
    compression: Method,
    proxy_url: Option<Secret>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    None,
    Gzip,
    Zstd,
    Snappy,
}

impl FromValue for Method {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let choices = [
            ("gzip", Method::Gzip),
            ("zstd", Method::Zstd),
            ("snappy", Method::Snappy),
            ("none", Method::None),
            ("", Method::None),
        ];
        ConversionError::one_of(value, &choices)
    }
}

/// A client's `tls` block.
struct ClientTls {
    insecure: bool,
    options: TlsOptions,
}

impl Decode for ClientTls {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&[
            "cipher_suites",
            "curve_preferences",
            "include_insecure_cipher_suites",
            "include_system_ca_certs_pool",
            "max_version",
            "tpm",
        ]);
        // Changed files are seen within seconds whatever it says.
        let _: Duration = body.optional("reload_interval", Duration::ZERO);
        ClientTls { insecure: body.optional("insecure", false), options: TlsOptions::decode(body) }
    }
}

impl ClientBlock {
    /// Reads what both blocks have.
    pub fn read(body: &mut Body<'_>) -> Self {
        const SIZED: &str = "buffers grow and shrink by themselves; leave it out";
        outbox::meaningless(body, &[("read_buffer_size", SIZED), ("write_buffer_size", SIZED)]);
        let tls: Option<ClientTls> = body.block("tls");
        let (insecure, tls) = tls.map_or_else(Default::default, |tls| (tls.insecure, tls.options));
        let block = ClientBlock {
            endpoint: body.required("endpoint"),
            insecure,
            tls,
            headers: body.optional("headers", BTreeMap::new()),
            auth: body.optional("auth", None),
            compression: body.optional("compression", Method::Gzip),
            proxy_url: None,
        };
        if let Err(reason) = block.header_map() {
            body.error_at("headers", reason);
        }
        block
    }

    /// Reads `proxy_url`.
    pub fn with_proxy(mut self, body: &mut Body<'_>) -> Self {
        self.proxy_url = body.optional("proxy_url", None).filter(|url: &Secret| !url.is_empty());
        self
    }

    fn header_map(&self) -> Result<HeaderMap, String> {
        const OWN: [&str; 7] = [
            "connection",
            "content-encoding",
            "content-length",
            "content-type",
            "host",
            "te",
            "transfer-encoding",
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed: HeaderName = name.parse().map_err(|_| format!("{name:?} is not a header's name"))?;
            if OWN.contains(&parsed.as_str()) || parsed.as_str().starts_with("grpc-") {
                return Err(format!("the header {parsed} is set by the protocol and cannot be changed"));
            }
            let value =
                sensitive(value.expose()).map_err(|reason| format!("the value of {name:?} {reason}"))?;
            headers.insert(parsed, value);
        }
        if let Some(auth) = &self.auth {
            headers.extend(auth.headers().clone());
        }
        Ok(headers)
    }

    fn packing(&self, is_grpc: bool) -> Packing {
        match self.compression {
            Method::None => Packing::None,
            // The fastest levels: telemetry gets little smaller by the others, which take several times as long.
            Method::Gzip => Packing::Gzip(1),
            Method::Zstd => Packing::Zstd(1),
            Method::Snappy if is_grpc => Packing::SnappyFrames,
            Method::Snappy => Packing::Snappy,
        }
    }
}

/// Where a signal goes, and how.
pub struct Destination<'a> {
    /// The `client` block.
    pub client: &'a ClientBlock,
    /// The URL of each signal, in the order of [`Signal::ALL`].
    pub urls: [Uri; 3],
    /// HTTP or gRPC.
    pub dialect: Dialect,
    /// Of one request.
    pub timeout: Duration,
}

/// The logs of an exporter, and those who send from them.
pub struct Exporter {
    id: Arc<str>,
    packing: Packing,
    max_items: u32,
    /// What the log takes.
    piece_bytes_max: usize,
    all: Group<Signal>,
}

impl Exporter {
    /// Opens the logs.
    pub fn open(
        common: &Common,
        destination: &Destination<'_>,
        id: Arc<str>,
        storage: &Path,
    ) -> anyhow::Result<Self> {
        let client = destination.client;
        let is_grpc = destination.dialect == Dialect::OtlpGrpc;
        let http = HttpClientOptions::otel(client.tls.clone(), client.proxy_url.clone(), is_grpc);
        let headers = client.header_map().map_err(anyhow::Error::msg)?;
        let open = |signal: Signal| {
            let endpoint = Endpoint {
                name: format!("{id}/{}", signal.name()),
                url: destination.urls[signal as usize].clone(),
                headers: headers.clone(),
                newer_headers: None,
                http: http.clone(),
                timeout: destination.timeout,
                dialect: destination.dialect,
                takes_spans: signal == Signal::Traces,
            };
            let retry = Retry {
                min_backoff: common.retry.initial,
                max_backoff: common.retry.max,
                on_too_many_requests: OnTooManyRequests::Retry,
                age_limit: None,
            };
            let batching = Batching {
                lanes: common.queue.lanes,
                max_items: common.queue.batch.max_items,
                max_bytes: REQUEST_BYTES,
                in_flight_bytes: (2 * REQUEST_BYTES).saturating_mul(common.queue.lanes),
                deadline: common.queue.batch.deadline,
                form: Form {
                    splice: join_packed,
                    split: split_packed,
                    newer: None,
                    weigh: packed_plain_bytes,
                },
            };
            let directory = storage.join("wal").join(signal.name());
            let log = common.wal.limits;
            Ok((
                Outbox::open(Options { directory, endpoint, retry, batching, log, clearance: None })?,
                signal,
            ))
        };
        let all = Signal::ALL.into_iter().map(open).collect::<anyhow::Result<_>>()?;
        let packing = client.packing(is_grpc);
        let piece_bytes_max = (common.wal.limits.segment_bytes / 2) as usize - RECORD_BYTES;
        let max_items = common.queue.batch.max_items as u32;
        Ok(Exporter { id, packing, max_items, piece_bytes_max, all: Group::new(all) })
    }

    /// Sends until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        self.all.run(stop).await;
    }

    async fn pieces(&self, batch: &OtlpBatch) -> Vec<Piece> {
        let (packing, max_items) = (self.packing, self.max_items);
        if batch.body.len() < LARGE_BYTES {
            return pieces(batch, packing, max_items);
        }
        let batch = batch.clone();
        tokio::task::spawn_blocking(move || pieces(&batch, packing, max_items))
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Writes the exporter's figures, with Alloy's names where it has them.
    pub fn collect(&self, page: &mut Page) {
        const ITEMS: [&str; 3] = ["metric_points", "log_records", "spans"];
        for (outbox, signal) in self.all.iter() {
            let (figures, items) = (outbox.figures(), ITEMS[*signal as usize]);
            let labels = [("signal", signal.name()), ("url", outbox.url())];
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            for (name, help, value) in [
                (
                    format!("otelcol_exporter_sent_{items}_total"),
                    "Items that the endpoint has acknowledged.",
                    &figures.sent_items,
                ),
                (
                    format!("otelcol_exporter_send_failed_{items}_total"),
                    "Items that the endpoint refused for good.",
                    &figures.rejected_items,
                ),
                (
                    format!("otelcol_exporter_enqueue_failed_{items}_total"),
                    "Items not taken because the log had no room.",
                    &figures.refused_items,
                ),
                (
                    "alloy_otelcol_exporter_accepted_items_total".to_owned(),
                    "Items taken into the log.",
                    &figures.accepted_items,
                ),
                (
                    "alloy_otelcol_exporter_retried_items_total".to_owned(),
                    "Items sent again after an error that may pass.",
                    &figures.retried_items,
                ),
                (
                    "alloy_otelcol_exporter_sent_bytes_total".to_owned(),
                    "Bytes of acknowledged requests.",
                    &figures.sent_bytes,
                ),
                (
                    "alloy_otelcol_exporter_requests_total".to_owned(),
                    "Requests answered, timed out or failed.",
                    &figures.requests,
                ),
            ] {
                page.counter(&name, help, &labels, count(value));
            }
            figures.collect_rejected(page, "alloy_otelcol_exporter_rejected_items_total", &labels);
            page.histogram(
                "alloy_otelcol_exporter_request_seconds",
                "Time of one request.",
                &labels,
                &figures.request_seconds,
            );
            outbox.log().collect(page, &labels);
        }
    }
}

/// Compresses the batch, in parts that are small enough for any receiver.
fn pieces(batch: &OtlpBatch, packing: Packing, max_items: u32) -> Vec<Piece> {
    // What comes from one resource stays in order.
    let lane = twox_hash::XxHash64::oneshot(0, first_resource(batch));
    let mut pieces = Vec::new();
    let mut rest = vec![batch.clone()];
    while let Some(part) = rest.pop() {
        let is_large = part.items > max_items || part.body.len() > REQUEST_BYTES;
        if is_large && part.items > 1 {
            let half = part.items / 2;
            rest.push(otlp_part(&part, half, part.items));
            rest.push(otlp_part(&part, 0, half));
        } else {
            let body = packing.pack(part.signal, &part.body);
            pieces.push(Piece {
                lane,
                items: part.items,
                newest_ms: now_ms(),
                tenant: None,
                origin: None,
                body,
            });
        }
    }
    pieces
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[async_trait]
impl Consumer<OtlpBatch> for Exporter {
    async fn consume(&self, batch: &OtlpBatch) -> Result<(), ConsumeError> {
        let Some((outbox, _)) = self.all.iter().find(|(_, signal)| *signal == batch.signal) else {
            return Ok(());
        };
        if batch.items == 0 {
            return Ok(());
        }
        let mut pieces = self.pieces(batch).await;
        pieces.retain(|piece| {
            let fits = piece.body.len() <= self.piece_bytes_max;
            if !fits {
                batch
                    .dropped
                    .note(piece.items.into(), "it is larger than half a segment of the exporter's log");
            }
            fits
        });
        outbox.accept(&pieces).await.map_err(|error| error.refusal(&self.id))
    }

    async fn durable(&self) {
        self.all.durable().await;
    }

    async fn flush(&self) {
        self.all.flush().await;
    }
}
