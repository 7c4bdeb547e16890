//! Accepts connections, and passes on those that are not HTTP: the streams between the members of a cluster come to the
//! same port and begin with four bytes that neither a HTTP request nor TLS begins with. Neither TLS nor a password is
//! asked of those streams: the cluster has its own way to know its members.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::front::{Front, authenticate};

/// How long a connection may take to send its first bytes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what it is sent, before its connection is closed for somebody else.
pub const UNREAD: Duration = Duration::from_secs(30);
/// How long requests that are being answered may go on when the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// How much a port takes, and how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections at a time. Each costs some 20 KiB and a file descriptor; more wait in the kernel's queue.
    pub connections: usize,
    /// How long a connection may take to send the next request's head.
    pub idle: Duration,
    /// How long a client may take nothing of what it is sent.
    pub unread: Duration,
    /// How long requests that are being answered may go on when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 512, idle: HEAD_TIMEOUT, unread: UNREAD, drain: DRAIN }
    }
}

/// How often the files of certificates are looked at. They are renewed days before they end.
const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(10);
/// What a client hears that speaks plain HTTP where TLS is wanted, as from Go's server.
const PLAIN_TO_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Where connections go that begin with these bytes.
#[derive(Clone)]
pub struct Divert {
    /// The first bytes.
    pub magic: [u8; 4],
    /// Takes the connection; nothing has been read from it.
    pub take: Arc<dyn Fn(TcpStream) + Send + Sync>,
}

/// A bound port.
pub struct Listener {
    tcp: TcpListener,
    limits: Limits,
}

impl Listener {
    /// Binds `address` (`host:port`; port 0: a free one).
    pub async fn bind(address: &str) -> anyhow::Result<Self> {
        Ok(Listener { tcp: TcpListener::bind(address).await?, limits: Limits::default() })
    }

    /// With these limits instead of the usual ones.
    pub fn limited(self, limits: Limits) -> Self {
        Listener { limits, ..self }
    }

    /// The address that was bound.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.tcp.local_addr()?)
    }

    /// Serves until `stop`, then lets running requests end.
    pub async fn serve(
        self,
        router: Router,
        front: Arc<Front>,
        divert: Option<Divert>,
        stop: CancellationToken,
    ) {
        let Listener { tcp, limits: Limits { connections: most, idle, unread, drain } } = self;
        let router = router.layer(axum::middleware::from_fn_with_state(front.clone(), authenticate));
        let mut look = tokio::time::interval(CERTIFICATES_INTERVAL);
        let room = Arc::new(Semaphore::new(most));
        let mut connections = JoinSet::new();
        loop {
            let permit = tokio::select! {
                permit = room.clone().acquire_owned() => permit.expect("never closed"),
                () = stop.cancelled() => break,
            };
            let stream = tokio::select! {
                accepted = tcp.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, mostly: the pause keeps the loop from spinning.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                _ = look.tick() => {
                    let front = front.clone();
                    tokio::task::spawn_blocking(move || front.refresh());
                    continue;
                }
                () = stop.cancelled() => break,
            };
            let (router, divert, stop) = (router.clone(), divert.clone(), stop.clone());
            let tls = front.tls().map(TlsAcceptor::from);
            connections.spawn(async move {
                let _permit = permit;
                handle(stream, router, tls, divert, (idle, unread), stop).await;
            });
            while connections.try_join_next().is_some() {}
        }
        // Who comes now is refused at once, and does not wait for nobody.
        drop(tcp);
        let _ = timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    }
}

async fn handle(
    mut stream: TcpStream,
    router: Router,
    tls: Option<TlsAcceptor>,
    divert: Option<Divert>,
    (idle, unread): (Duration, Duration),
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    if divert.is_some() || tls.is_some() {
        let Ok(Ok(head)) =
            timeout(HEAD_TIMEOUT, head(&stream, divert.as_ref().map(|divert| divert.magic))).await
        else {
            return;
        };
        match (divert, &tls) {
            (Some(divert), _) if head == divert.magic => return (divert.take)(stream),
            // Methods are upper-case words; TLS begins with byte 22.
            (_, Some(_)) if head[0].is_ascii_uppercase() => {
                // Closing while bytes of the request are unread would reset the connection before the answer is seen.
                let refuse = async {
                    let _ = stream.read(&mut [0; 4096]).await?;
                    stream.write_all(PLAIN_TO_TLS).await
                };
                let _ = timeout(HEAD_TIMEOUT, refuse).await;
                return;
            }
            _ => {}
        }
    }
    let stream = gives_up(stream, unread);
    match tls {
        None => answer(stream, router, idle, stop).await,
        Some(tls) => match timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => answer(stream, router, idle, stop).await,
            // The client's version, certificate or patience; it has been told by an alert.
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake has failed"),
            Err(_) => {}
        },
    }
}

/// The connection, with an error for writes of which the client takes nothing for so long.
pub fn gives_up(stream: TcpStream, unread: Duration) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(unread));
    Box::pin(stream)
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    idle: Duration,
    stop: CancellationToken,
) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(64 << 10);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // An error here is the client's: a broken connection or a request that is not HTTP.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// How the connection begins; nothing is taken out of it. Waits for all four bytes only as long as they may be `magic`.
async fn head(stream: &TcpStream, magic: Option<[u8; 4]>) -> std::io::Result<[u8; 4]> {
    let mut head = [0; 4];
    loop {
        let seen = stream.peek(&mut head).await?;
        if seen == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if seen == head.len() || magic.is_none_or(|magic| head[..seen] != magic[..seen]) {
            return Ok(head);
        }
        // A peek returns at once while bytes are there; the rest of the four is on its way.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
