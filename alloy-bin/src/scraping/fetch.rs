//! One GET of a target's page: kept connections, a limit of time and of bytes, gzip.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;

use crate::formats::{compress, decompress};
use crate::http_client::HttpClient;

/// Fetches pages for all targets of a component.
#[derive(Clone)]
pub struct Fetcher {
    http: HttpClient,
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
pub(super) struct TooLarge(usize);

/// A target's page.
pub struct Fetched {
    /// Unpacked.
    pub body: Vec<u8>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// As it was received, if that was packed.
    packed: Option<Vec<u8>>,
}

impl Fetched {
    /// The page in few bytes.
    pub(super) fn pack(self) -> Packed {
        self.packed.map_or_else(|| Packed::plain(&self.body), Packed::Gzip)
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

    /// The page.
    pub(super) fn unpack(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            // It was within the limit when it came.
            Packed::Gzip(packed) => unpack(packed, usize::MAX),
            Packed::Snappy(block) => decompress(block).context("a block of our own"),
        }
    }
}

impl Fetcher {
    /// Fetches by this client.
    pub fn new(http: HttpClient) -> Self {
        Fetcher { http }
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
        let gzip = text(response.headers(), header::CONTENT_ENCODING).is_some_and(|name| name == "gzip");
        let mut stream = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = stream.frame().await {
            let Ok(data) = frame.context("the target broke off its answer")?.into_data() else { continue };
            if body.len() + data.len() > limits.body_bytes {
                return Err(TooLarge(limits.body_bytes).into());
            }
            body.extend_from_slice(&data);
        }
        if !gzip {
            return Ok(Fetched { body, content_type, packed: None });
        }
        body.shrink_to_fit();
        Ok(Fetched { body: unpack(&body, limits.body_bytes)?, content_type, packed: Some(body) })
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn unpack(packed: &[u8], limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(packed.len().saturating_mul(4).min(limit));
    let read = GzDecoder::new(packed).take((limit as u64).saturating_add(1)).read_to_end(&mut body);
    read.context("the page is not valid gzip")?;
    if body.len() > limit {
        return Err(TooLarge(limit).into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_small_answer_that_unpacks_to_much_is_refused() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&vec![b'#'; 1 << 20]).expect("memory");
        let bomb = packer.finish().expect("memory");
        assert_eq!(unpack(&bomb, 1 << 20).expect("within the limit").len(), 1 << 20);
        assert!(unpack(&bomb, 1 << 19).expect_err("over the limit").to_string().contains("body_size_limit"));
        assert!(unpack(b"no gzip", 100).is_err());
    }
}
