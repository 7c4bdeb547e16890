//! One container's log: read on where it was, over restarts of the container, of the API server, and of the kubelet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::position::{Position, Skip};
use super::targets::Container;
use super::{Event, Figures};
use crate::graph::Fanout;
use crate::http_client::escape;
use crate::kubernetes::{Api, Backoff, Lines, Meta, Problem, null_is_empty};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream, Origin};

/// Lines and bytes of a batch: what is read at once, if there is so much.
const BATCH_LINES: usize = 2000;
const BATCH_BYTES: usize = 512 << 10;
/// A batch that is to come out as another node has made it waits so long for its last lines.
const REPEAT_PATIENCE: Duration = Duration::from_secs(2);
/// How long the last batch may wait for a receiver that has no room. It is not lost: the next owner reads it again.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// A stream that has lasted so long went well.
const LONG_STREAM: Duration = Duration::from_secs(10);

/// What it takes to follow a container.
pub(super) struct Follower {
    pub(super) api: Arc<Api>,
    pub(super) component: Arc<str>,
    pub(super) key: u64,
    pub(super) container: Container,
    pub(super) labels: watch::Receiver<Labels>,
    pub(super) fanout: Fanout<LogBatch>,
    pub(super) figures: Arc<Figures>,
    /// Few begin at once: the API server has others to answer.
    pub(super) begins: Arc<Semaphore>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) stop: CancellationToken,
    /// Which time of ownership it is, if the container is shared.
    pub(super) tenure: Option<u64>,
    pub(super) position: Option<Position>,
    /// How many lines the next batches have to have: they may be on their way already.
    pub(super) repeats: VecDeque<u32>,
    pub(super) sequence: u64,
}

/// What the API says of a pod.
#[derive(Deserialize)]
struct Pod {
    metadata: Meta,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(deserialize_with = "null_is_empty")]
    container_statuses: Vec<Status>,
    #[serde(deserialize_with = "null_is_empty")]
    init_container_statuses: Vec<Status>,
    #[serde(deserialize_with = "null_is_empty")]
    ephemeral_container_statuses: Vec<Status>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    name: String,
    restart_count: u32,
    state: State,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    waiting: Option<serde::de::IgnoredAny>,
    terminated: Option<serde::de::IgnoredAny>,
}

/// Which log of the container.
#[derive(Clone, Copy, PartialEq)]
enum Which {
    /// Of the one before the last start, to its end.
    Previous,
    /// Of the one that is or was last, and what it will write.
    Current,
}

/// How a look at the container has ended.
enum End {
    /// There will be more.
    Later,
    /// There will be nothing more.
    Finished,
    Stopped,
}

