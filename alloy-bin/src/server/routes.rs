//! What the server answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Query, State as Extract};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use crate::ownership::{Owned, Ownership};
use crate::telemetry::{Collect, Page};

/// Makes a page in the text format 0.0.4.
type PageSource = dyn Fn() -> String + Send + Sync;

/// What the server shows.
pub struct State {
    /// Whether the configuration is loaded and the agent takes its share; false again while it stops.
    pub ready: AtomicBool,
    /// The parts of the agent that have figures.
    pub collectors: Vec<Arc<dyn Collect>>,
    /// The components' health.
    pub health: Arc<dyn Health>,
    /// The cluster.
    pub ownership: Ownership,
    /// Loads the configuration anew.
    pub reload: Arc<dyn Reload>,
    /// The pages of exporters, by path.
    pub pages: fn(&str) -> Option<Arc<PageSource>>,
}

impl State {
    /// The agent's own figures, in the text format 0.0.4.
    pub fn page(&self) -> String {
        let mut page = Page::default();
        for collector in &self.collectors {
            collector.collect(&mut page);
        }
        page.render()
    }
}

/// Who can load the configuration anew.
#[async_trait]
pub trait Reload: Send + Sync {
    /// Loads it. After an error the old one goes on; the text says what is wrong.
    async fn reload(&self) -> Result<(), String>;
}

/// Who knows how the components are.
pub trait Health: Send + Sync {
    /// The unhealthy components with the reason of each.
    fn unhealthy(&self) -> Vec<(String, String)>;
}

/// The routes.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/-/ready", get(ready))
        .route("/-/healthy", get(healthy))
        .route("/-/reload", get(reload).post(reload))
        .route("/metrics", get(metrics))
        .route("/api/v0/component/{*path}", get(exported))
        .route("/api/v0/web/peers", get(peers))
        .route("/api/v0/cluster/ownership", get(ownership))
        .with_state(state)
}

async fn ready(Extract(state): Extract<Arc<State>>) -> Response {
    if let Some(reason) = state.ownership.withdrawn() {
        (StatusCode::SERVICE_UNAVAILABLE, format!("Alloy is not ready: {reason}.\n")).into_response()
    } else if state.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "Alloy is ready.\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "Alloy is not ready.\n").into_response()
    }
}

async fn healthy(Extract(state): Extract<Arc<State>>) -> Response {
    let unhealthy = state.health.unhealthy();
    if unhealthy.is_empty() {
        return (StatusCode::OK, "All Alloy components are healthy.\n").into_response();
    }
    let reasons: Vec<String> = unhealthy.iter().map(|(id, reason)| format!("{id}: {reason}")).collect();
    (StatusCode::INTERNAL_SERVER_ERROR, format!("unhealthy components: {}\n", reasons.join("; ")))
        .into_response()
}

async fn reload(Extract(state): Extract<Arc<State>>) -> Response {
    match state.reload.reload().await {
        Ok(()) => (StatusCode::OK, "config reloaded\n").into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{}\n", error.trim_end())).into_response(),
    }
}

async fn metrics(Extract(state): Extract<Arc<State>>) -> Response {
    text_page(state.page())
}

/// What `prometheus.scrape` gets of an exporter.
async fn exported(Extract(state): Extract<Arc<State>>, uri: Uri) -> Response {
    let Some(page) = (state.pages)(uri.path()) else { return StatusCode::NOT_FOUND.into_response() };
    match tokio::task::spawn_blocking(move || page()).await {
        Ok(page) => text_page(page),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn text_page(page: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

/// A member, as Alloy's API shows it.
#[derive(Serialize)]
struct Peer {
    name: String,
    addr: String,
    #[serde(rename = "isSelf")]
    is_self: bool,
    state: &'static str,
    version: String,
    configuration: String,
}

async fn peers(Extract(state): Extract<Arc<State>>) -> Response {
    let peers = state.ownership.peers().into_iter().map(|peer| Peer {
        name: peer.name,
        addr: peer.address,
        is_self: peer.is_self,
        state: peer.state,
        version: peer.version,
        configuration: peer.configuration,
    });
    axum::Json(peers.collect::<Vec<_>>()).into_response()
}

/// What to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    component: Option<String>,
    owner: Option<String>,
}

/// Who owns what, as this node sees it.
#[derive(Serialize)]
struct OwnershipList {
    node: String,
    epoch: u64,
    digest: String,
    keys: Vec<Owned>,
}

async fn ownership(Extract(state): Extract<Arc<State>>, Query(which): Query<Which>) -> Response {
    let (epoch, digest) = state.ownership.view();
    let mut keys = state.ownership.list();
    keys.retain(|owned| which.component.as_ref().is_none_or(|component| *component == owned.component));
    keys.retain(|owned| which.owner.as_ref().is_none_or(|owner| Some(owner) == owned.owner.as_ref()));
    let node = state.ownership.me();
    axum::Json(OwnershipList { node, epoch, digest: format!("{digest:016x}"), keys }).into_response()
}
