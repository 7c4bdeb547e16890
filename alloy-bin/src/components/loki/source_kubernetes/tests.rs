//! One container, with an API server that follows a script.

use std::sync::Mutex;

use tokio::sync::Notify;

use super::*;
use crate::graph::{ConsumeError, Consumer};
use crate::testing::Scripted;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Receiver {
    taken: Mutex<Vec<String>>,
    changed: Notify,
}

#[async_trait]
impl Consumer<LogBatch> for Receiver {
    async fn consume(&self, batch: &LogBatch) -> Result<(), ConsumeError> {
        let entries = batch.streams.iter().flat_map(|stream| &stream.entries);
        let lines = entries.map(|entry| String::from_utf8(entry.line.to_vec()).unwrap());
        self.taken.lock().unwrap().extend(lines);
        self.changed.notify_one();
        Ok(())
    }
}

fn pod(restarts: u32) -> String {
    format!(
        r#"{{"metadata": {{"name": "p", "uid": "u"}}, "status": {{"phase": "Running", "containerStatuses": [
            {{"name": "x", "restartCount": 9, "state": {{"waiting": {{}}}}}},
            {{"name": "c", "restartCount": {restarts}, "state": {{"running": {{"startedAt": "t"}}}}}}]}}}}"#
    )
}

fn lines(numbers: &[(u32, u32)]) -> String {
    let line = |(number, at): &(u32, u32)| format!("2023-11-14T22:13:20.{at:09}Z line {number}\n");
    numbers.iter().map(line).collect()
}

#[tokio::test]
async fn a_log_is_read_on_at_the_line_over_ends_of_streams_and_of_containers() {
    let since = "&sinceTime=2023-11-14T22%3A13%3A20Z";
    let path = "/api/v1/namespaces/n/pods/p";
    let server = Scripted::start([
        (path, 200, pod(0)),
        ("/log?container=c&timestamps=true&follow=true", 200, lines(&[(1, 5), (2, 6), (3, 6)])),
        (path, 200, pod(0)),
        (since, 200, lines(&[(1, 5), (2, 6), (3, 6), (4, 6)]) + "the kubelet cannot go on"),
        // It has written a line, and was started anew.
        (path, 200, pod(1)),
        ("previous=true&sinceTime=", 200, lines(&[(1, 5), (2, 6), (3, 6), (4, 6), (5, 7)])),
        ("follow=true&sinceTime=", 200, lines(&[(6, 8)])),
        (path, 200, pod(1)),
        (since, 503, "later".to_owned()),
        (path, 200, pod(1)),
        (since, 200, lines(&[(6, 8), (7, 9)])),
    ]);
    let server = server.await.unwrap();
    let api = Api::shared(&Access::at(&server.url())).unwrap();
    let target = [
        ("__pod_namespace__", "n"),
        ("__pod_name__", "p"),
        ("__pod_container_name__", "c"),
        ("__pod_uid__", "u"),
    ];
    let target =
        Target(target.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let (key, container) = containers(&[target], "id").pop_first().unwrap();
    let receiver = Arc::new(Receiver::default());
    let (events, mut heard) = mpsc::channel(100);
    let stop = CancellationToken::new();
    let follower = Follower {
        api,
        component: "id".into(),
        key,
        labels: watch::Sender::new(container.labels.clone()).subscribe(),
        container,
        fanout: Fanout::new(vec![receiver.clone() as LogsReceiver]),
        figures: Arc::default(),
        begins: Arc::new(Semaphore::new(1)),
        events,
        stop: stop.clone(),
        tenure: None,
        position: None,
        repeats: Default::default(),
        sequence: 0,
    };
    let follower = tokio::spawn(follower.run());
    let wait = async {
        while receiver.taken.lock().unwrap().len() < 7 {
            receiver.changed.notified().await;
        }
    };
    let is_done = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    let expected: Vec<String> = (1..=7).map(|number| format!("line {number}")).collect();
    assert_eq!(*receiver.taken.lock().unwrap(), expected, "{is_done} {:?}", server.mistakes());
    assert_eq!(server.mistakes(), [""; 0]);
    stop.cancel();
    let (_, position) = follower.await.unwrap();
    let last_ns = 1_700_000_000_000_000_009;
    assert_eq!(position, Some(Position { last_ns, nth: 1, max_ns: last_ns, restarts: 1 }));
    let mut troubles = Vec::new();
    while let Ok(event) = heard.try_recv() {
        if let Event::Trouble { trouble: Some(error), .. } = event {
            troubles.push(error);
        }
    }
    assert_eq!(troubles, ["the API server says 503: later"]);
}
