//! One server that plays many scrape targets, counts their scrapes and fails by script.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};

use super::now_unix_ms;
use super::server::{Body, Handler, HangUp, Server, answer};
use crate::telemetry::Target;

/// How a target answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Its page as text 0.0.4.
    #[default]
    Text,
    /// Its page as OpenMetrics 1.0.
    OpenMetrics,
    /// Its page as text 0.0.4, compressed, whether asked for or not.
    Gzip,
    /// Its page after that time.
    Slow(Duration),
    /// That status.
    Status(u16),
    /// Bytes that are no page, with the content type of one.
    Garbage,
    /// A page of gigabytes.
    Endless,
    /// So many bytes of a page, and nothing after that.
    Stall(usize),
    /// No answer, ever.
    Hang,
    /// The connection is closed instead of an answer.
    HangUp,
    /// So for who says that name in `x-agent`: nothing gets from there to here.
    HangUpOn(&'static str),
}

/// One scrape of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrape {
    /// When the request arrived, in milliseconds since the Unix epoch.
    pub arrived_unix_ms: i64,
    /// Who asked: the connection's other end.
    pub peer: SocketAddr,
}

/// Many scrape targets on one loopback port, under `/t/0/metrics`, `/t/1/metrics` and so on. Dropping it closes the port.
///
/// The page of target 17 at its fifth scrape, with one gauge:
/// ```text
/// # TYPE test_scrapes_total counter
/// test_scrapes_total{target="17"} 5
/// # TYPE test_gauge gauge
/// test_gauge{target="17",index="0"} 0
/// ```
#[derive(Debug)]
pub struct Targets {
    server: Server<Pages>,
    pages: Arc<Pages>,
}

#[derive(Debug)]
struct Pages {
    gauges: usize,
    targets: Mutex<Vec<State>>,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    scrapes: Vec<Scrape>,
}

impl Targets {
    /// Starts that many targets on a free port, each with that many gauges on its page.
    pub async fn start(targets: usize, gauges: usize) -> io::Result<Targets> {
        Targets::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), targets, gauges).await
    }

    /// Starts that many targets on that address, each with that many gauges on its page.
    pub async fn start_at(address: SocketAddr, targets: usize, gauges: usize) -> io::Result<Targets> {
        let states = (0..targets).map(|_| State::default()).collect();
        let pages = Arc::new(Pages { gauges, targets: Mutex::new(states) });
        let server = Server::start(address, Arc::clone(&pages)).await?;
        Ok(Targets { server, pages })
    }

    /// Where all of them listen, also while they are down.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.pages.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What discovery would say of that target. Its `instance` tells it from the others on this port.
    pub fn target(&self, index: usize) -> Target {
        let pairs = [
            ("__address__", self.address().to_string()),
            ("__metrics_path__", path(index)),
            ("instance", format!("target-{index}")),
        ];
        Target(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// All targets as a list in the agent's configuration language, for `targets = ...`.
    pub fn to_configuration(&self) -> String {
        let mut list = String::from("[\n");
        for index in 0..self.len() {
            list.push_str("\t{");
            for (name, value) in &self.target(index).0 {
                write!(list, "{name:?} = {value:?}, ").expect("a String takes every write");
            }
            list.push_str("},\n");
        }
        list.push(']');
        list
    }

    /// From now on that target answers so.
    ///
    /// # Panics
    /// When there is no such target.
    pub fn behave(&self, index: usize, behaviour: Behaviour) {
        self.pages.lock()[index].behaviour = behaviour;
    }

    /// The scrapes of that target so far, whatever was answered, oldest first.
    ///
    /// # Panics
    /// When there is no such target.
    pub fn scrapes(&self, index: usize) -> Vec<Scrape> {
        self.pages.lock()[index].scrapes.clone()
    }

    /// How often each target was scraped so far.
    pub fn scrape_counts(&self) -> Vec<usize> {
        self.pages.lock().iter().map(|state| state.scrapes.len()).collect()
    }

    /// Closes the port and all connections.
    pub async fn down(&self) {
        self.server.down().await;
    }

    /// Listens again on the same port.
    pub async fn up(&self) -> io::Result<()> {
        self.server.up().await
    }
}

impl Pages {
    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.targets.lock().expect("who holds the lock panics only for an index that does not exist")
    }

    fn page(&self, index: usize, scrape_number: usize) -> String {
        let mut page = String::with_capacity(80 * (self.gauges + 2));
        write!(
            page,
            "# TYPE test_scrapes_total counter\ntest_scrapes_total{{target=\"{index}\"}} {scrape_number}\n\
             # TYPE test_gauge gauge\n"
        )
        .expect("a String takes every write");
        for gauge in 0..self.gauges {
            writeln!(page, "test_gauge{{target=\"{index}\",index=\"{gauge}\"}} {gauge}")
                .expect("a String takes every write");
        }
        page
    }
}

