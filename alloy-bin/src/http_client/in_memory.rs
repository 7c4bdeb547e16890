//! Pages of metrics without the network: what the agent shows of itself and what its exporters measure is reached in memory, so that
//! neither TLS nor a password of the agent's server stands between the agent and itself.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The address, as Alloy has it. No resolver knows the name.
pub const IN_MEMORY_ADDRESS: &str = "alloy.internal:12345";

/// The path of the agent's own page.
pub const OWN_PAGE: &str = "/metrics";

/// Makes a page in the text format 0.0.4. It may take its time.
pub type PageSource = Arc<dyn Fn() -> String + Send + Sync>;

/// By path, the newest last: while a configuration is tried, its pages stand beside those that it may not replace. A process is one
/// agent: clients are made deep in components, and all of them are to find the same pages.
static PAGES: RwLock<BTreeMap<String, Vec<PageSource>>> = RwLock::new(BTreeMap::new());

/// A page that is there as long as this lives.
#[must_use]
pub struct InMemoryPage {
    path: String,
    page: PageSource,
}

/// From now on, this is the page with that path at [`IN_MEMORY_ADDRESS`].
pub fn serve_in_memory(path: &str, page: PageSource) -> InMemoryPage {
    let mut pages = PAGES.write().expect("no code panics while holding it");
    pages.entry(path.to_owned()).or_default().push(page.clone());
    InMemoryPage { path: path.to_owned(), page }
}

impl Drop for InMemoryPage {
    fn drop(&mut self) {
        let mut pages = PAGES.write().expect("no code panics while holding it");
        if let Some(here) = pages.get_mut(&self.path) {
            here.retain(|page| !Arc::ptr_eq(page, &self.page));
            if here.is_empty() {
                pages.remove(&self.path);
            }
        }
    }
}

/// The page with that path.
pub fn in_memory_page(path: &str) -> Option<PageSource> {
    PAGES.read().expect("no code panics while holding it").get(path)?.last().cloned()
}

/// Whether the URL leads here.
pub(super) fn is_in_memory(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| authority.as_str() == IN_MEMORY_ADDRESS)
}

/// A connection to the pages: two sockets without a name, and a task that answers at the other end until this end is closed.
pub(super) fn connect() -> io::Result<TokioIo<UnixStream>> {
    let (near, far) = UnixStream::pair()?;
    tokio::spawn(async move {
        // How it ends is the client's affair.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(far), service_fn(answer))
            .await;
    });
    Ok(TokioIo::new(near))
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let made = match in_memory_page(request.uri().path()) {
        Some(page) => tokio::task::spawn_blocking(move || page()).await.ok(),
        None => None,
    };
    let status = if made.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let mut response = Response::new(Full::new(Bytes::from(made.unwrap_or_default())));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_tried_and_taken_back_leaves_the_one_before_it() {
        let shown = || in_memory_page("/tried").map(|page| page());
        let serve = |text: &'static str| serve_in_memory("/tried", Arc::new(move || text.to_owned()));
        let first = serve("first");
        let tried = serve("tried");
        assert_eq!(shown().as_deref(), Some("tried"));
        drop(tried);
        assert_eq!(shown().as_deref(), Some("first"));
        let second = serve("second");
        drop(first);
        assert_eq!(shown().as_deref(), Some("second"));
        drop(second);
        assert_eq!(shown(), None);
    }
}
