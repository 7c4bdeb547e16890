//! One request: headers, authorization, redirects.

use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::credentials::Authorizer;
use super::options::HttpClientOptions;
use super::transport::Transport;

/// Redirects that are followed in a row, as in Go.
const REDIRECTS_MAX: usize = 10;

/// What every request says of its sender.
static USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("alloy-bin/", env!("CARGO_PKG_VERSION")));

/// A client with its kept connections. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient(Arc<Client>);

struct Client {
    transport: Transport,
    authorizer: Authorizer,
    headers: HeaderMap,
    follow_redirects: bool,
}

impl HttpClient {
    /// Opens nothing: files are read and connections are made when they are needed.
    pub fn new(options: &HttpClientOptions) -> Self {
        HttpClient(Arc::new(Client {
            transport: Transport::new(&options.connection),
            authorizer: Authorizer::new(&options.credentials),
            headers: options.headers.clone(),
            follow_redirects: options.follow_redirects,
        }))
    }

    /// Sends the request and answers with the response's head; its body is still to be read. There is no limit of time.
    ///
    /// Redirects are followed with the same method and body, as RFC 9110 (section 15.4) would have it for all but 303: so
    /// a push to an endpoint that has moved arrives. Configured headers and credentials go to the first host alone.
    pub async fn send(&self, request: Request<Bytes>) -> anyhow::Result<Response<Incoming>> {
        let client = &*self.0;
        let (mut parts, body) = request.into_parts();
        parts.headers.entry(header::USER_AGENT).or_insert_with(|| USER_AGENT.clone());
        let first = parts.uri.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut hop = Request::new(Full::new(body.clone()));
            *hop.method_mut() = parts.method.clone();
            *hop.uri_mut() = parts.uri.clone();
            *hop.headers_mut() = parts.headers.clone();
            let mut credentials = None;
            if same_host(&first, &parts.uri) {
                hop.headers_mut().extend(client.headers.clone());
                credentials = client.authorizer.value().await?;
                hop.headers_mut().extend(credentials.clone().map(|value| (header::AUTHORIZATION, value)));
            }
            let response = client.transport.request(hop).await?;
            if let Some(credentials) = credentials.filter(|_| response.status() == StatusCode::UNAUTHORIZED) {
                client.authorizer.refused(&credentials).await;
            }
            match redirect(&response, &parts.method).filter(|_| client.follow_redirects) {
                None => return Ok(response),
                Some(location) => {
                    parts.uri = resolve(&parts.uri, location).context("a redirect leads nowhere")?
                }
            }
        }
        bail!("stopped after {REDIRECTS_MAX} redirects")
    }
}

/// Where the response sends us, if it does and we may go there.
fn redirect<'r>(response: &'r Response<Incoming>, method: &Method) -> Option<&'r str> {
    let repeated = matches!(response.status().as_u16(), 301 | 302 | 307 | 308);
    let to_read =
        response.status() == StatusCode::SEE_OTHER && (method == Method::GET || method == Method::HEAD);
    if !repeated && !to_read {
        return None;
    }
    response.headers().get(header::LOCATION)?.to_str().ok()
}

/// A location against the URL that it was given for. `../` is not worked out: servers that redirect send a whole URL or a
/// whole path.
fn resolve(base: &Uri, location: &str) -> anyhow::Result<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    if location.contains("://") {
        return parse_url(location).map_err(anyhow::Error::msg);
    }
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map(ToString::to_string).unwrap_or_default();
    let whole = match location.strip_prefix("//") {
        Some(other) => format!("{scheme}://{other}"),
        None if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        None if location.starts_with('?') => format!("{scheme}://{authority}{}{location}", base.path()),
        None => {
            let folder = base.path().rfind('/').map_or("/", |slash| &base.path()[..=slash]);
            format!("{scheme}://{authority}{folder}{location}")
        }
    };
    parse_url(&whole).map_err(anyhow::Error::msg)
}

/// The same server, and not less secret.
fn same_host(first: &Uri, next: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let same = first.host() == next.host() && first.scheme() == next.scheme() && port(first) == port(next);
    // From http to https on the same name is what most redirects are for.
    let safer = first.host() == next.host()
        && first.scheme_str() == Some("http")
        && next.scheme_str() == Some("https");
    same || safer
}

/// The URL of something to ask: `http` or `https`, with a host. The error is for people and has no secret in it.
pub fn parse_url(url: &str) -> Result<Uri, String> {
    let parsed: Option<Uri> = url.parse().ok();
    let Some(uri) = parsed.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https"))) else {
        let shown = if url.contains('@') { "it" } else { &format!("{url:?}") };
        return Err(format!("{shown} is not a URL such as \"https://host:9090/path\""));
    };
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("a user and password in a URL would be seen in metrics and logs: put them into basic_auth"
                .to_owned())
        }
        Some(authority) if !authority.host().is_empty() => Ok(uri),
        _ => Err(format!("{url:?} has no host")),
    }
}

/// The body, if it is not longer than that.
pub async fn read(response: Response<Incoming>, bytes_max: usize) -> anyhow::Result<Bytes> {
    match Limited::new(response.into_body(), bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => bail!("the answer is larger than {bytes_max} bytes"),
        Err(error) => Err(anyhow::Error::from_boxed(error).context("the answer was broken off")),
    }
}

/// Percent-encodes what may not stand in a query or a form.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
