//! The `endpoint` and `wal` blocks, as `prometheus.remote_write` and `loki.write` have them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::options::{Batching, Dialect, Endpoint, LogLimits, Options, Retry};
use crate::config::{Body, ByteSize, Decode, FromValue, Secret, Value};
use crate::http_client::{HttpClientOptions, checked_url, parse_url};

/// Attributes of an `endpoint` block that are the same for every kind of endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointBlock {
    /// Where requests go.
    pub url: String,
    /// For people; else the URL's host.
    pub name: Option<String>,
    /// Headers of each request.
    pub headers: BTreeMap<String, Secret>,
    /// Of one request.
    pub timeout: Duration,
    /// Credentials, TLS, proxies.
    pub http: HttpClientOptions,
}

/// How an endpoint of a cloud's own kind would be asked; not supported here.
const UNSUPPORTED: &[&str] = &["azuread", "google_iam", "sigv4"];

/// Headers that are the protocol's or the connection's own. Prometheus refuses them, too.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "x-prometheus-remote-write-version",
];

/// Attributes of Alloy's that have no meaning here: an error for each that is set, with what to do instead.
pub fn meaningless(body: &mut Body<'_>, attributes: &[(&str, &str)]) {
    for (name, instead) in attributes {
        let _: Value = body.optional(name, Value::Null);
        body.is_refused();
        if body.has(name) {
            body.error_at(name, format!("{name:?} has no meaning here: {instead}"));
        }
    }
}

/// An attribute of Alloy's of which there is one value only. Any other is an error that says why.
pub fn only<T: FromValue + PartialEq + Clone>(body: &mut Body<'_>, name: &str, value: T, why: &str) {
    let said = body.optional(name, value.clone());
    body.is_refused();
    if said != value {
        body.error_at(name, why);
    }
}

/// How long to wait between two tries. Without a first wait an endpoint that is down would be asked without a pause.
pub fn check_backoff(
    body: &mut Body<'_>,
    (min_name, min): (&str, Duration),
    (max_name, max): (&str, Duration),
) {
    if min.is_zero() {
        body.error_at(min_name, format!("{min_name} must be above zero"));
    }
    if max < min {
        body.error_at(max_name, format!("{max_name} must not be shorter than {min_name}"));
    }
}

impl EndpointBlock {
    /// Reads the attributes; the component's own come before or after. `http2` is the default of `enable_http2`.
    pub fn read(body: &mut Body<'_>, timeout: Duration, http2: bool) -> Self {
        body.unsupported(UNSUPPORTED);
        let block = EndpointBlock {
            url: body.required("url"),
            name: body.optional("name", None),
            headers: body.optional("headers", BTreeMap::new()),
            timeout: body.optional("remote_timeout", timeout),
            http: HttpClientOptions::read(body, http2),
        };
        checked_url(body, "url", &block.url);
        if let Err(reason) = block.header_map() {
            body.error_at("headers", reason);
        }
        if block.timeout.is_zero() {
            body.error_at("remote_timeout", "remote_timeout must be above zero");
        }
        block
    }

    /// Two endpoints of one component can't share a log.
    pub fn check_names<'e>(body: &mut Body<'_>, endpoints: impl Iterator<Item = &'e EndpointBlock>) {
        let mut seen = BTreeSet::new();
        for name in endpoints.map(EndpointBlock::display_name) {
            if !seen.insert(folder(&name)) {
                body.error(format!(
                    "two endpoints are called {name:?}: give each its own name, their logs have it"
                ));
            }
        }
    }

    /// For labels, log lines and the folder of the log.
    pub fn display_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let host = self.uri().ok().and_then(|uri| uri.authority().map(ToString::to_string));
            let path = format!("{:08x}", twox_hash::XxHash64::oneshot(0, self.url.as_bytes()) as u32);
            format!("{}-{path}", host.unwrap_or_default())
        })
    }

    fn uri(&self) -> Result<Uri, String> {
        parse_url(&self.url)
    }

    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("{name:?} is not a header's name"))?;
            if RESERVED.contains(&name.as_str()) {
                return Err(format!("the header {name} is set by the protocol and cannot be changed"));
            }
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
                format!("the value of header {name} has characters that a header may not have")
            })?;
            value.set_sensitive(true);
            map.insert(name, value);
        }
        Ok(map)
    }

    /// The outbox's options; `fixed` headers are the protocol's and win over the configured ones.
    pub fn options(
        &self,
        fixed: &[(&'static str, &str)],
        retry: Retry,
        batching: Batching,
        log: &WalBlock,
        storage: &Path,
    ) -> anyhow::Result<Options> {
        let mut headers = self.header_map().map_err(anyhow::Error::msg)?;
        for (name, value) in fixed {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        }
        let name = self.display_name();
        let url = self.uri().map_err(anyhow::Error::msg)?;
        Ok(Options {
            directory: storage.join("wal").join(folder(&name)),
            endpoint: Endpoint {
                name,
                url,
                headers,
                newer_headers: None,
                http: self.http.clone(),
                timeout: self.timeout,
                dialect: Dialect::Push,
                takes_spans: false,
            },
            retry,
            batching,
            log: log.limits,
            clearance: None,
        })
    }
}

/// A folder for each endpoint; its name has only characters that every file system takes.
fn folder(name: &str) -> String {
    let safe = |character: char| {
        if character.is_ascii_alphanumeric() || "-_.".contains(character) { character } else { '_' }
    };
    name.chars().map(safe).collect()
}

/// The `wal` block: what the log of each endpoint may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalBlock {
    /// The limits.
    pub limits: LogLimits,
}

impl Decode for WalBlock {
    fn decode(body: &mut Body<'_>) -> Self {
        const FREED: &str = "the log is freed as soon as the endpoint has the data; leave it out";
        const AT_ONCE: &str = "the log is read as it is written; leave it out";
        meaningless(
            body,
            &[
                ("drain_timeout", "what is not sent when the agent stops stays in the log; leave it out"),
                ("max_read_frequency", AT_ONCE),
                ("max_segment_age", "limit what is kept by max_bytes, and by max_keepalive_time"),
                ("min_keepalive_time", FREED),
                ("min_read_frequency", AT_ONCE),
                ("truncate_frequency", FREED),
            ],
        );
        only(body, "enabled", true, "the log is always on: it is what keeps data while an endpoint is down");
        let default = LogLimits::default();
        let max_age = body.optional("max_keepalive_time", Duration::ZERO);
        let limits = LogLimits {
            max_bytes: body.optional("max_bytes", None).map(|size: ByteSize| size.0),
            segment_bytes: body.optional("segment_bytes", ByteSize(default.segment_bytes)).0,
            sync_interval: body.optional("sync_interval", default.sync_interval),
            max_age: (!max_age.is_zero()).then_some(max_age),
        };
        const SEGMENT_MIN: u64 = 1 << 20;
        if limits.segment_bytes < SEGMENT_MIN {
            body.error_at("segment_bytes", "must be at least 1MiB");
        }
        if limits.max_bytes.is_some_and(|bytes| bytes < limits.least_bytes()) {
            body.error_at("max_bytes", "must be at least five times segment_bytes");
        }
        WalBlock { limits }
    }
}
