//! `import.http`: what it asks for, and the asking.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::{Body, Decode, Secret};
use crate::http_client::{HttpClient, HttpClientOptions, checked_url, parse_url, read};

/// Larger modules are refused.
const BODY_BYTES_MAX: usize = 8 << 20;

/// What an `import.http` block asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) url: String,
    method: Method,
    headers: HeaderMap,
    body: String,
    pub(super) poll_frequency: Duration,
    poll_timeout: Duration,
    client: HttpClientOptions,
}

impl Decode for Request {
    fn decode(body: &mut Body<'_>) -> Self {
        let url: String = body.required("url");
        checked_url(body, "url", &url);
        let method = body.optional("method", "GET".to_owned());
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
            body.error_at("method", format!("{method:?} is not a method"));
            Method::GET
        });
        let mut headers = HeaderMap::new();
        for (name, value) in body.optional("headers", BTreeMap::<String, Secret>::new()) {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.expose())) {
                (Ok(name), Ok(value)) => drop(headers.insert(name, value)),
                _ => body.error_at("headers", format!("header {name:?} or its value can't be sent")),
            }
        }
        let mut time = |name: &str, default: Duration| {
            let time = body.optional(name, default);
            if time.is_zero() {
                body.error_at(name, "must be longer than nothing");
            }
            time
        };
        let poll_frequency = time("poll_frequency", Duration::from_secs(60));
        let poll_timeout = time("poll_timeout", Duration::from_secs(10));
        let client = body.block("client").unwrap_or_default();
        let body = body.optional("body", String::new());
        Request { url, method, headers, body, poll_frequency, poll_timeout, client }
    }
}

impl Request {
    /// A client for this request, again and again: it keeps connections and tokens.
    pub(super) fn client(&self) -> HttpClient {
        HttpClient::new(&self.client)
    }

    /// The module's text.
    pub(super) async fn fetch(&self, client: &HttpClient) -> anyhow::Result<String> {
        match tokio::time::timeout(self.poll_timeout, self.ask(client)).await {
            Ok(text) => text.with_context(|| format!("cannot get {}", self.url)),
            Err(_) => bail!("{} gives no answer within {:?} (poll_timeout)", self.url, self.poll_timeout),
        }
    }

    async fn ask(&self, client: &HttpClient) -> anyhow::Result<String> {
        let mut request = http::Request::new(Bytes::from(self.body.clone()));
        *request.uri_mut() = parse_url(&self.url).map_err(anyhow::Error::msg)?;
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let response = client.send(request).await?;
        ensure!(response.status().is_success(), "the server answered with status {}", response.status());
        let body = read(response, BODY_BYTES_MAX).await?;
        String::from_utf8(body.into()).context("the module is not UTF-8")
    }
}
