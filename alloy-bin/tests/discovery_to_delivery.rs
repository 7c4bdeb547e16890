//! Targets from a URL with a password, rewritten, scraped, their series rewritten twice, and delivered.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_bin::telemetry::STALE_NAN;
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use alloy_bin::testing::{Receiver, Recorded, Targets};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the server of targets says: a status and a body.
type Answer = Arc<Mutex<(u16, String)>>;

/// Answers 401 without the password.
async fn server_of_targets(answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n")
                && stream.read_line(&mut head).await.is_ok_and(|bytes| bytes > 0)
            {}
            // echo -n me:pass | base64
            let (status, body) = match head.contains("Basic bWU6cGFzcw==") {
                true => answer.lock().expect("no test panics while holding it").clone(),
                false => (401, String::new()),
            };
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// A list of these targets in one group.
fn list(targets: &Targets, indexes: &[usize]) -> String {
    let groups = indexes.iter().map(|index| {
        let path = format!("/t/{index}/metrics");
        serde_json::json!({ "targets": [targets.address().to_string()],
            "labels": { "__metrics_path__": path, "__meta_number": index.to_string(), "team": "Blue" } })
    });
    serde_json::Value::Array(groups.collect()).to_string()
}

fn configuration(discovery: SocketAddr, receiver: &Receiver) -> String {
    format!(
        r#"
discovery.http "all" {{
  url              = "http://{discovery}/targets"
  refresh_interval = "100ms"
  basic_auth {{
    username = "me"
    password = "pass"
  }}
}}

discovery.relabel "all" {{
  targets = discovery.http.all.targets
  rule {{
    source_labels = ["__meta_number"]
    target_label  = "instance"
    replacement   = "target-$1"
  }}
  rule {{
    action        = "drop"
    source_labels = ["__meta_number"]
    regex         = "2"
  }}
  rule {{
    action        = "lowercase"
    source_labels = ["team"]
    target_label  = "team"
  }}
}}

prometheus.scrape "all" {{
  targets         = discovery.relabel.all.output
  forward_to      = [prometheus.relabel.all.receiver]
  scrape_interval = "500ms"
  scrape_timeout  = "500ms"

  extra_metrics               = true
  honor_metadata              = false
  label_limit                 = 10
  label_value_length_limit    = 100
  metric_name_escaping_scheme = "dots"
  target_limit                = 2
  track_timestamps_staleness  = true

  clustering {{
    enabled         = true
    excluded_labels = ["team"]
  }}
}}

prometheus.relabel "all" {{
  forward_to = [prometheus.remote_write.all.receiver]
  rule {{
    action        = "drop"
    source_labels = ["__name__", "index"]
    regex         = "test_gauge;1|scrape_.*"
  }}
  rule {{
    source_labels = ["__name__"]
    regex         = "test_(.*)"
    target_label  = "__name__"
  }}
}}

prometheus.remote_write "all" {{
  external_labels = {{ zone = "z1", team = "never wins" }}
  endpoint {{
    url = {write:?}
    queue_config {{
      batch_send_deadline = "50ms"
    }}
    write_relabel_config {{
      source_labels = ["zone", "team"]
      separator     = "/"
      target_label  = "place"
    }}
    write_relabel_config {{
      action = "labeldrop"
      regex  = "zone|target"
    }}
  }}
}}
"#,
        write = receiver.write_url(),
    )
}

async fn until(receiver: &Receiver, agent: &Process, what: &str, reached: impl Fn(&Recorded) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = receiver.counts().samples;
        if receiver.inspect(&reached) {
            return;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let more = receiver.wait_for(left, |counts| counts.samples > seen).await;
        assert!(more.is_ok(), "not in time: {what}\n{}", agent.last_words(30));
    }
}

/// How many samples of that series have arrived, and how many of them are markers.
fn arrived(recorded: &Recorded, labels: &[(&str, &str)]) -> (usize, usize) {
    let samples: Vec<f64> = recorded
        .series_with(labels)
        .flat_map(|(_, series)| series.arrivals.iter().map(|arrival| arrival.value()))
        .collect();
    (samples.len(), samples.iter().filter(|value| value.to_bits() == STALE_NAN.to_bits()).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_and_series_are_rewritten_on_their_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receiver = Receiver::start().await.expect("a free port");
    let targets = Targets::start(3, 3).await.expect("a free port");
    let answer: Answer = Arc::new(Mutex::new((200, list(&targets, &[0, 1, 2]))));
    let discovery = server_of_targets(answer.clone()).await;
    let config = folder.path().join("main.alloy");
    std::fs::write(&config, configuration(discovery, &receiver)).expect("a writable folder");
    let address = free_addresses(1).expect("a free port")[0];
    let flags = Flags { config, folder: folder.path().to_owned(), name: "agent", address, join: &[] };
    let program = Path::new(env!("CARGO_BIN_EXE_alloy")).to_owned();
    let mut agent = Process::start(Start::new(program, &flags)).expect("it starts");

    let series = |name: &'static str, instance: &'static str| {
        [("__name__", name), ("instance", instance), ("place", "z1/blue"), ("team", "blue")]
    };
    for instance in ["target-0", "target-1"] {
        for name in ["up", "gauge", "scrapes_total"] {
            until(&receiver, &agent, name, |recorded| arrived(recorded, &series(name, instance)).0 >= 2)
                .await;
        }
    }
    receiver.inspect(|recorded| {
        for absent in [
            ("__name__", "test_gauge"),
            ("__name__", "scrape_duration_seconds"),
            ("index", "1"),
            ("zone", "z1"),
        ] {
            assert_eq!(arrived(recorded, &[absent]).0, 0, "{absent:?}");
        }
        assert_eq!(arrived(recorded, &[("instance", "target-2")]).0, 0);
    });

    // The server of targets fails: what was found goes on.
    *answer.lock().expect("no test panics while holding it") = (500, String::new());
    let failures = |agent: &Process| {
        let page = agent.get("/metrics").expect("it answers");
        let line = page
            .lines()
            .find(|line| line.starts_with("prometheus_sd_http_failures_total{"))
            .map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let deadline = Instant::now() + PATIENCE;
    while failures(&agent) < 3 {
        assert!(Instant::now() < deadline, "failures are not counted\n{}", agent.last_words(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = receiver.inspect(|recorded| arrived(recorded, &series("up", "target-1")));
    assert_eq!(now.1, 0, "a failure ends no series");
    until(&receiver, &agent, "more", |recorded| arrived(recorded, &series("up", "target-1")).0 > now.0 + 1)
        .await;

    // A target is gone: its series end under the names that they were delivered with.
    *answer.lock().expect("no test panics while holding it") = (200, list(&targets, &[0]));
    for name in ["up", "scrapes_total"] {
        until(&receiver, &agent, name, |recorded| arrived(recorded, &series(name, "target-1")).1 == 1).await;
    }
    receiver.inspect(|recorded| assert_eq!(arrived(recorded, &[("instance", "target-0")]).1, 0));
    let page = agent.get("/metrics").expect("it answers");
    assert!(
        page.contains(
            "prometheus_sd_discovered_targets{component_id=\"discovery.http.all\",component_path=\"/\"} 1\n"
        ),
        "{page}"
    );
    assert!(!agent.last_words(usize::MAX).contains("pass"), "a secret was printed");
    let status = agent.terminate(PATIENCE).expect("it ends when asked to");
    assert!(status.success(), "{status}");
}
