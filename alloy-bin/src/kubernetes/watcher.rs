//! List and watch as one sequence of changes that never ends: it goes on where it was when a connection breaks, and lists anew
//! when the server does not know that place any more.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::api::{Api, Lines, Problem, Status};
use super::object::{Object, Selection, null_is_empty};

/// Objects in a page: what is in memory at once while a list is read.
const PAGE: usize = 500;
/// How long one watch lasts, in seconds: it is the server that ends it. Spread, so that not all come back at once.
const WATCH_S: std::ops::Range<u64> = 300..600;
/// A watch without a word is given up after so long. Bookmarks come every minute, and dead connections are noticed below this.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// A watch that ends so soon is followed by a pause.
const SHORT_WATCH: Duration = Duration::from_secs(1);

/// What has happened to the selected objects, each with the version at which it did.
#[derive(Debug)]
pub enum Change<T> {
    /// A part of a list.
    Page {
        /// What was before the list's first page is gone if no page has it.
        is_first: bool,
        /// The objects.
        items: Vec<(T, Box<str>)>,
        /// With the last page: the version of the whole list.
        complete: Option<Box<str>>,
    },
    /// An object is new or another.
    Applied(T, Box<str>),
    /// An object is gone.
    Deleted(T, Box<str>),
    /// Nothing, up to that version.
    Reached(Box<str>),
    /// It cannot go on now, and tries again.
    Trouble(String),
}

/// Gives the changes, one after the other.
pub struct Watcher<T> {
    api: Arc<Api>,
    selection: Selection,
    state: State,
    backoff: Backoff,
    /// A list was complete: those after it have to be newer.
    has_listed: bool,
    kind: PhantomData<fn() -> T>,
}

enum State {
    /// The page behind that token is next.
    List(Option<String>),
    /// A watch from that version on is next.
    Watch(Box<str>),
    Watching {
        lines: Lines,
        version: Box<str>,
        since: Instant,
    },
}

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct List<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new", deserialize_with = "null_is_empty")]
    items: Vec<T>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: Box<str>,
    r#continue: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
enum Event<T> {
    Added(T),
    Modified(T),
    Deleted(T),
    Bookmark(Bookmark),
    Error(Status),
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: ListMeta,
}

impl<T: Object> Watcher<T> {
    /// Lists, and watches from there; with a version, watches from that on as long as the server knows it.
    pub fn new(api: Arc<Api>, selection: Selection, version: Option<Box<str>>) -> Self {
        let has_listed = version.is_some();
        let state = version.map_or(State::List(None), State::Watch);
        Watcher { api, selection, state, backoff: Backoff::default(), has_listed, kind: PhantomData }
    }

    /// The next change. Cancelling it is safe.
    pub async fn next(&mut self) -> Change<T> {
        loop {
            self.backoff.wait().await;
            match self.step().await {
                Ok(Some(change)) => {
                    self.backoff.reset();
                    return change;
                }
                Ok(None) => {}
                Err(problem) => {
                    self.handle(&problem);
                    self.backoff.fail();
                    return Change::Trouble(problem.to_string());
                }
            }
        }
    }

    /// Where to go on after a problem.
    fn handle(&mut self, problem: &Problem) {
        let Some(code) = problem.code() else { return };
        match &self.state {
            State::List(token) => self.state = State::List(token.clone().filter(|_| code != 410)),
            // 410: the version is forgotten; 504: it is of the future, as after a restored backup; else it is asked in a wrong way.
            _ if matches!(code, 400..=428 | 504) => self.state = State::List(None),
            State::Watching { version, .. } => self.state = State::Watch(version.clone()),
            State::Watch(_) => {}
        }
    }

