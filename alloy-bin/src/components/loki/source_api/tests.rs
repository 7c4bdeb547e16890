//! The component as its senders see it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Scope, decode_block};
use crate::formats::{LokiPushEncoder, compress};
use crate::graph::{ConsumeError, Consumer, LogsReceiver};
use crate::syntax::{Sources, ast::Statement, parse};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream, TENANT_LABEL};

fn arguments(inside: &str) -> Result<Arguments, String> {
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", format!("loki.source.api \"a\" {{\nforward_to = []\n{inside}\n}}"));
    let (file, _) = parse(&sources, id);
    let Statement::Block(block) = &file.statements[0] else { panic!("it is a block") };
    decode_block(block, &Scope::default()).map_err(|diagnostics| diagnostics.render(&sources))
}

/// Takes a batch for each permit; without permits it is full, or holds on to the batch until there is one.
struct Taker {
    permits: Semaphore,
    waits: bool,
    came: Notify,
    taken: Mutex<Vec<LogBatch>>,
}

#[async_trait]
impl Consumer<LogBatch> for Taker {
    async fn consume(&self, batch: &LogBatch) -> Result<(), ConsumeError> {
        self.came.notify_one();
        let permit =
            if self.waits { self.permits.acquire().await.ok() } else { self.permits.try_acquire().ok() };
        let Some(permit) = permit else {
            return Err(ConsumeError::Full { by: "taker".to_owned(), reason: "no permit".to_owned() });
        };
        permit.forget();
        self.taken.lock().unwrap().push(batch.clone());
        Ok(())
    }
}

/// A line as it was taken: labels, timestamp, text, metadata.
type Line = (String, i64, String, Option<Labels>);

