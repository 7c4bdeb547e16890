//! Requests to one API server, and what components share of it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::access::{Access, Found};
use super::object::{Object, Selection};
use super::store::Store;
use crate::http_client::{HttpClient, read};

/// How long the head of an answer, or a page of a list, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A page has at most 500 objects, of which etcd takes 1.5 MiB at most: most have some KiB.
const PAGE_BYTES_MAX: usize = 256 << 20;
/// What is read of an answer that says what is wrong.
const STATUS_BYTES_MAX: usize = 64 << 10;
/// Longer lines end a stream: an object has 1.5 MiB at most, and a container's lines are cut before they are handed on.
const LINE_BYTES_MAX: usize = 16 << 20;

/// An API server.
pub struct Api {
    access: Access,
    server: Uri,
    namespace: Option<String>,
    /// Pages and watches: few, and over one connection where the server speaks HTTP/2.
    client: HttpClient,
    /// Streams whose reader may have to wait: each has a connection of its own, so that none holds up another.
    streams: HttpClient,
    stores: Mutex<HashMap<(TypeId, Selection), Weak<dyn Any + Send + Sync>>>,
    changes: watch::Sender<()>,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// What was asked for does not exist any more, or cannot be gone on with: 404 and 410 among others.
    #[error("the API server says {code}: {message}")]
    Status {
        /// Of HTTP.
        code: u16,
        /// The server's own words.
        message: String,
    },
    /// There was no answer.
    #[error("{0:#}")]
    NoAnswer(anyhow::Error),
}

/// What the server answers when something is wrong.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) message: String,
}

impl Api {
    /// The one of all components with the same access.
    pub fn shared(access: &Access) -> anyhow::Result<Arc<Api>> {
        static APIS: Mutex<Vec<Weak<Api>>> = Mutex::new(Vec::new());
        let mut apis = APIS.lock().unwrap_or_else(PoisonError::into_inner);
        apis.retain(|api| api.strong_count() > 0);
        if let Some(api) = apis.iter().filter_map(Weak::upgrade).find(|api| api.access == *access) {
            return Ok(api);
        }
        let Found { server, http, namespace } = access.find()?;
        let api = Arc::new(Api {
            access: access.clone(),
            server,
            namespace,
            client: HttpClient::new(&http.clone().watching()),
            streams: HttpClient::new(&http.watching().without_http2()),
            stores: Mutex::default(),
            changes: watch::Sender::new(()),
        });
        apis.push(Arc::downgrade(&api));
        Ok(api)
    }

    /// The namespace that the agent itself is in, if it is a pod.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The selected objects, watched as long as somebody has them.
    pub fn store<T: Object>(self: &Arc<Self>, selection: Selection) -> Arc<Store<T>> {
        let mut stores = self.stores();
        stores.retain(|_, store| store.strong_count() > 0);
        let key = (TypeId::of::<T>(), selection.clone());
        let known = stores.get(&key).and_then(Weak::upgrade);
        known.and_then(|store| store.downcast().ok()).unwrap_or_else(|| {
            let store = Arc::new(Store::<T>::start(self, selection));
            let weak: Weak<Store<T>> = Arc::downgrade(&store);
            stores.insert(key, weak);
            store
        })
    }

    /// Wakes when something has changed in one of the stores, or with them.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn handle_change(&self) {
        self.changes.send_replace(());
    }

    /// A whole answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let whole = async {
            let response = self.request(&self.client, path).await?;
            read(response, PAGE_BYTES_MAX).await.map_err(Problem::NoAnswer)
        };
        let body =
            tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err(Problem::too_late()))?;
        serde_json::from_slice(&body).map_err(|error| Problem::NoAnswer(error.into()))
    }

    /// An answer that comes line by line, and has to be read without long pauses.
    pub(super) async fn watch(&self, path: &str) -> Result<Lines, Problem> {
        self.lines(&self.client, path).await
    }

    /// The same, for a reader that may pause.
    pub async fn stream(&self, path: &str) -> Result<Lines, Problem> {
        self.lines(&self.streams, path).await
    }

    async fn lines(&self, client: &HttpClient, path: &str) -> Result<Lines, Problem> {
        let response = tokio::time::timeout(PATIENCE, self.request(client, path)).await;
        let response = response.unwrap_or_else(|_| Err(Problem::too_late()))?;
        Ok(Lines { body: response.into_body(), buffer: BytesMut::new(), searched: 0, is_over: false })
    }

    async fn request(&self, client: &HttpClient, path: &str) -> Result<Response<Incoming>, Problem> {
        let base = self.server.to_string();
        let uri: Uri = format!("{}{path}", base.trim_end_matches('/'))
            .parse()
            .map_err(|error: http::uri::InvalidUri| Problem::NoAnswer(error.into()))?;
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = uri;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json, */*"));
        let response = client.send(request).await.map_err(Problem::NoAnswer)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = read(response, STATUS_BYTES_MAX).await.unwrap_or_default();
        let status: Status = serde_json::from_slice(&body).unwrap_or_default();
        let text = || String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
        let message = if status.message.is_empty() { text() } else { status.message };
        Err(Problem::Status { code, message })
    }

    fn stores(&self) -> MutexGuard<'_, HashMap<(TypeId, Selection), Weak<dyn Any + Send + Sync>>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Problem {
    /// The status that the server gave, if it did.
    pub fn code(&self) -> Option<u16> {
        match self {
            Problem::Status { code, .. } => Some(*code),
            Problem::NoAnswer(_) => None,
        }
    }

    fn too_late() -> Self {
        Problem::NoAnswer(anyhow::anyhow!("the API server has not answered within {PATIENCE:?}"))
    }
}

/// An answer, line by line.
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// So much of the buffer has no end of a line.
    searched: usize,
    is_over: bool,
}

impl Lines {
    /// The next line without its end; `None` after the last. What follows the last end of a line is a line if the answer has ended in an
    /// orderly way. Cancelling it is safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            if let Some(line) = self.ready() {
                return Ok(Some(line));
            }
            if self.is_over {
                self.searched = 0;
                let rest = self.buffer.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            match self.body.frame().await {
                None => self.is_over = true,
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Some(Err(error)) => return Err(Problem::NoAnswer(error.into())),
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Problem::NoAnswer(anyhow::anyhow!(
                    "a line is longer than {LINE_BYTES_MAX} bytes"
                )));
            }
        }
    }

    /// A line that is there already.
    pub fn ready(&mut self) -> Option<Bytes> {
        let Some(end) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end + 1).freeze();
        self.searched = 0;
        Some(line.slice(..line.len() - 1))
    }
}
