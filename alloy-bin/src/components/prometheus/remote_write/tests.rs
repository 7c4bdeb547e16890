//! The block's arguments: defaults, and errors that say what to do. What endpoints make of a batch.

mod real;

use std::time::Duration;

use super::arguments::Queue;
use super::*;
use crate::telemetry::{Metadata, MetricType};
use crate::testing::Receiver;

fn decode(body: &str) -> Result<Arguments, String> {
    use crate::config::{Scope, decode_block};
    use crate::syntax::{Sources, ast::Statement, parse};
    let mut sources = Sources::default();
    let id = sources.add("test.alloy", format!("prometheus.remote_write \"x\" {{\n{body}\n}}\n"));
    let (file, _) = parse(&sources, id);
    let Statement::Block(block) = &file.statements[0] else { panic!("a block") };
    decode_block(block, &Scope::default()).map_err(|errors| errors.render(&sources))
}

fn endpoint(more: &str) -> Result<Arguments, String> {
    decode(&format!("endpoint {{\nurl = \"http://a:9090/api/v1/write\"\n{more}\n}}"))
}

#[test]
fn arguments_have_the_defaults_of_the_page() {
    let arguments = endpoint("").expect("a URL is enough");
    let endpoint = &arguments.endpoints[0];
    assert_eq!(endpoint.queue, Queue::default());
    assert_eq!(endpoint.common.timeout, Duration::from_secs(30));
    assert!(arguments.external_labels.is_empty() && endpoint.rules.is_empty());
    assert_eq!((arguments.wal.limits.max_bytes, arguments.wal.limits.max_age), (None, None));
}

#[test]
fn what_alloy_has_by_default_may_be_said() {
    let said = "protobuf_message = \"prometheus.WriteRequest\"
        round_robin_dns = false
        send_exemplars = true
        send_native_histograms = false
        metadata_config {
            send = true
            send_interval = \"1m\"
            max_samples_per_send = 2000
        }
        queue_config {
            batch_send_deadline = \"5s\"
            max_shards = 50
            min_shards = 1
            max_samples_per_send = 2000
            min_backoff = \"30ms\"
            max_backoff = \"5s\"
            retry_on_http_429 = true
            sample_age_limit = \"0s\"
        }";
    assert_eq!(endpoint(said).expect("all is as it is"), endpoint("").expect("the same"));
    let aged = decode("endpoint {\nurl = \"http://a\"\n}\nwal {\nmax_keepalive_time = \"8h\"\n}");
    assert_eq!(aged.expect("an age").wal.limits.max_age, Some(Duration::from_secs(8 * 3600)));
}

#[test]
fn what_cannot_be_is_an_error_that_says_why() {
    let check = |result: Result<Arguments, String>, expected: &str| {
        let Err(errors) = result else { panic!("accepted, not refused with {expected}") };
        assert!(errors.contains(expected), "{errors}");
        assert_eq!(errors.matches("Error: ").count(), 1, "one thing is wrong: {errors}");
    };
    let message = "protobuf_message = \"io.prometheus.write.v3.Request\"";
    check(
        endpoint(message),
        "the messages are \"prometheus.WriteRequest\" and \"io.prometheus.write.v2.Request\"",
    );
    check(endpoint("send_native_histograms = 1"), "send_native_histograms");
    check(endpoint("round_robin_dns = true"), "load balancer");
    check(endpoint("metadata_config {\nsend_interval = \"0s\"\n}"), "must be above zero");
    check(endpoint("metadata_config {\nmax_samples_per_send = 0\n}"), "must be at least 1");
    check(endpoint("remote_timeout = \"0s\""), "remote_timeout must be above zero");
    check(endpoint("headers = {\"Content-Type\" = \"x\"}"), "content-type is set by the protocol");
    check(endpoint("headers = {\"a b\" = \"x\"}"), "is not a header's name");
    check(endpoint("sigv4 { }"), "known to Alloy but not supported here");
    let queue = |line: &str| endpoint(&format!("queue_config {{\n{line}\n}}"));
    check(queue("capacity = 10000"), "\"capacity\" has no meaning here: the queue is the log on disk");
    check(queue("max_shards = 0\nmin_shards = 0"), "must be at least 1");
    check(queue("max_shards = 1001"), "must not be above 1000");
    check(queue("min_shards = 51"), "min_shards must not be above max_shards");
    check(queue("max_samples_per_send = 0"), "must be at least 1");
    check(queue("min_backoff = \"0s\""), "min_backoff must be above zero");
    check(queue("max_backoff = \"1ms\""), "max_backoff must not be shorter than min_backoff");
    let wal = |line: &str| decode(&format!("endpoint {{\nurl = \"http://a\"\n}}\nwal {{\n{line}\n}}"));
    check(wal("truncate_frequency = \"2h\""), "freed as soon as the endpoint has the data");
    check(wal("min_keepalive_time = \"5m\""), "freed as soon as the endpoint has the data");
    let twice = "endpoint {\nurl = \"http://a\"\n}\nendpoint {\nurl = \"http://a\"\n}";
    check(decode(twice), "two endpoints are called");
    let alike = "endpoint {\nurl = \"http://a\"\nname = \"a/b\"\n}\nendpoint {\nurl = \"http://b\"\nname = \"a_b\"\n}";
    check(decode(alike), "give each its own name");
    check(decode(""), "missing required block \"endpoint\"");
}