impl Follower {
    /// Follows it until it is stopped. Gives where it was.
    pub(super) async fn run(mut self) -> (u64, Option<Position>) {
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            let before = self.position;
            let end = self.look().await;
            if begun.elapsed() > LONG_STREAM || self.position != before {
                backoff.reset();
            }
            match end {
                Ok(End::Stopped) => break,
                Ok(End::Finished) => {
                    self.tell(None).await;
                    self.stop.cancelled().await;
                    break;
                }
                Ok(End::Later) => self.tell(None).await,
                // 404: the pod is gone, and so will be its target.
                Err(problem) if problem.code() == Some(404) => self.tell(None).await,
                Err(problem) => self.tell(Some(problem.to_string())).await,
            }
            backoff.fail();
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = backoff.wait() => {}
            }
        }
        (self.key, self.position)
    }

    async fn look(&mut self) -> Result<End, Problem> {
        let stop = self.stop.clone();
        let Some(pod) = unless(&stop, self.pod()).await else { return Ok(End::Stopped) };
        let Pod { metadata, status: pod } = pod?;
        if !self.container.uid.is_empty() && *metadata.uid != *self.container.uid {
            // Another pod has its name.
            return Ok(End::Finished);
        }
        let statuses =
            [pod.container_statuses, pod.init_container_statuses, pod.ephemeral_container_statuses];
        let status = statuses.into_iter().flatten().find(|status| status.name == self.container.name);
        let Some(status) = status.filter(|status| status.state.waiting.is_none() || status.restart_count > 0)
        else {
            return Ok(End::Later);
        };
        if let Some(known) = self.position.map(|position| position.restarts)
            && known < status.restart_count
        {
            if known + 1 < status.restart_count {
                tracing::warn!(component = %self.component, container = self.container.title(), restarts = status.restart_count - known,
                    "the container was started several times since its log was read, the logs between are gone");
            }
            match self.read(Which::Previous).await {
                // 400: it is gone, or was never there.
                Err(problem) if problem.code() != Some(400) => return Err(problem),
                Ok(End::Stopped) => return Ok(End::Stopped),
                _ => {}
            }
        }
        self.position.get_or_insert_default().restarts = status.restart_count;
        if let End::Stopped = self.read(Which::Current).await? {
            return Ok(End::Stopped);
        }
        let is_over = status.state.terminated.is_some() && matches!(&*pod.phase, "Succeeded" | "Failed");
        Ok(if is_over { End::Finished } else { End::Later })
    }

    async fn pod(&self) -> Result<Pod, Problem> {
        let _turn = self.begins.acquire().await;
        self.api.get(&self.container.path()).await
    }

    async fn open(&self, which: Which) -> Result<Lines, Problem> {
        let _turn = self.begins.acquire().await;
        let which = if which == Which::Previous { "previous=true" } else { "follow=true" };
        let mut path = format!(
            "{}/log?container={}&timestamps=true&{which}",
            self.container.path(),
            escape(&self.container.name)
        );
        if let Some(position) = self.position.filter(|position| position.nth > 0) {
            path.push_str(&format!("&sinceTime={}", escape(&position.since())));
        }
        self.api.stream(&path).await
    }

    /// Reads one log to its end.
    async fn read(&mut self, which: Which) -> Result<End, Problem> {
        let stop = self.stop.clone();
        let Some(lines) = unless(&stop, self.open(which)).await else { return Ok(End::Stopped) };
        let mut lines = lines?;
        self.tell(None).await;
        let mut skip = Skip::until(self.position.unwrap_or_default());
        loop {
            let Some(first) = unless(&stop, lines.next()).await else { return Ok(End::Stopped) };
            // A stream that breaks off is gone on with like one that ends.
            let Ok(Some(first)) = first else { return Ok(End::Later) };
            let batch = self.gather(first, &mut lines, &mut skip).await;
            if !batch.is_empty() && !self.deliver(batch).await {
                return Ok(End::Stopped);
            }
        }
    }

    /// The line and those that are there already; as many as a batch has to have that is made again.
    async fn gather(&self, first: Bytes, lines: &mut Lines, skip: &mut Skip) -> Vec<LogEntry> {
        let wanted = self.repeats.front().map(|lines| *lines as usize);
        let deadline = Instant::now() + REPEAT_PATIENCE;
        let (mut batch, mut bytes, mut next) = (Vec::new(), 0, Some(first));
        while let Some(line) = next {
            bytes += line.len();
            match entry(&line) {
                None => {
                    // The kubelet's own words, such as that it cannot read the log.
                    self.figures.unreadable.fetch_add(1, Relaxed);
                    tracing::debug!(component = %self.component, container = self.container.title(), line = %String::from_utf8_lossy(&line), "a line without a time");
                }
                Some(entry) if skip.skips(entry.timestamp_ns) => {}
                Some(entry) => batch.push(entry),
            }
            let is_full = match wanted {
                Some(wanted) => batch.len() >= wanted,
                None => batch.len() >= BATCH_LINES || bytes >= BATCH_BYTES,
            };
            if is_full {
                break;
            }
            next = match lines.ready() {
                None if wanted.is_some() && !batch.is_empty() => {
                    let later = tokio::time::timeout_at(deadline, lines.next()).await;
                    later.ok().and_then(Result::ok).flatten()
                }
                ready => ready,
            };
        }
        batch
    }

    /// False: it was stopped before the batch was taken.
    async fn deliver(&mut self, entries: Vec<LogEntry>) -> bool {
        let before = self.position.unwrap_or_default();
        let mut behind = before;
        entries.iter().for_each(|entry| behind.take(entry.timestamp_ns));
        let base_ns = entries.first().map_or(0, |entry| entry.timestamp_ns);
        let count = entries.len();
        let origin = self.tenure.map(|tenure| Origin {
            component: self.component.clone(),
            key: self.key,
            tenure,
            sequence: self.sequence,
            base_ns,
            batch: before.encode(count as u32),
        });
        let streams = vec![LogStream { labels: self.labels.borrow().clone(), entries }];
        // Not the clock: what is read again has to come out the same.
        let batch = LogBatch { streams, lane: self.key, taken_ns: behind.max_ns, origin };
        let refused = |_: &crate::graph::ConsumeError| _ = self.figures.refused.fetch_add(1, Relaxed);
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        tokio::select! {
            biased;
            () = self.fanout.deliver(&batch, refused) => {}
            () = stopped => return false,
        }
        self.figures.lines.fetch_add(count as u64, Relaxed);
        self.repeats.pop_front();
        self.sequence += 1;
        self.position = Some(behind);
        // The receiver is there as long as we are.
        let _ = self.events.send(Event::Progress { key: self.key, position: behind }).await;
        true
    }

    async fn tell(&self, trouble: Option<String>) {
        let _ = self.events.send(Event::Trouble { key: self.key, trouble }).await;
    }
}

/// The answer, unless it is stopped before.
async fn unless<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}

/// `2026-01-01T00:00:00.000000001Z the line`
fn entry(line: &Bytes) -> Option<LogEntry> {
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let time: jiff::Timestamp = std::str::from_utf8(&line[..end]).ok()?.parse().ok()?;
    let text = line.slice((end + 1).min(line.len())..);
    let text = match std::str::from_utf8(&text) {
        Ok(_) => text,
        Err(_) => String::from_utf8_lossy(&text).into_owned().into(),
    };
    Some(LogEntry::new(i64::try_from(time.as_nanosecond()).ok()?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_time_and_a_text() {
        let check = |line: &'static str, expected: Option<(i64, &str)>| {
            let found = entry(&Bytes::from_static(line.as_bytes()));
            let found =
                found.map(|entry| (entry.timestamp_ns, String::from_utf8(entry.line.to_vec()).unwrap()));
            assert_eq!(found, expected.map(|(time, text)| (time, text.to_owned())), "{line}");
        };
        check("2023-11-14T22:13:20.000000001Z a  b", Some((1_700_000_000_000_000_001, "a  b")));
        check("2023-11-14T23:13:20.5+01:00 a", Some((1_700_000_000_500_000_000, "a")));
        check("2023-11-14T22:13:20Z ", Some((1_700_000_000_000_000_000, "")));
        check("2023-11-14T22:13:20Z", Some((1_700_000_000_000_000_000, "")));
        check("unable to retrieve container logs for containerd://abc", None);
        check("", None);
    }
}
