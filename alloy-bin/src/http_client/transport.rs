//! Kept connections: plain or TLS, direct or by a proxy.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Turn, Poll};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, ResolveServerName};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tower_service::Service;

use super::in_memory;
use super::options::{ConnectionOptions, ProxyOptions};
use super::tls;
use super::watched::Watched;

/// The largest read buffer of a kept connection. hyper keeps what it has grown to for as long as the connection
/// lives: some 80 KiB without this limit, some 34 KiB with it.
const READ_BUFFER_BYTES: usize = 16 << 10;
/// Unused connections kept for one host: one for each lane of an endpoint, of which OTLP has the most. A target has one
/// request at a time.
const IDLE_CONNECTIONS: usize = 10;
/// A host that does not answer to a connection for so long is not there; the request's own limit is mostly shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// An HTTP/2 connection that was cut without a word would take one request after the other: it is asked after so long,
/// and given up after so long. Prometheus has the same.
const HTTP2_PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));
/// The same where answers go on for minutes, for HTTP/2, and between two probes of TCP of which three may stay unanswered.
const WATCHING_PING: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));

type Pool = Client<Connector, Full<Bytes>>;

/// Connections to all servers that a client speaks to.
pub(super) struct Transport {
    options: ConnectionOptions,
    proxy: Option<Arc<Proxy>>,
    /// Without TLS: costs no certificates.
    plain: Pool,
    /// Made when it is first needed, and again when a file of certificates changes: what was connected with the old ones
    /// is left to end.
    secure: Watched<Pool>,
}

impl Transport {
    pub(super) fn new(options: &ConnectionOptions) -> Self {
        let proxy = Proxy::new(&options.proxy).map(Arc::new);
        Transport {
            plain: pool(Connector { tcp: tcp(options), tls: None, proxy: proxy.clone() }, options),
            secure: Watched::new(options.tls.files()),
            options: options.clone(),
            proxy,
        }
    }

    /// Sends the request as it is.
    pub(super) async fn request(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> anyhow::Result<Response<Incoming>> {
        let proxy = self.proxy.as_ref().and_then(|proxy| proxy.intercept(request.uri()));
        let is_secure = request.uri().scheme() == Some(&Scheme::HTTPS);
        if let Some(auth) = proxy.as_ref().filter(|_| !is_secure).and_then(Intercept::basic_auth) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, auth.clone());
        }
        if !is_secure && proxy.is_none_or(|proxy| proxy.uri().scheme() != Some(&Scheme::HTTPS)) {
            return Ok(self.plain.request(request).await?);
        }
        let pool = self.secure.current(|files| self.secure_pool(files)).await.context("tls_config")?;
        Ok(pool.request(request).await?)
    }

    fn secure_pool(&self, files: &[Vec<u8>]) -> anyhow::Result<Pool> {
        let to_proxy = tls::config(&self.options.tls, files)?;
        let mut to_server = to_proxy.clone();
        if self.options.only_http2 {
            to_server.alpn_protocols = vec![b"h2".to_vec()];
        } else if self.options.http2 {
            to_server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        let names: Arc<dyn ResolveServerName + Send + Sync> = match &self.options.tls.server_name {
            None => Arc::new(DefaultServerNameResolver::default()),
            Some(name) => {
                let parsed =
                    ServerName::try_from(name.clone()).with_context(|| format!("server_name {name:?}"))?;
                Arc::new(FixedServerNameResolver::new(parsed))
            }
        };
        let tls = Tls { to_server: Arc::new(to_server), to_proxy: Arc::new(to_proxy), names };
        let tcp = tcp(&self.options);
        let connector = Connector { tcp, tls: Some(Arc::new(tls)), proxy: self.proxy.clone() };
        Ok(pool(connector, &self.options))
    }
}

fn pool(connector: Connector, options: &ConnectionOptions) -> Pool {
    let (after, patience) = if options.is_watching { WATCHING_PING } else { HTTP2_PING };
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http1_max_buf_size(READ_BUFFER_BYTES)
        .http2_only(options.only_http2)
        .http2_keep_alive_interval(after)
        .http2_keep_alive_timeout(patience)
        .build(connector)
}

fn tcp(options: &ConnectionOptions) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    if options.is_watching {
        tcp.set_keepalive(Some(WATCHING_PING.0));
        tcp.set_keepalive_interval(Some(WATCHING_PING.1));
        tcp.set_keepalive_retries(Some(3));
    }
    tcp
}

/// Which requests go by a proxy.
struct Proxy {
    matcher: Matcher,
    connect_headers: HeaderMap,
    spares_this_machine: bool,
}

