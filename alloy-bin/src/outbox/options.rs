//! Everything that a component sets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};

use super::Clearance;
use crate::formats::{Part, SpliceError};
use crate::http_client::HttpClientOptions;

/// An endpoint, its log and its pace.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the log.
    pub directory: PathBuf,
    /// Where it goes.
    pub endpoint: Endpoint,
    /// What to do when it does not.
    pub retry: Retry,
    /// How records become requests.
    pub batching: Batching,
    /// What the log may use.
    pub log: LogLimits,
    /// Whom to ask before a record is sent that other nodes may send too.
    pub clearance: Option<Arc<dyn Clearance>>,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// For people and labels.
    pub name: String,
    /// The URL of the POST.
    pub url: Uri,
    /// Headers of each request, `Content-Type` and `Content-Encoding` included.
    pub headers: HeaderMap,
    /// Those of a request in the newer form of [`Form::newer`]. `None`: the endpoint is not asked for it.
    pub newer_headers: Option<HeaderMap>,
    /// Credentials, TLS, proxies.
    pub http: HttpClientOptions,
    /// How long one request may take in all.
    pub timeout: Duration,
    /// What requests and answers are like.
    pub dialect: Dialect,
    /// Whether spans go there: requests make none then, or each would make the next.
    pub takes_spans: bool,
}

/// What requests and answers are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// The status says it all: remote-write, Loki push.
    #[default]
    Push,
    /// OTLP over HTTP.
    #[cfg(feature = "otelcol")]
    OtlpHttp,
    /// OTLP over gRPC.
    #[cfg(feature = "otelcol")]
    OtlpGrpc,
}

/// When and how fast a request is repeated. There is no last try: what is not taken stays in the log, until it is too old.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// The first wait; doubled each time.
    pub min_backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// Whether status 429 is repeated like 5xx, or drops the data like the other 4xx.
    pub on_too_many_requests: OnTooManyRequests,
    /// Records whose newest timestamp is older than that are dropped and counted instead of sent.
    pub age_limit: Option<Duration>,
}

/// What status 429 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTooManyRequests {
    /// Try again, after `Retry-After` if it is given.
    Retry,
    /// The data is dropped and counted.
    Drop,
}

/// Joins record bodies into one request body.
pub type Splice = fn(&[Bytes]) -> Result<Bytes, SpliceError>;

/// What an outbox has to know of the bodies that it carries.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// How they are joined.
    pub splice: Splice,
    /// Halves one body, so that a part that the endpoint refuses costs only itself; the first half is sent first. `None`: it is
    /// one thing.
    pub split: fn(&[u8]) -> Option<[Part; 2]>,
    /// Bodies can be in a newer form, too.
    pub newer: Option<NewerForm>,
    /// What counts as its bytes, in a request and on the way: all of them, or what it holds when it is unpacked.
    pub weigh: fn(&Bytes) -> usize,
}

/// A form that not every endpoint takes.
#[derive(Debug, Clone, Copy)]
pub struct NewerForm {
    /// Whether a body is in it.
    pub is: fn(&[u8]) -> bool,
    /// How bodies are joined that all are.
    pub splice: Splice,
    /// Such a body in the form that every endpoint takes, without what that has no room for. `None`: it is damaged.
    pub older: fn(&[u8]) -> Option<Part>,
    /// Headers of an answer with the number of items that the endpoint has written. An endpoint that does not send the first one
    /// has not understood the request.
    pub written_headers: &'static [&'static str],
}

/// How records become requests.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// Requests in flight. Records of one lane key always take the same lane, so their order holds.
    pub lanes: usize,
    /// Items (samples, lines) in a request at the most; a single record may have more.
    pub max_items: usize,
    /// Bytes in a request at the most; a single record may have more.
    pub max_bytes: usize,
    /// Bytes of records that are read from the log and not acknowledged, over all lanes.
    pub in_flight_bytes: usize,
    /// How long a request may wait to fill up.
    pub deadline: Duration,
    /// What the bodies are.
    pub form: Form,
}

/// What the log may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes on disk. At the limit, new data is refused: sources that can wait wait, the others count the loss. `None`: a share of what
    /// all logs may take (`budget.rs`), or 4 GiB.
    pub max_bytes: Option<u64>,
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// How long accepted data may be without a sync: what power loss can cost.
    pub sync_interval: Duration,
    /// How long data is kept that the endpoint does not take. Works on whole segments. `None`: as long as there is room.
    pub max_age: Option<Duration>,
}

impl OnTooManyRequests {
    /// From `retry_on_http_429`.
    pub fn from_flag(retry: bool) -> Self {
        if retry { OnTooManyRequests::Retry } else { OnTooManyRequests::Drop }
    }
}

impl Default for LogLimits {
    /// Segments of 16 MiB, synced within 200 ms.
    fn default() -> Self {
        LogLimits {
            max_bytes: None,
            segment_bytes: 16 << 20,
            sync_interval: Duration::from_millis(200),
            max_age: None,
        }
    }
}

impl LogLimits {
    /// The least that a log of such segments needs.
    pub(super) fn least_bytes(&self) -> u64 {
        self.segment_bytes.saturating_mul(5)
    }
}