#[test]
fn what_an_endpoint_wants_beside_plain_samples_is_encoded_with_and_without_rules() {
    use crate::formats::decompress;
    use crate::telemetry::{Exemplar, Extras, HistogramCounts, NativeHistogram, ResetHint, Span};
    use crate::testing::messages::WriteRequest;
    use prost::Message as _;

    let histogram = NativeHistogram {
        schema: 0,
        sum: 1.0,
        zero_threshold: 0.0,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        negative_spans: Vec::new(),
        counts: HistogramCounts::Integer { count: 1, zero_count: 0, positive: vec![1], negative: Vec::new() },
        reset_hint: ResetHint::Unknown,
        custom_values: Vec::new(),
    };
    let exemplars = vec![Exemplar { labels: Labels::new([("id", "7")]), value: 1.0, timestamp_ms: None }];
    let mut batch = SampleBatch::new(0);
    batch.push([("__name__", "a")], 10, 1.0);
    batch.add_extras(Extras { histogram: None, exemplars });
    batch.push([("__name__", "h")], 10, 1.0);
    batch.add_extras(Extras { histogram: Some(histogram), exemplars: Vec::new() });

    let check = |said: &str, expected: (usize, usize)| {
        for rules in ["", "write_relabel_config {\ntarget_label = \"b\"\nreplacement = \"c\"\n}"] {
            let arguments = endpoint(&format!("{said}\n{rules}")).expect("it is right");
            let shaping = Shaping::new(&arguments.endpoints[0], &Labels::new([("z", "1")]));
            let mut made = Made::default();
            let body = &shaping.pieces(&batch, Message::First, &mut made)[0].body;
            let request = WriteRequest::decode(decompress(body).unwrap().as_slice()).unwrap();
            let count = |of: fn(&crate::testing::messages::TimeSeries) -> usize| {
                request.timeseries.iter().map(of).sum::<usize>()
            };
            let found = (count(|series| series.exemplars.len()), count(|series| series.histograms.len()));
            assert_eq!(found, expected, "{said} {rules}");
            assert!(
                request.timeseries.iter().all(|series| series.labels.iter().any(|label| label.name == "z"))
            );
        }
    };
    check("", (1, 0));
    check("send_exemplars = false", (0, 0));
    check("send_native_histograms = true", (1, 1));
}