impl Proxy {
    fn new(options: &ProxyOptions) -> Option<Self> {
        let matcher = match &options.url {
            Some(url) => Matcher::builder().all(url.expose()).no(options.no_proxy.as_str()).build(),
            None if options.from_environment => Matcher::from_env(),
            None => return None,
        };
        // As Go does: only a proxy without any exceptions is asked for this machine's own servers.
        let spares_this_machine = options.from_environment || !options.no_proxy.is_empty();
        Some(Proxy { matcher, connect_headers: options.connect_headers.clone(), spares_this_machine })
    }

    fn intercept(&self, uri: &Uri) -> Option<Intercept> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_this_machine = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if in_memory::is_in_memory(uri) || self.spares_this_machine && is_this_machine {
            return None;
        }
        self.matcher.intercept(uri)
    }
}

/// What connections with TLS need.
struct Tls {
    to_server: Arc<ClientConfig>,
    /// Never HTTP/2: a proxy is spoken to by `CONNECT`.
    to_proxy: Arc<ClientConfig>,
    names: Arc<dyn ResolveServerName + Send + Sync>,
}

/// Makes connections for hyper's pool.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    tls: Option<Arc<Tls>>,
    proxy: Option<Arc<Proxy>>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Connector {
    async fn connect(mut self, uri: Uri) -> Result<Stream, BoxError> {
        if in_memory::is_in_memory(&uri) {
            return Ok(Stream::new(in_memory::connect()?));
        }
        let proxy = self.proxy.clone();
        let Some((intercept, proxy)) = proxy.and_then(|proxy| Some((proxy.intercept(&uri)?, proxy))) else {
            return self.through(self.tcp.clone(), uri).await;
        };
        let (by, password) = (intercept.uri().clone(), intercept.raw_auth());
        if by.scheme_str().is_some_and(|scheme| scheme.starts_with("socks5")) {
            let socks = SocksV5::new(by, self.tcp.clone());
            let socks = match password {
                Some((user, password)) => socks.with_auth(user.to_owned(), password.to_owned()),
                None => socks,
            };
            return self.through(socks, uri).await;
        }
        if uri.scheme() == Some(&Scheme::HTTPS) {
            let headers = proxy.connect_headers.clone();
            return match self.to_proxy() {
                Some(to_proxy) if by.scheme() == Some(&Scheme::HTTPS) => {
                    self.through(tunnel(by, to_proxy, headers, &intercept), uri).await
                }
                _ => self.through(tunnel(by, self.tcp.clone(), headers, &intercept), uri).await,
            };
        }
        Ok(match self.to_proxy() {
            Some(mut to_proxy) => Stream::proxied(to_proxy.call(by).await?),
            None => Stream::proxied(self.tcp.call(by).await?),
        })
    }

    /// To the server itself, over whatever leads there.
    async fn through<C>(&self, mut way: C, uri: Uri) -> Result<Stream, BoxError>
    where
        C: Service<Uri> + Send,
        C::Response: Read + Write + Connection + Send + Unpin + 'static,
        C::Future: Send + 'static,
        C::Error: Into<BoxError>,
    {
        match &self.tls {
            Some(tls) if uri.scheme() == Some(&Scheme::HTTPS) => {
                let mut tls = HttpsConnector::new(way, tls.to_server.clone(), true, tls.names.clone());
                Ok(Stream::new(tls.call(uri).await?))
            }
            _ => Ok(Stream::new(way.call(uri).await.map_err(Into::into)?)),
        }
    }

    fn to_proxy(&self) -> Option<HttpsConnector<HttpConnector>> {
        let config = self.tls.as_ref()?.to_proxy.clone();
        Some(HttpsConnector::new(
            self.tcp.clone(),
            config,
            false,
            Arc::new(DefaultServerNameResolver::default()),
        ))
    }
}

fn tunnel<C>(proxy: Uri, way: C, headers: HeaderMap, intercept: &Intercept) -> Tunnel<C>
where
    Tunnel<C>: Service<Uri>,
{
    let tunnel = Tunnel::new(proxy, way).with_headers(headers);
    match intercept.basic_auth() {
        Some(auth) => tunnel.with_auth(auth.clone()),
        None => tunnel,
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Turn<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection of any kind. A plain one has nothing of TLS in it.
struct Stream {
    io: Box<dyn Io>,
    is_proxied: bool,
}

trait Io: Read + Write + Connection + Send + Unpin {}

impl<T: Read + Write + Connection + Send + Unpin> Io for T {}

impl Stream {
    fn new(io: impl Io + 'static) -> Self {
        Stream { io: Box::new(io), is_proxied: false }
    }

    /// Requests name the whole URL, for the proxy to see.
    fn proxied(io: impl Io + 'static) -> Self {
        Stream { io: Box::new(io), is_proxied: true }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.is_proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        turn: &mut Turn<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(turn, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        turn: &mut Turn<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(turn, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, turn: &mut Turn<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(turn)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, turn: &mut Turn<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(turn)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        turn: &mut Turn<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(turn, parts)
    }
}