struct Api {
    address: SocketAddr,
    taker: Arc<Taker>,
    component: Arc<SourceApi>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Api {
    async fn start(inside: &str) -> Api {
        Api::with(
            inside,
            Taker {
                permits: Semaphore::new(1000),
                waits: false,
                came: Notify::new(),
                taken: Mutex::default(),
            },
        )
        .await
    }

    async fn with(inside: &str, taker: Taker) -> Api {
        let taker = Arc::new(taker);
        let mut arguments = arguments(inside).unwrap_or_else(|error| panic!("{error}"));
        arguments.forward_to = vec![taker.clone() as LogsReceiver];
        let (listen, protection, now) = taken_apart(arguments).unwrap();
        let (id, health): (Arc<str>, _) = ("loki.source.api.a".into(), Health::default());
        let intake = Arc::new(Intake::new(&id, health.clone(), now));
        let front = Arc::new(Front::new(protection));
        let component = Arc::new(SourceApi { id, health, listen, front, intake });
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.address().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (component, stop) = (component.clone(), stop.clone());
            async move { component.serve(listener, stop).await }
        });
        Api { address, taker, component, stop, serving }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let length = body.len().to_string();
        let all = [&[("content-length", length.as_str()), ("connection", "close")], headers].concat();
        let head: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut request = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n").into_bytes();
        request.extend_from_slice(body);
        self.say(&request).await
    }

    /// The status, and the rest of the answer.
    async fn say(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The answer may come before all was sent.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}"));
        (status.parse().unwrap(), answer)
    }

    fn lines(&self) -> Vec<Line> {
        let taken = self.taker.taken.lock().unwrap();
        let streams = taken.iter().flat_map(|batch| &batch.streams);
        let line = |stream: &LogStream, entry: &LogEntry| {
            let text = String::from_utf8(entry.line.to_vec()).unwrap();
            (stream.labels.as_ref().to_string(), entry.timestamp_ns, text, entry.metadata.clone())
        };
        streams.flat_map(|stream| stream.entries.iter().map(move |entry| line(stream, entry))).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.lines().into_iter().map(|(_, _, text, _)| text).collect()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const PUSH: &str = "/loki/api/v1/push";
const RAW: &str = "/loki/api/v1/raw";
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const INCOMING: &str = "use_incoming_timestamp = true";

fn json(text: &str) -> Vec<u8> {
    format!(r#"{{"streams": [{{"stream": {{"app": "a"}}, "values": [["7", "{text}"]]}}]}}"#).into_bytes()
}

fn protobuf(labels: &[(&str, &str)], lines: &[&'static str]) -> Vec<u8> {
    let entries = lines.iter().zip(7..).map(|(line, at)| LogEntry::new(at, *line)).collect();
    let streams = vec![LogStream { labels: Labels::new(labels.iter().copied()), entries }];
    let mut plain = Vec::new();
    LokiPushEncoder::new(&Labels::new::<&str, &str>([]))
        .encode(&LogBatch { streams, ..LogBatch::default() }, &mut plain);
    compress(&plain)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(plain).unwrap();
    packer.finish().unwrap()
}

#[tokio::test]
async fn every_form_of_a_push_is_taken() {
    let api = Api::start(INCOMING).await;
    let pushed = protobuf(&[("app", "a")], &["1"]);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    deflate.write_all(&json("4")).unwrap();
    let deflated = deflate.finish().unwrap();
    let snappy = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
    for (path, headers, body) in [
        (PUSH, snappy.as_slice(), pushed.clone()),
        ("/api/v1/push", &[], pushed.clone()),
        (PUSH, &[("content-encoding", "gzip")], gzip(&pushed)),
        (PUSH, &[JSON], json("2")),
        (PUSH, &[JSON, ("content-encoding", "gzip")], gzip(&json("3"))),
        (PUSH, &[JSON, ("content-encoding", "deflate")], deflated),
    ] {
        assert_eq!(api.post(path, headers, &body).await.0, 204, "{path} {headers:?}");
    }
    assert_eq!(api.texts(), ["1", "1", "1", "2", "3", "4"]);
    assert!(api.lines().iter().all(|(labels, at, _, _)| labels == "{app=\"a\"}" && *at == 7));
    let (status, ready) = api.say(b"GET /ready HTTP/1.0\r\n\r\n").await;
    assert!(status == 200 && ready.ends_with("\r\n\r\nready"), "{ready}");
    assert_eq!(api.post("/api/prom/push", &[], &pushed).await.0, 404);
}

#[tokio::test]
async fn lines_without_ends_that_are_empty_are_none_and_each_has_its_own_time() {
    let api = Api::start(&format!("{INCOMING}\nlabels = {{job = \"raw\"}}")).await;
    assert_eq!(api.post(RAW, &[], b"a\r\n\n\xffb\nsame\nsame").await.0, 204);
    assert_eq!(api.post("/api/v1/raw", &[("content-encoding", "gzip")], &gzip(b"same\n")).await.0, 204);
    assert_eq!(api.texts(), ["a", "\u{fffd}b", "same", "same", "same"]);
    let times: Vec<i64> = api.lines().iter().map(|(_, at, _, _)| *at).collect();
    assert!(times.is_sorted_by(|a, b| a < b) && times[0] > 1_700_000_000_000_000_000, "{times:?}");
    assert!(api.lines().iter().all(|(labels, ..)| labels == "{job=\"raw\"}"));
}

#[tokio::test]
async fn labels_rules_and_the_tenant_make_the_stream() {
    let api = Api::start("labels = {app = \"ours\", env = \"x\"}").await;
    let own = [("app", "theirs"), ("__meta", "m"), ("z", "z"), (TENANT_LABEL, "of nobody")];
    let tenant = [("X-Scope-OrgID", "team-a")];
    assert_eq!(api.post(PUSH, &tenant, &protobuf(&own, &["1"])).await.0, 204);
    let expected = format!("{{{TENANT_LABEL}=\"team-a\", app=\"ours\", env=\"x\", z=\"z\"}}");
    let (labels, at, ..) = api.lines().remove(0);
    assert_eq!(labels, expected);
    assert!(at > 1_700_000_000_000_000_000, "the sender's time is not used");
    for name in ["a|b", "..", "é", "a/b", &"x".repeat(151)] {
        let (status, answer) = api.post(PUSH, &[("X-Scope-OrgID", name)], &protobuf(&own, &["1"])).await;
        assert!(status == 400 && answer.contains("is no name of one tenant"), "{answer}");
    }
    assert_eq!(api.lines().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_or_too_large_is_said_and_nothing_of_it_is_taken() {
    let api = Api::start("max_send_message_size = \"1MiB\"").await;
    let zeros = vec![0; 2 << 20];
    let gzip_header = ("content-encoding", "gzip");
    for (headers, body, status, reason) in [
        (&[][..], b"no snappy".to_vec(), 400, "the body is no block of snappy"),
        (&[], compress(b"no protobuf"), 400, "is no protobuf of a push"),
        (&[], compress(&zeros), 413, "more than 1048576 bytes (max_send_message_size)"),
        (&[], compress(&b"\x0a\x00".repeat(2000)), 413, "more than 1000 streams"),
        (&[], zeros.clone(), 413, "more than 1048576 bytes"),
        (&[gzip_header], gzip(&zeros), 413, "more than 1048576 bytes"),
        (&[JSON, gzip_header], gzip(&zeros), 413, "more than 1048576 bytes"),
        (&[JSON, gzip_header], b"no gzip".to_vec(), 400, "can't be unpacked"),
        (&[JSON], b"{".to_vec(), 400, "is no JSON of a push"),
        (&[("content-encoding", "br")], b"x".to_vec(), 415, "\"br\" is not supported"),
        (&[], protobuf(&[], &["x"]), 400, "a stream without labels"),
    ] {
        let (got, answer) = api.post(PUSH, headers, &body).await;
        assert!(got == status && answer.contains(reason), "{status} {reason}: {answer}");
    }
    // Nobody says before how long a body in chunks is.
    let chunk = [format!("{:x}\r\n", zeros.len()).as_bytes(), &zeros, b"\r\n0\r\n\r\n"].concat();
    let head =
        format!("POST {PUSH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    assert_eq!(api.say(&[head.as_bytes(), &chunk].concat()).await.0, 413);
    assert!(api.lines().is_empty());
    assert_eq!(api.post(PUSH, &[], &protobuf(&[("a", "b")], &["x"])).await.0, 204, "it goes on");
}

#[tokio::test]
async fn a_stream_with_wrong_labels_is_named_and_the_others_are_taken() {
    let api = Api::start("").await;
    let body = br#"{"streams": [{"stream": {"a-b": "c"}, "values": [["1", "x"]]}, {"stream": {"a": "b"}, "values": [["1", "y"]]}]}"#;
    let (status, answer) = api.post(PUSH, &[JSON], body).await;
    assert!(status == 400 && answer.contains("\"a-b\" is no name of a label"), "{answer}");
    assert_eq!(api.texts(), ["y"]);
}

#[tokio::test]
async fn a_receiver_without_room_is_said_to_the_sender_and_shown() {
    let full =
        Taker { permits: Semaphore::new(0), waits: false, came: Notify::new(), taken: Mutex::default() };
    let api = Api::with("", full).await;
    let body = protobuf(&[("a", "b")], &["x"]);
    let (status, answer) = api.post(PUSH, &[], &body).await;
    assert!(status == 503 && answer.contains("retry-after: 2") && answer.contains("no permit"), "{answer}");
    assert_eq!(api.component.health.trouble().as_deref(), Some("taker has no room: no permit"));
    api.taker.permits.add_permits(1);
    assert_eq!(api.post(PUSH, &[], &body).await.0, 204);
    assert_eq!(api.component.health.trouble(), None);
    assert_eq!(api.texts(), ["x"]);
    let mut page = Page::default();
    api.component.collect(&mut page);
    let page = page.render();
    for line in [
        "loki_source_api_request_duration_seconds_count{status_code=\"503\"} 1",
        "loki_source_api_request_duration_seconds_count{status_code=\"204\"} 1",
        "loki_source_api_inflight_requests 0",
        "loki_source_api_entries_written 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

fn waiting() -> Taker {
    Taker { permits: Semaphore::new(0), waits: true, came: Notify::new(), taken: Mutex::default() }
}

#[tokio::test]
async fn a_request_that_is_being_handed_on_is_answered_though_the_component_stops() {
    let api = Arc::new(Api::with("", waiting()).await);
    let posting = tokio::spawn({
        let api = api.clone();
        async move { api.post(PUSH, &[], &protobuf(&[("a", "b")], &["x"])).await.0 }
    });
    api.taker.came.notified().await;
    api.stop.cancel();
    while TcpStream::connect(api.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!api.serving.is_finished());
    api.taker.permits.add_permits(1);
    assert_eq!(posting.await.unwrap(), 204);
    let mut api = Arc::into_inner(api).expect("nobody posts");
    (&mut api.serving).await.unwrap();
    assert_eq!(api.texts(), ["x"]);
}

#[tokio::test]
async fn who_waits_too_long_for_the_receivers_is_sent_away() {
    let api = Api::with("http {\nserver_write_timeout = \"50ms\"\n}", waiting()).await;
    let (status, answer) = api.post(PUSH, &[], &protobuf(&[("a", "b")], &["x"])).await;
    assert!(status == 503 && answer.contains("server_write_timeout"), "{answer}");
    let unsent = format!("POST {PUSH} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nconnection: close\r\n\r\n");
    let api = Api::start("http {\nserver_read_timeout = \"50ms\"\n}").await;
    let (status, answer) = api.say(unsent.as_bytes()).await;
    assert!(status == 503 && answer.contains("server_read_timeout"), "{answer}");
}

#[tokio::test]
async fn streams_keep_their_lane_and_new_arguments_their_port() {
    let api = Api::start("").await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let stream = |name| format!(r#"{{"stream": {{"a": "{name}"}}, "values": [["1", "{name}"]]}}"#);
    let all = format!("{{\"streams\": [{}]}}", names.map(stream).join(","));
    for _ in 0..2 {
        assert_eq!(api.post(PUSH, &[JSON], all.as_bytes()).await.0, 204);
    }
    let mut lanes = std::collections::BTreeMap::new();
    for batch in &*api.taker.taken.lock().unwrap() {
        for stream in &batch.streams {
            assert_eq!(*lanes.entry(stream.labels.clone()).or_insert(batch.lane), batch.lane);
        }
    }
    assert_eq!(lanes.len(), names.len());
    assert!(lanes.values().collect::<std::collections::BTreeSet<_>>().len() > 1, "{lanes:?}");

    let mut other = arguments("labels = {new = \"1\"}").unwrap_or_else(|error| panic!("{error}"));
    other.forward_to = vec![api.taker.clone() as LogsReceiver];
    api.component.update(other).unwrap();
    assert_eq!(api.post(PUSH, &[], &protobuf(&[("a", "b")], &["x"])).await.0, 204);
    assert_eq!(api.lines().pop().unwrap().0, "{a=\"b\", new=\"1\"}");
    let elsewhere = arguments("http {\nlisten_port = 1\n}").unwrap_or_else(|error| panic!("{error}"));
    assert!(api.component.update(elsewhere).is_err());
}

#[tokio::test]
async fn a_password_protects_all_but_what_the_filter_leaves_open() {
    let filter = "filter {\npaths = [\"/ready\"]\nauthenticate_matching_paths = false\n}";
    let auth = format!("auth {{\nbasic {{\nusername = \"me\"\npassword = \"pass\"\n}}\n{filter}\n}}");
    let api = Api::start(&format!("http {{\n{auth}\n}}")).await;
    let body = Bytes::from(protobuf(&[("a", "b")], &["x"]));
    assert_eq!(api.post(PUSH, &[], &body).await.0, 401);
    // echo -n me:pass | base64
    assert_eq!(api.post(PUSH, &[("authorization", "Basic bWU6cGFzcw==")], &body).await.0, 204);
    assert_eq!(api.say(b"GET /ready HTTP/1.0\r\n\r\n").await.0, 200);
    assert_eq!(api.texts(), ["x"]);
}

#[test]
fn what_is_wrong_in_the_block_is_said_and_addresses_are_alloys() {
    for (inside, expected) in [
        ("grpc { }", "block \"grpc\" is known to Alloy but not supported here"),
        ("http {\nhttp2 { }\n}", "block \"http2\" is known to Alloy but not supported here"),
        ("max_send_message_size = 0", "must be above zero and below 4GiB"),
        ("graceful_shutdown_timeout = \"0s\"", "must be above zero"),
        ("http {\nserver_read_timeout = \"0s\"\n}", "must be above zero"),
        ("http {\nlisten_port = 70000\n}", "listen_port"),
        ("http {\ntls {\ncert_pem = \"x\"\n}\n}", "key_pem"),
        ("http {\nproxy_protocol = true\n}", "unrecognized attribute name \"proxy_protocol\""),
    ] {
        let error = arguments(inside).err().unwrap_or_default();
        assert!(error.contains(expected), "{inside}: {error}");
    }
    for (inside, expected) in [
        ("", "127.0.0.1:8080"),
        ("http {\nlisten_port = 3100\n}", "127.0.0.1:3100"),
        ("http {\nlisten_address = \"\"\n}", "0.0.0.0:8080"),
        ("http {\nlisten_address = \"::1\"\n}", "[::1]:8080"),
    ] {
        let arguments = arguments(inside).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(arguments.listen.address, expected);
    }
}
