//! One GET of a target's page: kept connections, a limit of time and of bytes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;

use super::in_flight::{Budget, InFlight};
use super::inflate::with_inflated;
use crate::formats::{compress, decompress};
use crate::http_client::HttpClient;

/// Fetches pages for all targets of a component.
#[derive(Clone)]
pub struct Fetcher {
    http: HttpClient,
    budget: Arc<Budget>,
}

/// How a page is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of the connection to the last of the page.
    pub timeout: Duration,
    /// Of the page, unpacked.
    pub body_bytes: usize,
    /// Whether to ask for gzip.
    pub compression: Compression,
}

/// Whether to ask for a compressed page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `Accept-Encoding: gzip`.
    Gzip,
    /// `Accept-Encoding: identity`.
    Identity,
}

/// A page with more bytes than allowed.
#[derive(Debug, thiserror::Error)]
#[error("the page is larger than {0} bytes (body_size_limit)")]
pub(super) struct TooLarge(pub(super) usize);

/// A target's page, as it came.
pub struct Fetched {
    /// `Content-Type`.
    pub content_type: Option<String>,
    body: Vec<u8>,
    is_gzip: bool,
    /// Of the page, unpacked.
    limit: usize,
    _in_flight: InFlight,
}

impl Fetched {
    /// Gives the page to `read`, unpacked.
    pub(super) fn with_page<R>(&self, read: impl FnOnce(&[u8]) -> R) -> anyhow::Result<R> {
        if self.is_gzip { with_inflated(&self.body, self.limit, read) } else { Ok(read(&self.body)) }
    }

    /// The page in few bytes.
    pub(super) fn pack(mut self) -> Packed {
        if !self.is_gzip {
            return Packed::plain(&self.body);
        }
        self.body.shrink_to_fit();
        Packed::Gzip(self.body)
    }
}

/// A page in few bytes.
pub(super) enum Packed {
    /// As the target sent it.
    Gzip(Vec<u8>),
    /// As one raw block.
    Snappy(Vec<u8>),
}

impl Packed {
    /// Packs a page that came as it is.
    pub(super) fn plain(body: &[u8]) -> Self {
        Packed::Snappy(compress(body))
    }

    /// Gives the page to `read`.
    pub(super) fn with_page<R>(&self, read: impl FnOnce(&[u8]) -> R) -> anyhow::Result<R> {
        match self {
            // It was within the limit when it came.
            Packed::Gzip(packed) => with_inflated(packed, usize::MAX, read),
            Packed::Snappy(block) => Ok(read(&decompress(block).context("a block of our own")?)),
        }
    }
}

impl Fetcher {
    /// Fetches by this client.
    pub fn new(http: HttpClient) -> Self {
        Fetcher::within(http, Budget::shared())
    }

    /// Fetches by this client, and has so much memory for all pages at a time.
    pub(super) fn within(http: HttpClient, budget: Arc<Budget>) -> Self {
        Fetcher { http, budget }
    }

    /// Gets the page. The error says what went wrong in words for people.
    pub async fn fetch(&self, url: &Uri, accept: &str, limits: &Limits) -> anyhow::Result<Fetched> {
        match tokio::time::timeout(limits.timeout, self.get(url, accept, limits)).await {
            Ok(result) => result,
            Err(_) => bail!("no complete answer within {:?} (scrape_timeout)", limits.timeout),
        }
    }

    async fn get(&self, url: &Uri, accept: &str, limits: &Limits) -> anyhow::Result<Fetched> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url.clone();
        let encoding = match limits.compression {
            Compression::Gzip => "gzip",
            Compression::Identity => "identity",
        };
        let timeout = HeaderValue::from_str(&limits.timeout.as_secs_f64().to_string())?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept)?);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert("x-prometheus-scrape-timeout-seconds", timeout);
        let response = self.http.send(request).await.context("cannot ask the target")?;
        if response.status() != StatusCode::OK {
            bail!("the target answered with status {}", response.status());
        }
        let content_type = text(response.headers(), header::CONTENT_TYPE);
        let is_gzip = text(response.headers(), header::CONTENT_ENCODING).is_some_and(|name| name == "gzip");
        let mut stream = response.into_body();
        let mut body = Vec::new();
        let mut in_flight = InFlight::new(self.budget.clone());
        while let Some(frame) = in_flight.in_time(stream.frame()).await? {
            let Ok(data) = frame.context("the target broke off its answer")?.into_data() else { continue };
            let length = body.len() + data.len();
            if length > limits.body_bytes {
                return Err(TooLarge(limits.body_bytes).into());
            }
            if length > body.capacity() {
                let capacity = length.max(2 * body.capacity()).min(limits.body_bytes);
                in_flight.grow(capacity - body.capacity()).await;
                body.reserve_exact(capacity - body.len());
            }
            body.extend_from_slice(&data);
        }
        Ok(Fetched { content_type, body, is_gzip, limit: limits.body_bytes, _in_flight: in_flight })
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
