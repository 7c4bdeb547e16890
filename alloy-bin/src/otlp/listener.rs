//! A port: accepts connections, with or without TLS, and ends in two steps. First clients are told to go (GOAWAY, or 503 with
//! `Connection: close`) and what is under way is answered; then what is left is closed.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::reply::Reply;
use super::settings::Keepalive;
use crate::server::{Tls, TlsBlock, UNREAD, gives_up};

/// Connections of a port at a time. Each costs some 20 KiB and a file descriptor; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Of the headers of one request.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// How long clients with kept connections over HTTP/1 are told to go. One that sends later finds its connection closed.
const NOTICE: Duration = Duration::from_millis(500);
/// How long what is under way may take when the component stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How often the files of certificates are looked at, if nothing else is said.
const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(10);

/// What connections are like.
#[derive(Debug, Clone)]
pub(super) struct Manners {
    /// HTTP/2 alone, without asking: gRPC.
    pub(super) is_grpc: bool,
    pub(super) header_timeout: Option<Duration>,
    pub(super) keeps_alive: bool,
    pub(super) streams_max: Option<u32>,
    pub(super) keepalive: Keepalive,
}

/// A bound port.
pub struct Port {
    tcp: Mutex<Option<std::net::TcpListener>>,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    manners: Manners,
}

impl Port {
    /// Binds the address.
    pub(super) fn bind(endpoint: &str, tls: Option<&TlsBlock>, manners: Manners) -> anyhow::Result<Self> {
        let of = || format!("cannot listen on {endpoint}");
        let tcp = std::net::TcpListener::bind(endpoint).with_context(of)?;
        tcp.set_nonblocking(true).with_context(of)?;
        let address = tcp.local_addr().with_context(of)?;
        let protocols: &[&[u8]] = if manners.is_grpc { &[b"h2"] } else { &[b"h2", b"http/1.1"] };
        let tls = tls.map(|block| Tls::new(block.clone(), protocols)).transpose()?.map(Arc::new);
        Ok(Port { tcp: Mutex::new(Some(tcp)), address, tls, manners })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then as the head of this file says.
    pub(super) async fn serve<F>(
        &self,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        stop: CancellationToken,
    ) where
        F: Future<Output = Response<Reply>> + Send + 'static,
    {
        let tcp = self.tcp.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(tcp) = tcp.and_then(|tcp| TcpListener::from_std(tcp).ok()) else { return };
        let mut look = tokio::time::interval(CERTIFICATES_INTERVAL);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let closing = CancellationToken::new();
        let mut notice = std::pin::pin!(async {
            stop.cancelled().await;
            if !self.manners.is_grpc {
                tokio::time::sleep(NOTICE).await;
            }
        });
        loop {
            let permit = room.clone().acquire_owned();
            let accepted = async { (permit.await, tcp.accept().await) };
            let (permit, stream) = tokio::select! {
                (permit, accepted) = accepted => match accepted {
                    Ok((stream, _)) => (permit, stream),
                    Err(error) => {
                        // Out of file descriptors, mostly: the pause keeps the loop from spinning.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                _ = look.tick(), if self.tls.is_some() => {
                    let tls = self.tls.clone();
                    tokio::task::spawn_blocking(move || tls.map(|tls| tls.refresh()));
                    continue;
                }
                () = notice.as_mut() => break,
            };
            let (tls, manners) = (self.tls.clone(), self.manners.clone());
            let (answer, closing) = (answer.clone(), closing.clone());
            connections.spawn(async move {
                let _permit = permit;
                connect(stream, tls, &manners, answer, closing).await;
            });
            while connections.try_join_next().is_some() {}
        }
        drop(tcp);
        closing.cancel();
        let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    }
}

async fn connect<F>(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    manners: &Manners,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    closing: CancellationToken,
) where
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let stream = gives_up(stream, UNREAD);
    let Some(tls) = tls else { return talk(TokioIo::new(stream), manners, answer, closing).await };
    match timeout(HANDSHAKE, TlsAcceptor::from(tls.config()).accept(stream)).await {
        Ok(Ok(stream)) => talk(TokioIo::new(stream), manners, answer, closing).await,
        // The client's version, certificate or patience; it has been told by an alert.
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake has failed"),
        Err(_) => {}
    }
}

async fn talk<F>(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    manners: &Manners,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    closing: CancellationToken,
) where
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answering = answer(request);
        async move { Ok::<_, std::convert::Infallible>(answering.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    if manners.is_grpc {
        builder = builder.http2_only();
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(manners.header_timeout)
        .keep_alive(manners.keeps_alive)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(manners.streams_max)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(Some(manners.keepalive.ping))
        .keep_alive_timeout(manners.keepalive.pong);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let (age, grace) = manners.keepalive.age.unzip();
    let grace = grace.unwrap_or(DRAIN);
    let aged = async {
        match age {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    };
    // An error of the connection is the client's: it was broken off, or speaks something else.
    let patience = tokio::select! {
        _ = connection.as_mut() => return,
        () = closing.cancelled() => DRAIN,
        () = aged => grace,
    };
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = timeout(patience, connection) => {}
        // The agent ends before the grace of an old connection.
        () = async { closing.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
    }
}