    async fn step(&mut self) -> Result<Option<Change<T>>, Problem> {
        match &mut self.state {
            State::List(token) => {
                let token = token.clone();
                self.list(token).await.map(Some)
            }
            State::Watch(version) => {
                let seconds = WATCH_S.start + random() % (WATCH_S.end - WATCH_S.start);
                let path = self.selection.path::<T>();
                let path = format!(
                    "{path}watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}"
                );
                match self.api.watch(&path).await {
                    Ok(lines) => {
                        let version = std::mem::take(version);
                        let reached = Change::Reached(version.clone());
                        self.state = State::Watching { lines, version, since: Instant::now() };
                        Ok(Some(reached))
                    }
                    Err(problem) if problem.code() == Some(410) => self.expired(),
                    Err(problem) => Err(problem),
                }
            }
            State::Watching { lines, .. } => {
                let line = tokio::time::timeout(SILENCE_MAX, lines.next()).await.unwrap_or(Ok(None));
                match line {
                    Ok(Some(line)) => match serde_json::from_slice(&line) {
                        Ok(event) => self.handle_event(event),
                        Err(error) => {
                            // It comes again with each watch from before it, so only a list gets past it.
                            self.state = State::List(None);
                            Err(Problem::NoAnswer(error.into()))
                        }
                    },
                    Ok(None) => self.ended(),
                    Err(_broken) => self.ended(),
                }
            }
        }
    }

    /// The watch has ended: the next begins where it was.
    fn ended(&mut self) -> Result<Option<Change<T>>, Problem> {
        if let State::Watching { version, since, .. } = &mut self.state {
            if since.elapsed() < SHORT_WATCH {
                self.backoff.fail();
            }
            self.state = State::Watch(std::mem::take(version));
        }
        Ok(None)
    }

    fn expired(&mut self) -> Result<Option<Change<T>>, Problem> {
        tracing::info!(
            kind = T::PLURAL,
            namespace = self.selection.namespace,
            "the API server has forgotten the last version, listing anew"
        );
        self.state = State::List(None);
        Ok(None)
    }

    async fn list(&mut self, token: Option<String>) -> Result<Change<T>, Problem> {
        let mut path = self.selection.path::<T>();
        match &token {
            // The server's memory has these, by an index, and etcd need not be asked: a thousand nodes may ask at once.
            None if self.selection.is_narrow() && !self.has_listed => path.push_str("resourceVersion=0"),
            None => path.push_str(&format!("limit={PAGE}")),
            Some(token) => {
                path.push_str(&format!("limit={PAGE}&continue={}", crate::http_client::escape(token)));
            }
        }
        let list: List<T> = self.api.get(&path).await?;
        let ListMeta { resource_version, r#continue } = list.metadata;
        let complete = r#continue.is_empty().then_some(resource_version);
        self.state = match &complete {
            Some(version) => State::Watch(version.clone()),
            None => State::List(Some(r#continue)),
        };
        self.has_listed |= complete.is_some();
        let items = list.items.into_iter().map(versioned).collect();
        Ok(Change::Page { is_first: token.is_none(), items, complete })
    }

    fn handle_event(&mut self, event: Event<T>) -> Result<Option<Change<T>>, Problem> {
        let change = match event {
            Event::Added(object) | Event::Modified(object) => {
                let (object, version) = versioned(object);
                Change::Applied(object, version)
            }
            Event::Deleted(object) => {
                let (object, version) = versioned(object);
                Change::Deleted(object, version)
            }
            Event::Bookmark(bookmark) => Change::Reached(bookmark.metadata.resource_version),
            Event::Error(status) if status.code == 410 => return self.expired(),
            Event::Error(Status { code, message }) => return Err(Problem::Status { code, message }),
        };
        if let (
            State::Watching { version, .. },
            Change::Applied(_, new) | Change::Deleted(_, new) | Change::Reached(new),
        ) = (&mut self.state, &change)
        {
            version.clone_from(new);
        }
        Ok(Some(change))
    }
}

fn versioned<T: Object>(mut object: T) -> (T, Box<str>) {
    let version = std::mem::take(&mut object.meta().resource_version);
    (object, version)
}

/// Longer and longer pauses, each by chance somewhat shorter or longer.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    const PAUSES: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(30);

    /// The next try is later.
    pub fn fail(&mut self) {
        let pause = Self::PAUSES.start.saturating_mul(1 << self.failures.min(10)).min(Self::PAUSES.end);
        self.failures += 1;
        let by_chance = (random() % 1000) as f64 / 1000.0;
        self.until = Some(Instant::now() + pause.mul_f64(0.5 + by_chance));
    }

    /// It goes well.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// Waits until it is time for the next try. Cancelling it is safe.
    pub async fn wait(&self) {
        if let Some(until) = self.until {
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Good enough for spreading: the standard library's hash keys come from the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
