//! Delivery to a real Prometheus. Not part of a plain run: `ALLOY_TEST_PROMETHEUS` names the binary (`prometheus` of the
//! path by default), `cargo test -p alloy-bin --lib remote_write::tests::real -- --ignored` runs them.

use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use http::Request;

use super::*;
use crate::http_client::{HttpClient, HttpClientOptions, read};
use crate::testing::process::free_addresses;

/// One that takes remote write.
struct Prometheus {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    async fn start(more: &[&str]) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, "{}").unwrap();
        let address = free_addresses(1).unwrap().remove(0).to_string();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(binary())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-remote-write-receiver")
            .args(more)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("ALLOY_TEST_PROMETHEUS names a Prometheus");
        let prometheus = Prometheus { process, address, _folder: folder };
        let ready = async {
            while prometheus.get("/-/ready").await.is_none_or(|(status, _)| status != 200) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("it starts");
        prometheus
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let client = HttpClient::new(&HttpClientOptions::default());
        let request =
            Request::get(format!("http://{}{path}", self.address)).body(Default::default()).unwrap();
        let response = client.send(request).await.ok()?;
        let status = response.status().as_u16();
        let body = read(response, 1 << 20).await.ok()?;
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The samples that it has of the last five minutes.
    async fn samples(&self) -> u64 {
        let query = "/api/v1/query?query=sum(count_over_time({job=%22real%22}[5m]))";
        let (_, body) = self.get(query).await.expect("it answers");
        let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        answer["data"]["result"][0]["value"][1].as_str().map_or(0, |count| count.parse().expect("a number"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary() -> String {
    std::env::var("ALLOY_TEST_PROMETHEUS").unwrap_or_else(|_| "prometheus".to_owned())
}

/// From 2.54 on it takes 2.0.
fn takes_newer() -> bool {
    let help =
        Command::new(binary()).arg("--help").output().expect("ALLOY_TEST_PROMETHEUS names a Prometheus");
    String::from_utf8_lossy(&help.stdout).contains("accepted-protobuf-messages")
}

fn scrape(lane: u64, series: std::ops::Range<u32>, timestamp_ms: i64) -> SampleBatch {
    let mut batch = SampleBatch::new(lane);
    for number in series {
        let number = number.to_string();
        batch.push([("__name__", "a_total"), ("job", "real"), ("n", &number)], timestamp_ms, 1.0);
    }
    batch.add_metadata(Metadata {
        family: "a".to_owned(),
        help: "help".to_owned(),
        unit: String::new(),
        metric_type: MetricType::Counter,
    });
    batch
}

/// Three scrapes of a hundred series; one of two hundred, of which the first is older than what it has.
async fn all_but_the_late_one_arrive(more: &[&str], message: &str, newer: bool) {
    let prometheus = Prometheus::start(more).await;
    let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let url = format!("http://{}/api/v1/write", prometheus.address);
    let endpoints = endpoints(&url, &format!("protobuf_message = {message:?}"), folder.path());
    let running = tokio::spawn({
        let (endpoints, stop) = (endpoints.clone(), stop.clone());
        async move { endpoints.all.run(stop).await }
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for age in [30_000, 20_000, 10_000] {
        endpoints.consume(&scrape(1, 0..100, now - age)).await.unwrap();
    }
    endpoints.flush().await;
    let (outbox, _) = endpoints.all.iter().next().expect("one");
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((count(&outbox.figures().sent_items), outbox.log().lag_records), (300, 0));
    assert_eq!((prometheus.samples().await, outbox.wants_newer()), (300, newer));

    let mut late = scrape(1, 0..1, now - 25_000);
    for sample in scrape(1, 1..200, now - 5_000).iter() {
        late.push_as(sample.labels, &sample);
    }
    endpoints.consume(&late).await.unwrap();
    endpoints.flush().await;
    assert_eq!(prometheus.samples().await, 300 + 199);
    let by_reason = &outbox.figures().rejected_by_reason;
    assert_eq!(count(&by_reason[crate::outbox::Rejection::OutOfOrder as usize]), 1);
    assert_eq!((count(&outbox.figures().sent_items), count(&outbox.figures().rejected_items)), (499, 1));
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
#[ignore = "needs a Prometheus"]
async fn a_real_prometheus_takes_1_0_but_what_is_too_late() {
    all_but_the_late_one_arrive(&[], "prometheus.WriteRequest", false).await;
}

#[tokio::test]
#[ignore = "needs a Prometheus"]
async fn a_real_prometheus_takes_2_0_or_gets_1_0_by_itself() {
    let newer = takes_newer();
    println!("{} takes 2.0: {newer}", binary());
    all_but_the_late_one_arrive(&[], "io.prometheus.write.v2.Request", newer).await;
    if newer {
        let only_first = ["--web.remote-write-receiver.accepted-protobuf-messages=prometheus.WriteRequest"];
        all_but_the_late_one_arrive(&only_first, "io.prometheus.write.v2.Request", false).await;
    }
}
