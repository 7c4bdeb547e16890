//! `/api/v0/web/components`: what runs, how it is, and what it was given, in the form of Alloy's API.

use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};

use super::routes::State;
use super::tail::Watcher;

/// Who knows the components.
pub trait Components: Send + Sync {
    /// The unhealthy ones with the reason of each.
    fn unhealthy(&self) -> Vec<(String, String)>;

    /// All, each behind those that it refers to.
    fn list(&self) -> Vec<Component>;

    /// One by its id; `None`: there is no such component.
    fn details(&self, id: &str) -> Option<Details>;

    /// The configuration's texts without what may be secret in them, each with the name of its file.
    fn sources(&self) -> Vec<(String, String)>;

    /// Shows what comes into one; `None`: there is no such component; false: nothing ever does.
    fn watch(&self, id: &str, watcher: Watcher) -> Option<bool>;
}

/// A component.
#[derive(Debug, Clone)]
pub struct Component {
    /// What it is: `prometheus.scrape`.
    pub name: String,
    /// What it is called.
    pub label: String,
    /// Both: `prometheus.scrape.default`.
    pub local_id: String,
    /// The module that it is in; empty: none.
    pub module_id: String,
    /// The ids of those that it refers to.
    pub references_to: Vec<String>,
    /// The ids of those that refer to it.
    pub referenced_by: Vec<String>,
    /// Whether data flows to it from those that refer to it, and not the other way.
    pub takes_data: bool,
    /// What is wrong with it; `None`: nothing.
    pub trouble: Option<String>,
    /// Where it stands in the configuration: `config.alloy:12:1`.
    pub position: String,
}

/// A component and what it was given.
#[derive(Debug, Clone, Serialize)]
pub struct Details {
    #[serde(flatten)]
    /// It.
    pub component: Component,
    /// What its block says, without secrets.
    pub arguments: Vec<Value>,
    /// What others see of it.
    pub exports: Vec<Value>,
}

impl Component {
    /// The id that is unique in the agent: `module.default/prometheus.scrape.default`.
    pub fn id(&self) -> String {
        match self.module_id.as_str() {
            "" => self.local_id.clone(),
            module => format!("{module}/{}", self.local_id),
        }
    }
}

/// In Alloy's form, and the position beside it.
impl Serialize for Component {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Component { name, label, local_id, module_id, references_to, referenced_by, .. } = self;
        let Component { takes_data: _, trouble, position, .. } = self;
        let state = if trouble.is_some() { "unhealthy" } else { "healthy" };
        json!({
            "name": name,
            "type": "block",
            "localID": local_id,
            "moduleID": module_id,
            "label": label,
            "referencesTo": references_to,
            "referencedBy": referenced_by,
            "health": { "state": state, "message": trouble.as_deref().unwrap_or_default() },
            "position": position,
        })
        .serialize(serializer)
    }
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/api/v0/web/components", get(list))
        .route("/api/v0/web/components/{*id}", get(details))
}

async fn list(Extract(state): Extract<Arc<State>>) -> Response {
    Json(state.components.list()).into_response()
}

async fn details(Extract(state): Extract<Arc<State>>, Path(id): Path<String>) -> Response {
    match state.components.details(&id) {
        Some(details) => Json(details).into_response(),
        None => (StatusCode::NOT_FOUND, format!("there is no component {id:?}\n")).into_response(),
    }
}
