//! What the server answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::cluster;
use super::components::{self, Components};
use crate::ownership::Ownership;
use crate::telemetry::{Collect, Page};

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
    /// Loads the configuration anew.
    pub reload: Arc<dyn Reload>,
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

/// The routes.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/-/ready", get(ready))
        .route("/-/healthy", get(healthy))
        .route("/-/reload", get(reload).post(reload))
        .route("/metrics", get(metrics))
        .merge(cluster::routes())
        .merge(components::routes())
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
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.page()).into_response()
}
