//! `/api/v0/web/debug/ID`: what comes into a component, as it comes. The path and its `sampleProb` are Alloy's; the answer is
//! server-sent events. The block `livedebugging` allows it, because what passes may be confidential.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Path, Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};

use super::events::stream;
use super::routes::State;
use crate::config::{Body, Decode};

/// Who may watch at a time. Each holds at most [`ITEMS_MAX`] items of at most [`TEXT_MAX`] bytes and as many of labels: 2 MiB.
const WATCHERS_MAX: usize = 8;
/// Items that wait for one watcher. With [`PACE`] this is what one sees at most: 2,560 items a second.
const ITEMS_MAX: usize = 256;
/// How often items are sent.
const PACE: Duration = Duration::from_millis(100);
/// Turns without news after which something is sent all the same, so that proxies keep the connection.
const QUIET_MAX: u32 = 150;
/// Bytes that are shown of an item's text, and of its labels.
pub const TEXT_MAX: usize = 4096;

/// Why there is nothing to see.
pub(super) const OFF: &str = "live debugging is off, as what passes a component may be confidential; \
     livedebugging { enabled = true } in the configuration and a reload turn it on";

/// What the `livedebugging` block says.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveDebugging {
    /// Whether anybody who reaches the server may watch.
    pub enabled: bool,
}

impl Decode for LiveDebugging {
    fn decode(body: &mut Body<'_>) -> Self {
        // Of older Alloys; the buffer is bounded as it is.
        let _: u64 = body.optional("buffer_size", 0);
        LiveDebugging { enabled: body.optional("enabled", false) }
    }
}

/// Who may watch.
pub struct Tail {
    allowed: watch::Sender<bool>,
    room: Arc<Semaphore>,
}

impl Tail {
    /// As the block says.
    pub fn new(block: LiveDebugging) -> Self {
        Tail { allowed: watch::Sender::new(block.enabled), room: Arc::new(Semaphore::new(WATCHERS_MAX)) }
    }

    /// As the block says now: who watches is told if it is over.
    pub fn set(&self, block: LiveDebugging) {
        self.allowed.send_replace(block.enabled);
    }

    pub(super) fn is_allowed(&self) -> bool {
        *self.allowed.borrow()
    }
}

/// A sample, a line, or a message of OTLP.
#[derive(Debug, Serialize)]
pub struct Item {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<i64>,
    labels: String,
    text: String,
}

impl Item {
    /// Long texts are cut.
    pub fn new(kind: &'static str, time_ms: Option<i64>, labels: String, text: String) -> Self {
        Item { kind, time_ms, labels: cut(labels), text: cut(text) }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push('…');
    }
    text
}

/// One who watches, as the component's receiver sees it.
pub struct Watcher {
    items: mpsc::Sender<Item>,
    share: f64,
    draws: AtomicU64,
    left_out: Arc<AtomicU64>,
}

/// The other end.
struct Watched {
    items: mpsc::Receiver<Item>,
    left_out: Arc<AtomicU64>,
}

impl Watcher {
    fn new(share: f64) -> (Watcher, Watched) {
        let (send, items) = mpsc::channel(ITEMS_MAX);
        let left_out = Arc::<AtomicU64>::default();
        let watcher = Watcher { items: send, share, draws: AtomicU64::new(0), left_out: left_out.clone() };
        (watcher, Watched { items, left_out })
    }

    /// Whether nobody looks any more.
    pub fn is_gone(&self) -> bool {
        self.items.is_closed()
    }

