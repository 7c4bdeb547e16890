//! The agent's own page of metrics, without the network: what `prometheus.exporter.self` names as its address is reached in
//! memory, so that neither TLS nor a password of the agent's server stands between the agent and itself.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use http::{Response, Uri, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The address, as Alloy has it. No resolver knows the name.
pub const IN_MEMORY_ADDRESS: &str = "alloy.internal:12345";

/// Makes a page in the text format 0.0.4.
pub type PageSource = Arc<dyn Fn() -> String + Send + Sync>;

/// A process is one agent. Clients are made deep in components, and all of them are to find the same page.
static PAGE: RwLock<Option<PageSource>> = RwLock::new(None);

/// From now on, this is the page at [`IN_MEMORY_ADDRESS`].
pub fn serve_in_memory(page: PageSource) {
    *PAGE.write().expect("no code panics while holding it") = Some(page);
}

/// Whether the URL leads here.
pub(super) fn is_in_memory(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| authority.as_str() == IN_MEMORY_ADDRESS)
}

/// A connection to the page: two sockets without a name, and a task that answers at the other end until this end is closed.
pub(super) fn connect() -> io::Result<TokioIo<UnixStream>> {
    let page = PAGE.read().expect("no code panics while holding it").clone();
    let page = page.ok_or_else(|| io::Error::other("this agent has no page of its own"))?;
    let (near, far) = UnixStream::pair()?;
    let answer = service_fn(move |_request| {
        let mut response = Response::new(Full::new(Bytes::from(page())));
        let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    tokio::spawn(async move {
        // How it ends is the client's affair.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), answer).await;
    });
    Ok(TokioIo::new(near))
}
