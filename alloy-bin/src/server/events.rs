//! `/api/v0/events`: server-sent events (HTML Living Standard, section 9.2) that say when there is something new to see.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use super::routes::State;

/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(500);
/// Looks without news after which something is sent all the same, so that proxies keep the connection.
const QUIET_MAX: u32 = 30;

/// Streams at a time: an eighth of the port's connections, so that they leave room for questions that end.
const STREAMS_MAX: usize = 64;
static ROOM: Semaphore = Semaphore::const_new(STREAMS_MAX);

/// Each event has the view's epoch and digest, and how many components are unhealthy.
pub(super) async fn events(Extract(state): Extract<Arc<State>>) -> Response {
    let Ok(permit) = ROOM.try_acquire() else {
        let why = format!("{STREAMS_MAX} clients are following already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let (send, lines) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        let mut before = None;
        let mut quiet = 0;
        loop {
            let (epoch, digest) = state.ownership.view();
            let now = (epoch, digest, state.components.unhealthy().len(), state.ownership.change_count());
            quiet += 1;
            let line = if before.as_ref() != Some(&now) {
                let data = json!({ "epoch": epoch, "digest": format!("{digest:016x}"), "unhealthy": now.2 });
                format!("event: change\ndata: {data}\n\n")
            } else if quiet == QUIET_MAX {
                ": still here\n\n".to_owned()
            } else {
                String::new()
            };
            if !line.is_empty() {
                quiet = 0;
                if send.send(Bytes::from(line)).await.is_err() {
                    return;
                }
            }
            before = Some(now);
            tokio::select! {
                () = send.closed() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    });
    stream(lines)
}

/// An answer that goes on as long as there is more.
pub(super) fn stream(lines: mpsc::Receiver<Bytes>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(Lines(lines))).into_response()
}

/// What is sent as it comes.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
