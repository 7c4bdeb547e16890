//! `/-/support`: what a maintainer asks for first, in one archive with the names of Alloy's. No secret is in it: everything comes
//! from where secrets are hidden already, and configurations come without the texts in them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Query;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::Mutex;
use tower_service::Service;

use super::components::Component;
use super::routes::State;
use super::zip::Zip;
use crate::config::without_password;

/// The folder in the archive.
const FOLDER: &str = "alloy-support-bundle";
/// What is asked of the agent's own API for each file. An answer of 4 GiB would not fit; 10,000 keys have 3 MiB.
const FILES: [(&str, &str); 6] = [
    ("alloy-components.json", "/api/v0/web/components"),
    ("alloy-peers.json", "/api/v0/web/peers"),
    ("alloy-cluster.json", "/api/v0/cluster/members"),
    ("alloy-ownership.json", "/api/v0/cluster/ownership?limit=10000"),
    ("alloy-health.txt", "/-/healthy"),
    ("alloy-metrics-sample-end.txt", "/metrics"),
];
/// Variables that change what the agent does, beside those of its flags.
const VARIABLES: [&str; 11] = [
    "HOSTNAME",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "RUST_BACKTRACE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TOKIO_WORKER_THREADS",
];
/// For how long figures and log are followed.
const SECONDS_DEFAULT: u64 = 30;
const SECONDS_MAX: u64 = 300;

/// What the archive has beside the API's answers.
pub struct Support {
    /// Each flag with its value.
    pub flags: Vec<String>,
    /// What the agent has said last.
    pub recent_log: Box<dyn Fn() -> String + Send + Sync>,
    /// When it was started.
    pub started: Instant,
}

#[derive(Deserialize)]
struct Wanted {
    duration: Option<u64>,
}

/// The route, which asks the others.
pub(super) fn with_support(routes: Router, state: &Arc<State>) -> Router {
    let Some(support) = state.support.clone() else {
        let off = async || (StatusCode::FORBIDDEN, "--server.http.disable-support-bundle is set\n");
        return routes.route("/-/support", axum::routing::get(off));
    };
    let (api, state, turn) = (routes.clone(), state.clone(), Arc::<Mutex<()>>::default());
    let answer = move |Query(wanted): Query<Wanted>| async move {
        let seconds = wanted.duration.unwrap_or(SECONDS_DEFAULT);
        if !(1..=SECONDS_MAX).contains(&seconds) {
            let why = format!("duration is a number of seconds from 1 to {SECONDS_MAX}\n");
            return (StatusCode::BAD_REQUEST, why).into_response();
        }
        let Ok(_turn) = turn.try_lock() else {
            return (StatusCode::SERVICE_UNAVAILABLE, "a bundle is being made already\n").into_response();
        };
        let archive = bundle(api, &state, &support, Duration::from_secs(seconds)).await;
        let headers = [
            (header::CONTENT_TYPE, "application/zip"),
            (header::CONTENT_DISPOSITION, "attachment; filename=\"alloy-support-bundle.zip\""),
            (header::CACHE_CONTROL, "no-store"),
        ];
        (headers, archive).into_response()
    };
    routes.route("/-/support", axum::routing::get(answer))
}

async fn bundle(api: Router, state: &State, support: &Support, duration: Duration) -> Vec<u8> {
    let mut files = vec![("alloy-metrics-sample-start.txt".to_owned(), state.page().into_bytes())];
    tokio::time::sleep(duration).await;
    for (name, path) in FILES {
        files.push((name.to_owned(), ask(api.clone(), path).await));
    }
    for id in state.components.list().iter().map(Component::id) {
        let details = state.components.details(&id);
        let details = serde_json::to_vec_pretty(&details).unwrap_or_default();
        files.push((format!("components/{id}.json"), details));
    }
    let sources = state.components.sources().into_iter();
    files.extend(sources.map(|(name, text)| (format!("sources/{name}"), text.into_bytes())));
    let mut add = |name: &str, text: String| files.push((name.to_owned(), text.into_bytes()));
    add("alloy-metadata.yaml", metadata(state, support));
    add("alloy-runtime-flags.txt", support.flags.join("\n"));
    add("alloy-environment.txt", environment(|name| std::env::var(name).ok()));
    add("alloy-logs.txt", (support.recent_log)());
    // Compressing takes a moment.
    let pack = move || {
        let mut zip = Zip::default();
        files.iter().for_each(|(name, content)| zip.add(&format!("{FOLDER}/{name}"), content));
        zip.finish()
    };
    tokio::task::spawn_blocking(pack).await.unwrap_or_default()
}

/// The body of an answer, whatever its status.
async fn ask(mut api: Router, path: &str) -> Vec<u8> {
    let Ok(request) = Request::get(path).body(Body::empty()) else { return Vec::new() };
    let Ok(answer): Result<Response, _> = api.call(request).await;
    to_bytes(answer.into_body(), usize::MAX).await.unwrap_or_default().into()
}

fn metadata(state: &State, support: &Support) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let uptime = support.started.elapsed().as_secs_f64();
    let node = state.ownership.me();
    format!(
        "build_version: {version:?}\nos: {os}\narchitecture: {architecture}\nuptime: {uptime}\nnode: {node:?}\n"
    )
}

/// The variables that are set. Proxies may have passwords, also without a scheme.
fn environment(variable: impl Fn(&str) -> Option<String>) -> String {
    let line = |name: &&str| {
        let value = variable(name)?;
        let shown = match value.split_once("://") {
            Some(_) => without_password(&value),
            None => without_password(&format!("http://{value}")).split_off("http://".len()),
        };
        Some(format!("{name}={shown}"))
    };
    VARIABLES.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_proxies_are_hidden() {
        let set = |name: &str| match name {
            "HTTP_PROXY" => Some("http://me:never@proxy:1".to_owned()),
            "https_proxy" => Some("me:never@proxy:1".to_owned()),
            "NO_PROXY" => Some("a,.b".to_owned()),
            _ => None,
        };
        assert_eq!(
            environment(set),
            "HTTP_PROXY=http://me:(secret)@proxy:1\nhttps_proxy=me:(secret)@proxy:1\nNO_PROXY=a,.b"
        );
    }
}
