//! `import.http`: what it asks for, and the asking.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::config::{Body, Decode};

/// Larger modules are refused.
const BODY_BYTES_MAX: usize = 8 << 20;

/// What an `import.http` block asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) url: String,
    method: String,
    headers: BTreeMap<String, String>,
    body: String,
    pub(super) poll_frequency: Duration,
    poll_timeout: Duration,
}

impl Decode for Request {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["client"]);
        let request = Request {
            url: body.required("url"),
            method: body.optional("method", "GET".to_owned()),
            headers: body.optional("headers", BTreeMap::new()),
            body: body.optional("body", String::new()),
            poll_frequency: body.optional("poll_frequency", Duration::from_secs(60)),
            poll_timeout: body.optional("poll_timeout", Duration::from_secs(10)),
        };
        if let Err(error) = request.to_http() {
            body.error_at("url", format!("{error:#}"));
        }
        for (name, value) in
            [("poll_frequency", request.poll_frequency), ("poll_timeout", request.poll_timeout)]
        {
            if value.is_zero() {
                body.error_at(name, "must be longer than nothing");
            }
        }
        request
    }
}

impl Request {
    fn to_http(&self) -> anyhow::Result<http::Request<Full<Bytes>>> {
        let uri: Uri = self.url.parse().with_context(|| format!("{:?} is not a URL", self.url))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(_)) => {}
            (Some("https"), Some(_)) => bail!("https is not supported here yet; only http is"),
            _ => bail!("{:?} is not a URL such as \"http://host/module.alloy\"", self.url),
        }
        let mut request = http::Request::new(Full::new(Bytes::from(self.body.clone())));
        *request.uri_mut() = uri;
        *request.method_mut() = Method::from_bytes(self.method.as_bytes())
            .with_context(|| format!("{:?} is not a method", self.method))?;
        for (name, value) in &self.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .with_context(|| format!("{name:?} is not a header's name"))?;
            let value = HeaderValue::from_str(value)
                .with_context(|| format!("the value of header {name} can't be sent"))?;
            request.headers_mut().insert(header, value);
        }
        Ok(request)
    }

    /// The module's text.
    pub(super) async fn fetch(&self) -> anyhow::Result<String> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let fetch = async {
            let response =
                client.request(self.to_http()?).await.with_context(|| format!("cannot get {}", self.url))?;
            let status = response.status();
            ensure!(status.is_success(), "{} answers with status {status}", self.url);
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("cannot read {}: {error}", self.url))?;
            String::from_utf8(body.to_bytes().into()).with_context(|| format!("{} is not text", self.url))
        };
        match tokio::time::timeout(self.poll_timeout, fetch).await {
            Ok(result) => result,
            Err(_) => bail!("{} gives no answer within {:?} (poll_timeout)", self.url, self.poll_timeout),
        }
    }
}
