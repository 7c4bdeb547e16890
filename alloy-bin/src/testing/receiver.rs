//! An endpoint for remote-write 1.0 and 2.0 and for Loki push that records everything and answers by script.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prost::Message;
use tokio::sync::watch;

use super::messages::{PushRequest, WriteRequest, WriteRequest2};
use super::recorded::{Counts, Recorded};
use super::server::{Body, Handler, HangUp, Server, answer};

const WRITE_PATH: &str = "/api/v1/write";
const PUSH_PATH: &str = "/loki/api/v1/push";

/// What is done with a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Answer {
    /// Record it and say 204.
    #[default]
    Accept,
    /// After that time, record it and say 204. Nothing is recorded when the client does not wait so long.
    AcceptAfter(Duration),
    /// Record it and say that status: the acknowledgement is lost.
    AcceptButSay(u16),
    /// Record it and close the connection: the acknowledgement is lost.
    AcceptButHangUp,
    /// Record nothing and say that status.
    Refuse(u16),
    /// Record nothing, say that status and this text.
    RefuseSaying(u16, &'static str),
    /// Record nothing, say that status and name a `Retry-After` in whole seconds.
    RefuseFor(u16, u32),
    /// Read it, record nothing and never answer.
    Hang,
    /// Read and record nothing and close the connection.
    HangUp,
}

/// What the endpoint makes of remote-write 2.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Newer {
    /// It takes it: records the series that keep to the rules and says how many samples that were.
    #[default]
    Takes,
    /// It says 415.
    Refuses,
    /// It is too old to look at what the request says of itself: it finds nothing that it knows and says 204.
    Ignores,
}

/// A running endpoint on loopback. Dropping it closes the port.
#[derive(Debug)]
pub struct Receiver {
    server: Server<Endpoint>,
    endpoint: Arc<Endpoint>,
}

#[derive(Debug)]
struct Endpoint {
    recorded: Mutex<Recorded>,
    script: Mutex<Script>,
    counts: watch::Sender<Counts>,
}

#[derive(Debug, Default)]
struct Script {
    newer: Newer,
    standing: Answer,
    next: VecDeque<Answer>,
}