/// However many endpoints there are: what two of them want alike is made once.
#[test]
fn a_batch_is_encoded_once_for_all_endpoints_that_want_the_same() {
    let mut batch = SampleBatch::new(3);
    for number in 0..5 {
        batch.push([("__name__", "a"), ("n", number.to_string().as_str())], 10, 1.0);
    }
    let shaping = |said: &str| {
        Shaping::new(&endpoint(said).expect("it is right").endpoints[0], &Labels::new([("z", "1")]))
    };
    let few = "queue_config {\nmax_samples_per_send = 2\n}";
    let rules = "write_relabel_config {\ntarget_label = \"b\"\nreplacement = \"c\"\n}";
    let all = ["", few, rules, "send_exemplars = false", "", few, rules].map(shaping);
    let mut made = Made::default();
    let mut places = Vec::new();
    for shaping in &all {
        let pieces = shaping.pieces(&batch, Message::First, &mut made);
        assert_eq!(pieces.iter().map(|piece| piece.items).sum::<u32>(), 5);
        places.push((pieces.len(), pieces[0].body.as_ptr()));
    }
    assert_eq!((places[0], places[1]), (places[4], places[5]));
    assert_eq!((places[0].0, places[1].0), (1, 3));
    let mut others = vec![places[0], places[1], places[2], places[3], places[6]];
    others.sort();
    others.dedup();
    assert_eq!(others.len(), 5, "rules change what is sent, so nobody shares it");
    let newer = all[0].pieces(&batch, Message::Second, &mut made);
    assert!(is_remote_write_2(&newer[0].body) && newer[0].items == 5);
}

/// What the receiver of a component with one endpoint holds.
fn endpoints(url: &str, said: &str, storage: &Path) -> Arc<Endpoints> {
    let arguments = decode(&format!("endpoint {{\nurl = {url:?}\n{said}\n}}")).expect("it is right");
    let external = Labels::new([("z", "1")]);
    let all = arguments.endpoints.iter();
    let all = all.map(|endpoint| RemoteWrite::endpoint(endpoint, &arguments.wal, &external, storage));
    let all = Group::new(all.collect::<anyhow::Result<_>>().expect("the log can be opened"));
    Arc::new(Endpoints { id: "test".into(), all, families: Families::default() })
}

fn described(timestamp_ms: i64) -> SampleBatch {
    let mut batch = SampleBatch::new(3);
    for name in ["a_total", "b_total"] {
        batch.push([("__name__", name)], timestamp_ms, 1.0);
    }
    let metric_type = MetricType::Counter;
    for family in ["a", "b", "c"] {
        let (family, help) = (family.to_owned(), "h".to_owned());
        batch.add_metadata(Metadata { family, help, unit: String::new(), metric_type });
    }
    batch
}

const PATIENCE: Duration = Duration::from_secs(20);

/// In 1.0 all families each turn, also those without a sample; in 2.0 with each series; with `send = false` neither.
#[tokio::test]
async fn families_are_described_as_the_configuration_says() {
    let check = async |said: &str, turns: u64, described_series: u64| {
        let (receiver, folder) = (Receiver::start().await.unwrap(), tempfile::tempdir().unwrap());
        let endpoints = endpoints(&receiver.write_url(), said, folder.path());
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (endpoints, stop) = (endpoints.clone(), stop.clone());
            async move { endpoints.all.run(stop).await }
        });
        let telling = tokio::spawn({
            let endpoints = endpoints.clone();
            async move { endpoints.tell(0).await }
        });
        endpoints.consume(&described(10)).await.unwrap();
        let told = async {
            while receiver.counts().metadata < 3 * turns + described_series {
                endpoints.flush().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("it is told in time");
        telling.abort();
        let _ = telling.await;
        endpoints.flush().await;
        let counts = receiver.counts();
        assert_eq!((counts.samples, counts.malformed_requests), (2, 0), "{said}");
        // The turn that is broken off may have come and is not counted.
        let known = &endpoints.all.iter().next().expect("one").1;
        let sent = known.sent_metadata.load(Ordering::Relaxed) + described_series;
        assert!(
            (sent..=sent + 3 * turns).contains(&counts.metadata),
            "{said}: {sent} of {}",
            counts.metadata
        );
        stop.cancel();
        running.await.unwrap();
    };
    check("metadata_config {\nsend_interval = \"20ms\"\nmax_samples_per_send = 2\n}", 2, 0).await;
    check("metadata_config {\nsend_interval = \"20ms\"\nsend = false\n}", 0, 0).await;
    let newer = "protobuf_message = \"io.prometheus.write.v2.Request\"";
    check(newer, 0, 2).await;
    check(&format!("{newer}\nmetadata_config {{\nsend = false\n}}"), 0, 0).await;
}
