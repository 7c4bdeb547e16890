//! An HTTP/1.1 server on loopback that goes down and comes back on the same port.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The body of an answer.
pub type Body = BoxBody<Bytes, Infallible>;

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the script says to hang up")]
pub struct HangUp;

/// What a server does with a request.
pub trait Handler: Send + Sync + 'static {
    /// Answers, or hangs up.
    fn handle(
        &self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, HangUp>> + Send;
}

/// The server. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub struct Server<H> {
    handler: Arc<H>,
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl<H: Handler> Server<H> {
    /// Listens on that address; port 0 picks one.
    pub async fn start(address: SocketAddr, handler: Arc<H>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let running = Mutex::new(Some(run(listener, Arc::clone(&handler))));
        Ok(Server { handler, address, running })
    }

    /// Where it listens, also while it is down.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and all connections: who connects now is refused.
    pub async fn down(&self) {
        if let Some(Running { stop, task }) = self.running.lock().await.take() {
            drop(stop);
            // A panic in the task is a bug of the server, and the test should see it.
            task.await.expect("the accepting task does not panic");
        }
    }

    /// Listens again on the same port.
    pub async fn up(&self) -> io::Result<()> {
        /// While we were down, the kernel may have lent our port to an outgoing connection for a moment.
        const ATTEMPTS: u32 = 50;
        let mut running = self.running.lock().await;
        let mut attempt = 1;
        while running.is_none() {
            match TcpListener::bind(self.address).await {
                Ok(listener) => *running = Some(run(listener, Arc::clone(&self.handler))),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn run<H: Handler>(listener: TcpListener, handler: Arc<H>) -> Running {
    let stopped = CancellationToken::new();
    let stop = stopped.clone().drop_guard();
    Running { stop, task: tokio::spawn(accept(listener, handler, stopped)) }
}

async fn accept<H: Handler>(listener: TcpListener, handler: Arc<H>, stopped: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let handler = Arc::clone(&handler);
                    let service = hyper::service::service_fn(move |request| {
                        let handler = Arc::clone(&handler);
                        async move { handler.handle(peer, request).await }
                    });
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // How a connection ends is the client's affair or the script's.
                    connections.spawn(async move { drop(connection.await) });
                }
                // Out of file descriptors: it passes when connections close.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// An answer with a plain text.
pub fn answer(status: u16, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed());
    *response.status_mut() =
        http::StatusCode::from_u16(status).expect("a scripted status is between 100 and 999");
    response
}