impl Receiver {
    /// Starts on a free port and accepts everything.
    pub async fn start() -> io::Result<Receiver> {
        Receiver::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts on that address and accepts everything.
    pub async fn start_at(address: SocketAddr) -> io::Result<Receiver> {
        let endpoint = Arc::new(Endpoint {
            recorded: Mutex::default(),
            script: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let server = Server::start(address, Arc::clone(&endpoint)).await?;
        Ok(Receiver { server, endpoint })
    }

    /// Where it listens, also while it is down.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where remote-write requests go.
    pub fn write_url(&self) -> String {
        format!("http://{}{WRITE_PATH}", self.address())
    }

    /// Where Loki push requests go.
    pub fn push_url(&self) -> String {
        format!("http://{}{PUSH_PATH}", self.address())
    }

    /// From now on answers so, once the answers for the next requests are used up.
    pub fn answer(&self, standing: Answer) {
        lock(&self.endpoint.script).standing = standing;
    }

    /// Answers so to the next requests, one answer each, behind those that were asked for before.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.endpoint.script).next.extend(answers);
    }

    /// From now on treats requests of remote-write 2.0 so.
    pub fn newer(&self, newer: Newer) {
        lock(&self.endpoint.script).newer = newer;
    }

    /// Closes the port and all connections. What was recorded stays.
    pub async fn down(&self) {
        self.server.down().await;
    }

    /// Listens again on the same port.
    pub async fn up(&self) -> io::Result<()> {
        self.server.up().await
    }

    /// How often things happened so far.
    pub fn counts(&self) -> Counts {
        *self.endpoint.counts.borrow()
    }

    /// Waits until the counts are as wished. `Err` has the counts at the end of the time.
    pub async fn wait_for(
        &self,
        within: Duration,
        reached: impl FnMut(&Counts) -> bool,
    ) -> Result<Counts, Counts> {
        let mut counts = self.endpoint.counts.subscribe();
        let outcome = tokio::time::timeout(within, counts.wait_for(reached)).await;
        match outcome {
            Ok(reached) => {
                Ok(*reached.expect("the endpoint, and with it the sender, lives as long as `self`"))
            }
            Err(_) => Err(self.counts()),
        }
    }

    /// Looks at everything that was received. Requests wait meanwhile.
    pub fn inspect<R>(&self, look: impl FnOnce(&Recorded) -> R) -> R {
        look(&lock(&self.endpoint.recorded))
    }

    /// Forgets what was received; the counts begin anew, too.
    pub fn clear(&self) {
        self.endpoint.change(|recorded| *recorded = Recorded::default());
    }
}

impl Endpoint {
    fn change<R>(&self, change: impl FnOnce(&mut Recorded) -> R) -> R {
        let mut recorded = lock(&self.recorded);
        let result = change(&mut recorded);
        self.counts.send_replace(recorded.counts);
        result
    }

    fn next_answer(&self) -> Answer {
        let mut script = lock(&self.script);
        script.next.pop_front().unwrap_or_else(|| script.standing.clone())
    }

    /// Records the request if it keeps to its protocol, and says how to answer: so if all is well, else with 400.
    fn record(&self, path: &str, headers: &HeaderMap, body: &Bytes, status: u16) -> Response<Body> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if path == WRITE_PATH && content_type.is_some_and(|content_type| content_type.contains("v2.Request"))
        {
            return self.record_newer(headers, body, status);
        }
        let outcome = match path {
            WRITE_PATH => check_write_headers(headers)
                .and_then(|()| decode::<WriteRequest>(body))
                .and_then(|request| self.change(|recorded| recorded.record_write(request))),
            PUSH_PATH => check_header(headers, "content-type", "application/x-protobuf")
                .and_then(|()| decode::<PushRequest>(body))
                .and_then(|request| self.change(|recorded| recorded.record_push(request))),
            other => Err(format!("there is no endpoint {other}")),
        };
        match outcome {
            Ok(()) => answer(status, ""),
            Err(complaint) => {
                self.change(|recorded| recorded.complain(complaint.clone()));
                answer(400, complaint)
            }
        }
    }
}

impl Endpoint {
    fn record_newer(&self, headers: &HeaderMap, body: &Bytes, status: u16) -> Response<Body> {
        match lock(&self.script).newer {
            Newer::Takes => {}
            Newer::Refuses => return answer(415, "io.prometheus.write.v2.Request is not accepted"),
            Newer::Ignores => return answer(status, ""),
        }
        let outcome = check_newer_headers(headers).and_then(|()| decode::<WriteRequest2>(body));
        let (written, outcome) = match outcome {
            Ok(request) => self.change(|recorded| recorded.record_write_2(&request)),
            Err(complaint) => (0, Err(complaint)),
        };
        let mut response = match outcome {
            Ok(()) => answer(status, ""),
            Err(complaint) => {
                self.change(|recorded| recorded.complain(complaint.clone()));
                answer(400, complaint)
            }
        };
        for (name, count) in [("samples", written), ("histograms", 0), ("exemplars", 0)] {
            let name = HeaderName::try_from(format!("x-prometheus-remote-write-{name}-written"));
            response.headers_mut().insert(name.expect("a header's name"), HeaderValue::from(count));
        }
        response
    }
}

impl Handler for Endpoint {
    async fn handle(&self, _peer: SocketAddr, request: Request<Incoming>) -> Result<Response<Body>, HangUp> {
        self.change(|recorded| recorded.counts.requests += 1);
        let script = self.next_answer();
        if script == Answer::HangUp {
            return Err(HangUp);
        }
        let (head, body) = request.into_parts();
        // A client that breaks off in the middle gets no answer and leaves no trace but the count.
        let body = body.collect().await.map_err(|_| HangUp)?.to_bytes();
        let record = |status| self.record(head.uri.path(), &head.headers, &body, status);
        match script {
            Answer::Accept => Ok(record(204)),
            Answer::AcceptAfter(delay) => {
                tokio::time::sleep(delay).await;
                Ok(record(204))
            }
            Answer::AcceptButSay(status) => Ok(record(status)),
            Answer::AcceptButHangUp => {
                record(204);
                Err(HangUp)
            }
            Answer::Refuse(status) => Ok(answer(status, "refused by the script")),
            Answer::RefuseSaying(status, text) => Ok(answer(status, text)),
            Answer::RefuseFor(status, seconds) => {
                let mut response = answer(status, "refused by the script");
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                Ok(response)
            }
            Answer::Hang => std::future::pending().await,
            Answer::HangUp => Err(HangUp),
        }
    }
}

fn check_write_headers(headers: &HeaderMap) -> Result<(), String> {
    check_header(headers, "content-type", "application/x-protobuf")?;
    check_header(headers, "content-encoding", "snappy")?;
    check_header(headers, "x-prometheus-remote-write-version", "0.1.0")
}

fn check_newer_headers(headers: &HeaderMap) -> Result<(), String> {
    let content_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    check_header(headers, "content-type", content_type)?;
    check_header(headers, "content-encoding", "snappy")?;
    check_header(headers, "x-prometheus-remote-write-version", "2.0.0")
}

fn check_header(headers: &HeaderMap, name: &str, expected: &str) -> Result<(), String> {
    let value = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    if value.eq_ignore_ascii_case(expected.as_bytes()) {
        return Ok(());
    }
    Err(format!("header {name} is {:?} and not {expected:?}", String::from_utf8_lossy(value)))
}

fn decode<M: Message + Default>(body: &[u8]) -> Result<M, String> {
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| error.to_string())?;
    M::decode(plain.as_slice()).map_err(|error| error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("who holds the lock does not panic, unless a test's own look does")
}

#[cfg(test)]
mod tests;
