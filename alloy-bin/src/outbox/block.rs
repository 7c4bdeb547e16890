//! The `endpoint` and `wal` blocks, as `prometheus.remote_write` and `loki.write` have them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::options::{Batching, Endpoint, LogLimits, Options, Retry};
use crate::config::{Body, ByteSize, Decode};
use crate::http_client::{HttpClientOptions, parse_url};

/// Attributes of an `endpoint` block that are the same for every kind of endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointBlock {
    /// Where requests go.
    pub url: String,
    /// For people; else the URL's host.
    pub name: Option<String>,
    /// Headers of each request.
    pub headers: BTreeMap<String, String>,
    /// Of one request.
    pub timeout: Duration,
    /// Credentials, TLS, proxies.
    pub http: HttpClientOptions,
}

/// How an endpoint of a cloud's own kind would be asked; not supported here.
const UNSUPPORTED: &[&str] = &["azuread", "google_iam", "sigv4"];

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
        if !block.url.is_empty()
            && let Err(reason) = block.uri()
        {
            body.error_at("url", reason);
        }
        if let Err(reason) = block.header_map() {
            body.error_at("headers", reason);
        }
        block
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
            let value = HeaderValue::from_str(value).map_err(|_| {
                format!("the value of header {name} has characters that a header may not have")
            })?;
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
        // A folder for each endpoint; its name has only characters that every file system takes.
        let safe = |character: char| {
            if character.is_ascii_alphanumeric() || "-_.".contains(character) { character } else { '_' }
        };
        let folder: String = name.chars().map(safe).collect();
        let url = self.uri().map_err(anyhow::Error::msg)?;
        Ok(Options {
            directory: storage.join("wal").join(folder),
            endpoint: Endpoint { name, url, headers, http: self.http.clone(), timeout: self.timeout },
            retry,
            batching,
            log: log.limits,
        })
    }
}

/// The `wal` block: what the log of each endpoint may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalBlock {
    /// The limits.
    pub limits: LogLimits,
}

impl Decode for WalBlock {
    fn decode(body: &mut Body<'_>) -> Self {
        // Alloy's log is truncated by time, ours when the endpoint has the data, or by bytes.
        body.unsupported(&[
            "drain_timeout",
            "enabled",
            "max_keepalive_time",
            "max_read_frequency",
            "max_segment_age",
            "min_keepalive_time",
            "min_read_frequency",
            "truncate_frequency",
        ]);
        let default = LogLimits::default();
        let limits = LogLimits {
            max_bytes: body.optional("max_bytes", ByteSize(default.max_bytes)).0,
            segment_bytes: body.optional("segment_bytes", ByteSize(default.segment_bytes)).0,
            sync_interval: body.optional("sync_interval", default.sync_interval),
        };
        const SEGMENT_MIN: u64 = 1 << 20;
        if limits.segment_bytes < SEGMENT_MIN {
            body.error_at("segment_bytes", "must be at least 1MiB");
        }
        if limits.max_bytes < limits.segment_bytes.saturating_mul(5) {
            body.error_at("max_bytes", "must be at least five times segment_bytes");
        }
        WalBlock { limits }
    }
}
