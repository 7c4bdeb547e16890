//! `/api/v0/cluster/*`: who is there, who owns what and why, and what would move; Alloy's `/api/v0/web/peers`.

use std::sync::Arc;

use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::routes::State;
use crate::ownership::{Change, Explanation, Filter, Known, Newcomer, Owned, Peer, Plan, PlanError};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/api/v0/web/peers", get(peers))
        .route("/api/v0/cluster/members", get(members))
        .route("/api/v0/cluster/ownership", get(ownership))
        .route("/api/v0/cluster/simulation", get(simulation))
}

/// A member, as Alloy's API shows it.
#[derive(Serialize)]
struct AlloyPeer {
    name: String,
    addr: String,
    #[serde(rename = "isSelf")]
    is_self: bool,
    state: &'static str,
    version: String,
    configuration: String,
}

async fn peers(Extract(state): Extract<Arc<State>>) -> Response {
    let peers = state.ownership.peers().into_iter().map(|peer| AlloyPeer {
        name: peer.name,
        addr: peer.address,
        is_self: peer.is_self,
        state: peer.state,
        version: peer.version,
        configuration: peer.configuration,
    });
    Json(peers.collect::<Vec<_>>()).into_response()
}

/// How this node sees the cluster.
#[derive(Serialize)]
struct Seen {
    /// Who sees it so.
    node: String,
    /// Counts the changes of its view.
    epoch: u64,
    /// Equal on two nodes exactly when they see the same.
    digest: String,
}

impl Seen {
    fn of(state: &State) -> Self {
        let (epoch, digest) = state.ownership.view();
        Seen { node: state.ownership.me(), epoch, digest: format!("{digest:016x}") }
    }
}

#[derive(Serialize)]
struct Members {
    #[serde(flatten)]
    seen: Seen,
    members: Vec<Peer>,
    changes: Vec<Change>,
}

async fn members(Extract(state): Extract<Arc<State>>) -> Response {
    let (members, changes) = (state.ownership.peers(), state.ownership.changes());
    Json(Members { seen: Seen::of(&state), members, changes }).into_response()
}

/// What to list, and which part of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    component: Option<String>,
    owner: Option<String>,
    search: Option<String>,
    key: Option<String>,
    /// Whether to ask the owners how the keys fare.
    #[serde(default)]
    facts: bool,
    #[serde(default)]
    offset: u32,
    limit: Option<u32>,
}

/// Who owns what, as this node sees it.
#[derive(Serialize)]
struct OwnershipList {
    #[serde(flatten)]
    seen: Seen,
    /// How many keys there are of those that were asked for.
    total: usize,
    keys: Keys,
    /// Why, if one key was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    explained: Option<Vec<Explanation>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Keys {
    Plain(Vec<Owned>),
    WithFacts(Vec<Known>),
}

/// Members are asked about so many keys at most.
const FACTS_MAX: u32 = 1000;

async fn ownership(Extract(state): Extract<Arc<State>>, Query(which): Query<Which>) -> Response {
    let Which { component, owner, search, key, facts, offset, limit } = which;
    let filter = Filter { component, owner, search, key };
    let explained = filter.key.is_some().then(|| state.ownership.explain(&filter));
    let keys = state.ownership.list(&filter);
    let total = keys.len();
    let limit = limit.unwrap_or(u32::MAX).min(if facts { FACTS_MAX } else { u32::MAX });
    let keys: Vec<Owned> = keys.into_iter().skip(offset as usize).take(limit as usize).collect();
    let keys = if facts { Keys::WithFacts(state.ownership.know(keys).await) } else { Keys::Plain(keys) };
    Json(OwnershipList { seen: Seen::of(&state), total, keys, explained }).into_response()
}

/// Who comes and who goes: names with commas between them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    #[serde(default)]
    join: String,
    #[serde(default)]
    leave: String,
    #[serde(default)]
    kill: String,
}

async fn simulation(Extract(state): Extract<Arc<State>>, Query(changes): Query<Changes>) -> Response {
    let list = |names: &str| -> Vec<String> {
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let refused =
        |code: StatusCode, error: &dyn std::fmt::Display| (code, format!("{error}\n")).into_response();
    let join = (!changes.join.is_empty()).then(|| changes.join.split(','));
    let join: anyhow::Result<Vec<Newcomer>> = join.into_iter().flatten().map(Newcomer::parse).collect();
    let join = match join {
        Ok(join) => join,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error),
    };
    match state.ownership.simulate(&Plan { join, leave: list(&changes.leave), kill: list(&changes.kill) }) {
        Ok(simulation) => Json(simulation).into_response(),
        Err(error @ PlanError::Unknown(..)) => refused(StatusCode::NOT_FOUND, &error),
        Err(error @ PlanError::Known(_)) => refused(StatusCode::CONFLICT, &error),
    }
}