impl Handler for Pages {
    async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Result<Response<Body>, HangUp> {
        let Some(index) = index_of(request.uri().path()) else {
            return Ok(answer(404, "there is no such target"));
        };
        let (behaviour, scrape_number) = {
            let mut targets = self.lock();
            let Some(state) = targets.get_mut(index) else {
                return Ok(answer(404, "there is no such target"));
            };
            state.scrapes.push(Scrape { arrived_unix_ms: now_unix_ms(), peer });
            (state.behaviour, state.scrapes.len())
        };
        let page = || self.page(index, scrape_number);
        match behaviour {
            Behaviour::Text => Ok(text(page())),
            Behaviour::OpenMetrics => Ok(open_metrics(page())),
            Behaviour::Gzip => Ok(gzip(page())),
            Behaviour::Slow(delay) => {
                tokio::time::sleep(delay).await;
                Ok(text(page()))
            }
            Behaviour::Status(status) => Ok(answer(status, "failed by the script")),
            Behaviour::Garbage => Ok(text(b"test_scrapes_total{{{ \xff\xfe\0 = \"\n<html>".as_slice())),
            Behaviour::Endless => Ok(text("").map(|_| Endless::new().boxed())),
            Behaviour::Stall(bytes) => {
                let first = Bytes::from(b"test_endless 1\n".repeat(bytes / 15 + 1)).slice(..bytes);
                Ok(text("").map(|_| Stalled(Some(first)).boxed()))
            }
            Behaviour::Hang => std::future::pending().await,
            Behaviour::HangUp => Err(HangUp),
            Behaviour::HangUpOn(agent)
                if request.headers().get("x-agent").is_some_and(|name| name == agent) =>
            {
                Err(HangUp)
            }
            Behaviour::HangUpOn(_) => Ok(text(page())),
        }
    }
}

fn path(index: usize) -> String {
    format!("/t/{index}/metrics")
}

fn index_of(path: &str) -> Option<usize> {
    path.strip_prefix("/t/")?.strip_suffix("/metrics")?.parse().ok()
}

fn with_type(page: impl Into<Bytes>, content_type: &'static str) -> Response<Body> {
    let mut response = answer(200, page);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(page: impl Into<Bytes>) -> Response<Body> {
    with_type(page, "text/plain; version=0.0.4; charset=utf-8")
}

/// In OpenMetrics the family of a counter is named without its suffix.
fn open_metrics(page: String) -> Response<Body> {
    let page = page.replace("# TYPE test_scrapes_total ", "# TYPE test_scrapes ") + "# EOF\n";
    with_type(page, "application/openmetrics-text; version=1.0.0; charset=utf-8")
}

fn gzip(page: String) -> Response<Body> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let compressed = encoder.write_all(page.as_bytes()).and_then(|()| encoder.finish());
    let mut response = text(compressed.expect("a Vec takes every write"));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

/// A valid page that goes on until the client has enough.
struct Endless {
    chunk: Bytes,
    chunks_left: u32,
}

impl Endless {
    fn new() -> Self {
        const CHUNK_BYTES: usize = 64 * 1024;
        /// 8 GiB: more than any client should read, and an end for one that does.
        const CHUNKS: u32 = 128 * 1024;
        let line = b"test_endless 1\n";
        Endless { chunk: line.repeat(CHUNK_BYTES / line.len()).into(), chunks_left: CHUNKS }
    }
}

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.chunks_left.checked_sub(1) else { return Poll::Ready(None) };
        self.chunks_left = left;
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}

/// The beginning of a page that never ends.
struct Stalled(Option<Bytes>);

impl hyper::body::Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |first| Poll::Ready(Some(Ok(Frame::data(first)))))
    }
}

#[cfg(test)]
mod tests;
