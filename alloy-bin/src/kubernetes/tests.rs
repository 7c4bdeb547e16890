//! Stores and their watchers with an API server that follows a script.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Deserialize;

use super::*;
use crate::testing::Scripted;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Deserialize)]
struct Thing {
    metadata: Meta,
    #[serde(default)]
    size: u32,
}

impl Object for Thing {
    const GROUP: &'static str = "/api/v1";
    const PLURAL: &'static str = "things";

    fn meta(&mut self) -> &mut Meta {
        &mut self.metadata
    }
}

fn thing(name: &str, version: u32, size: u32) -> String {
    format!(
        r#"{{"metadata": {{"name": "{name}", "namespace": "n", "resourceVersion": "{version}"}}, "size": {size}, "more": [1]}}"#
    )
}

fn list(version: u32, token: &str, things: &[String]) -> String {
    let things = things.join(",");
    format!(
        r#"{{"metadata": {{"resourceVersion": "{version}", "continue": "{token}"}}, "items": [{things}]}}"#
    )
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\": \"{kind}\", \"object\": {object}}}\n")
}

async fn api(lines: impl IntoIterator<Item = (&'static str, u16, String)>) -> (Arc<Api>, Scripted) {
    let server = Scripted::start(lines).await.unwrap();
    (Api::shared(&Access::at(&server.url())).unwrap(), server)
}

/// Waits until the store has these objects, by name and size.
async fn wait_for(api: &Api, store: &Store<Thing>, expected: &[(&str, u32)]) {
    let mut changes = api.changes();
    let found = || -> Vec<(String, u32)> {
        store.all().iter().map(|(key, thing)| (key.to_string(), thing.size)).collect()
    };
    let expected: Vec<(String, u32)> =
        expected.iter().map(|(name, size)| (format!("n/{name}"), *size)).collect();
    let wait = async {
        while !store.is_complete() || found() != expected {
            changes.changed().await.unwrap();
        }
    };
    let is_done = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    assert!(is_done, "waited in vain for {expected:?}: {:?} {:?}", found(), store.trouble());
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_and_lists_anew_when_that_is_forgotten() {
    let bookmark = r#"{"kind": "Thing", "metadata": {"resourceVersion": "9", "creationTimestamp": null}}"#;
    let gone = r#"{"kind": "Status", "code": 410, "message": "too old"}"#;
    let first = event("MODIFIED", &thing("a", 7, 2)) + &event("BOOKMARK", bookmark);
    let second = event("DELETED", &thing("b", 10, 1)) + &event("ADDED", &thing("c", 11, 1));
    let lines = [
        ("/api/v1/things?limit=500", 200, list(5, "x&y", &[thing("a", 1, 1)])),
        ("/api/v1/things?limit=500&continue=x%26y", 200, list(5, "", &[thing("b", 2, 1)])),
        ("watch=true&allowWatchBookmarks=true&resourceVersion=5&", 200, first),
        ("&resourceVersion=9&", 200, second),
        // As a status, and in the stream.
        ("&resourceVersion=11&", 410, gone.to_owned()),
        ("?limit=500", 200, list(20, "", &[thing("c", 11, 1), thing("d", 15, 1)])),
        ("&resourceVersion=20&", 200, event("ERROR", gone)),
        ("?limit=500", 200, list(30, "", &[thing("d", 15, 1), thing("e", 28, 1)])),
        ("&resourceVersion=30&", 500, "trouble".to_owned()),
        ("&resourceVersion=30&", 200, event("ADDED", &thing("f", 31, 1))),
    ];
    let (api, server) = api(lines).await;
    let store = api.store::<Thing>(Selection::default());
    wait_for(&api, &store, &[("d", 1), ("e", 1), ("f", 1)]).await;
    let Tally { added, updated, deleted } = store.tally();
    let tally = [added, updated, deleted].map(|count| count.load(Relaxed));
    assert_eq!(tally, [6, 1, 3], "a b c d e f came, a changed, a b c went");
    assert_eq!(store.trouble(), None);
    assert_eq!(server.mistakes(), [""; 0]);
}

#[tokio::test]
async fn what_nobody_needs_is_no_change() {
    let selection = Selection { namespace: "n".into(), labels: "a in (b)".into(), fields: "x=y".into() };
    let changes = event("MODIFIED", &thing("a", 6, 1)) + &event("ADDED", &thing("b", 7, 1));
    let lines = [
        // What a field selects comes from the server's memory.
        (
            "/namespaces/n/things?labelSelector=a%20in%20%28b%29&fieldSelector=x%3Dy&resourceVersion=0",
            200,
            list(5, "", &[thing("a", 1, 1)]),
        ),
        ("fieldSelector=x%3Dy&watch=true&allowWatchBookmarks=true&resourceVersion=5&", 200, changes),
    ];
    let (api, server) = api(lines).await;
    let store = api.store::<Thing>(selection.clone());
    wait_for(&api, &store, &[("a", 1)]).await;
    let before = store.get("n/a").unwrap();
    wait_for(&api, &store, &[("a", 1), ("b", 1)]).await;
    assert!(Arc::ptr_eq(&before, &store.get("n/a").unwrap()));
    assert_eq!(store.generation(), 2);
    assert_eq!(server.mistakes(), [""; 0]);
    // Who looks at the same shares the watch.
    assert!(Arc::ptr_eq(&store, &api.store::<Thing>(selection)));
    assert!(!Arc::ptr_eq(&store, &api.store::<Thing>(Selection::default())));
    assert!(Arc::ptr_eq(&api, &Api::shared(&Access::at(&server.url())).unwrap()));
}
