//! Accepts connections, and passes on those that are not HTTP: the streams between the members of a cluster come to the
//! same port and begin with four bytes that no HTTP request begins with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a connection may take to send its first bytes, or a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at a time. Each costs some 20 KiB and a file descriptor; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// How long requests that are being answered may go on when the agent stops.
const DRAIN: Duration = Duration::from_secs(1);

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
}

impl Listener {
    /// Binds `address` (`host:port`; port 0: a free one).
    pub async fn bind(address: &str) -> anyhow::Result<Self> {
        let of = || format!("cannot listen on {address} (--server.http.listen-addr)");
        let tcp = TcpListener::bind(address).await.with_context(of)?;
        Ok(Listener { tcp })
    }

    /// The address that was bound.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.tcp.local_addr()?)
    }

    /// Serves until `stop`, then lets running requests end.
    pub async fn serve(self, router: Router, divert: Option<Divert>, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let permit = room.clone().acquire_owned().await.expect("never closed");
            let stream = tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, mostly: the pause keeps the loop from spinning.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = stop.cancelled() => break,
            };
            let (router, divert, stop) = (router.clone(), divert.clone(), stop.clone());
            connections.spawn(async move {
                let _permit = permit;
                handle(stream, router, divert, stop).await;
            });
            while connections.try_join_next().is_some() {}
        }
        let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    }
}

async fn handle(stream: TcpStream, router: Router, divert: Option<Divert>, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    if let Some(divert) = divert {
        match tokio::time::timeout(HEAD_TIMEOUT, starts_with(&stream, divert.magic)).await {
            Ok(Ok(true)) => return (divert.take)(stream),
            Ok(Ok(false)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 << 10);
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

/// Whether the connection begins with these bytes; nothing is taken out of it.
async fn starts_with(stream: &TcpStream, magic: [u8; 4]) -> std::io::Result<bool> {
    let mut head = [0; 4];
    loop {
        let seen = stream.peek(&mut head).await?;
        if seen == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if seen == head.len() || head[..seen] != magic[..seen] {
            return Ok(head == magic);
        }
        // A peek returns at once while bytes are there; the rest of the four is on its way.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