    /// Shows the next item if it is drawn. It is not even made if there is no room for it.
    pub fn offer(&self, make: impl FnOnce() -> Item) {
        if self.share < 1.0 {
            let draw = self.draws.fetch_add(1, Ordering::Relaxed);
            let random = twox_hash::XxHash3_64::oneshot(&draw.to_le_bytes());
            if random as f64 >= self.share * u64::MAX as f64 {
                return;
            }
        }
        match self.items.try_reserve() {
            Ok(place) => place.send(make()),
            Err(_) => drop(self.left_out.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(rename = "sampleProb", default = "all")]
    share: f64,
}

fn all() -> f64 {
    1.0
}

pub(super) async fn debug(
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    Query(Wanted { share }): Query<Wanted>,
) -> Response {
    let refuse = |status: StatusCode, why: &str| (status, format!("{why}\n")).into_response();
    if !(0.0..=1.0).contains(&share) {
        return refuse(StatusCode::BAD_REQUEST, "sampleProb is a share from 0 to 1");
    }
    if !state.tail.is_allowed() {
        return refuse(StatusCode::FORBIDDEN, OFF);
    }
    let Ok(permit) = state.tail.room.clone().try_acquire_owned() else {
        let why = format!("{WATCHERS_MAX} are watching already");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &why);
    };
    let (watcher, watched) = Watcher::new(share);
    match state.components.watch(&id, watcher) {
        None => return refuse(StatusCode::NOT_FOUND, &format!("there is no component {id:?}")),
        Some(false) => {
            return refuse(
                StatusCode::CONFLICT,
                "nothing comes into this component; see those that it sends to",
            );
        }
        Some(true) => {}
    }
    let (send, lines) = mpsc::channel(1);
    let allowed = state.tail.allowed.subscribe();
    tokio::spawn(async move {
        let _permit = permit;
        follow(watched, allowed, send).await;
    });
    stream(lines)
}

/// Sends what is seen until it is over, or nobody looks.
async fn follow(mut watched: Watched, mut allowed: watch::Receiver<bool>, send: mpsc::Sender<Bytes>) {
    let (mut told, mut quiet) = (0, QUIET_MAX);
    loop {
        let mut text = String::new();
        let mut event = |name: &str, data: &serde_json::Value| {
            text.push_str(&format!("event: {name}\ndata: {data}\n\n"));
        };
        let end = loop {
            match watched.items.try_recv() {
                Ok(item) => event("item", &json!(item)),
                Err(mpsc::error::TryRecvError::Empty) => break None,
                Err(mpsc::error::TryRecvError::Disconnected) => break Some("the component is gone"),
            }
        };
        let left_out = watched.left_out.load(Ordering::Relaxed);
        if left_out != told {
            told = left_out;
            event("left_out", &json!({ "items": left_out }));
        }
        let end = if *allowed.borrow_and_update() { end } else { Some(OFF) };
        if let Some(reason) = end {
            event("end", &json!({ "reason": reason }));
        }
        quiet += 1;
        if text.is_empty() && quiet > QUIET_MAX {
            text.push_str(": still here\n\n");
        }
        if !text.is_empty() {
            quiet = 0;
            if send.send(text.into()).await.is_err() {
                return;
            }
        }
        if end.is_some() {
            return;
        }
        tokio::select! {
            () = send.closed() => return,
            () = tokio::time::sleep(PACE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Item {
        Item::new("line", Some(1), String::new(), text.to_owned())
    }

    #[tokio::test]
    async fn a_slow_watcher_gets_what_there_is_room_for_and_is_told_of_the_rest() {
        let (watcher, watched) = Watcher::new(1.0);
        let mut made = 0;
        for _ in 0..ITEMS_MAX + 7 {
            watcher.offer(|| {
                made += 1;
                item("a")
            });
        }
        assert_eq!(made, ITEMS_MAX, "what has no room is not made");
        drop(watcher);
        let (send, mut lines) = mpsc::channel(1);
        let allowed = watch::Sender::new(true);
        let following = tokio::spawn(follow(watched, allowed.subscribe(), send));
        let text = String::from_utf8(lines.recv().await.expect("a chunk").to_vec()).expect("text");
        assert_eq!(text.matches("event: item\n").count(), ITEMS_MAX);
        let end = "event: left_out\ndata: {\"items\":7}\n\nevent: end\ndata: {\"reason\":\"the component is gone\"}\n\n";
        assert!(text.ends_with(end), "{text}");
        following.await.expect("it ends");
    }

    #[test]
    fn a_share_is_drawn_and_not_every_second_one() {
        let drawn: Vec<bool> = {
            let (watcher, mut watched) = Watcher::new(0.25);
            let draw = |_| {
                watcher.offer(|| item("a"));
                watched.items.try_recv().is_ok()
            };
            (0..4000).map(draw).collect()
        };
        let count = drawn.iter().filter(|is_drawn| **is_drawn).count();
        assert!((900..1100).contains(&count), "{count}");
        let even = drawn.iter().step_by(2).filter(|is_drawn| **is_drawn).count();
        assert!((400..600).contains(&even), "{even}");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let cut = item(&format!("{}ü", "a".repeat(TEXT_MAX - 1))).text;
        assert_eq!(cut, format!("{}…", "a".repeat(TEXT_MAX - 1)));
    }
}
