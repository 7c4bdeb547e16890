//! What the server answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::extract::State as Extract;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::cluster;
use super::components::{self, Components};
use super::events;
use super::support::{Support, with_support};
use super::tail::{self, Tail};
#[cfg(feature = "ui")]
use super::ui::{self, LagHistory};
use crate::ownership::Ownership;
use crate::telemetry::{Collect, Page};

/// Makes a page in the text format 0.0.4.
type PageSource = dyn Fn() -> String + Send + Sync;

/// What the server shows.
pub struct State {
    /// Whether the configuration is loaded and the agent takes its share; false again while it stops.
    pub ready: AtomicBool,
    /// The parts of the agent that have figures.
    pub collectors: Vec<Arc<dyn Collect>>,
    /// The components.
    pub components: Arc<dyn Components>,
    /// The cluster.
    pub ownership: Ownership,
    /// Who may watch what passes.
    pub tail: Arc<Tail>,
    /// What a support bundle needs; `None`: there is none.
    pub support: Option<Arc<Support>>,
    /// Loads the configuration anew.
    pub reload: Arc<dyn Reload>,
    /// How the logs' lag was.
    #[cfg(feature = "ui")]
    pub lag: LagHistory,
    /// The pages of exporters, by path.
    pub pages: fn(&str) -> Option<Arc<PageSource>>,
}

impl State {
    /// The agent's own figures, in the text format 0.0.4.
    pub fn page(&self) -> String {
        self.figures().render()
    }

    /// The agent's own figures.
    pub(super) fn figures(&self) -> Page {
        let mut page = Page::default();
        for collector in &self.collectors {
            collector.collect(&mut page);
        }
        page
    }
}

/// Who can load the configuration anew.
#[async_trait]
pub trait Reload: Send + Sync {
    /// Loads it. After an error the old one goes on; the text says what is wrong.
    async fn reload(&self) -> Result<(), String>;
}

/// The routes.
pub fn router(state: Arc<State>) -> Router {
    let router = Router::new()
        .route("/-/ready", get(ready))
        .route("/-/healthy", get(healthy))
        .route("/-/reload", get(reload).post(reload))
        .route("/metrics", get(metrics))
        .route("/api/v0/component/{*path}", get(exported))
        .merge(cluster::routes())
        .merge(components::routes())
        .route("/api/v0/web/debug/{*id}", get(tail::debug))
        .route("/api/v0/events", get(events::events));
    #[cfg(feature = "ui")]
    let router = router.merge(ui::routes());
    with_support(router.with_state(state.clone()), &state)
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
    let unhealthy = state.components.unhealthy();
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
