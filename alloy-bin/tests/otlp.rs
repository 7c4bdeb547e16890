//! The agent with OTLP: what it says to configurations that it can't take, and that what it acknowledged under load arrives
//! although it is killed again and again.
#![cfg(feature = "otelcol")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_bin::components::registrations;
use alloy_bin::formats::{Compression, check_otlp, print_otlp, unpack};
use alloy_bin::graph::Checked;
use alloy_bin::telemetry::Signal;
use alloy_bin::testing::Receiver;
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// The messages about a configuration, without their places.
fn messages(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("main.alloy");
    std::fs::write(&path, text).expect("a writable folder");
    let said = match Checked::load(&path, &registrations(), "host") {
        Ok(_) => String::new(),
        Err(said) => said,
    };
    let lines = said.lines().filter_map(|line| line.strip_prefix("Error: ")?.split_once(": "));
    lines.map(|(_, message)| message.to_owned()).collect()
}

#[test]
fn what_has_no_meaning_here_is_an_error_that_says_what_to_do() {
    let check = |text: &str, expected: &[&str]| {
        let said = messages(text);
        assert_eq!(said.len(), expected.len(), "{text}: {said:#?}");
        for expected in expected {
            assert!(
                said.iter().any(|said| said.contains(expected)),
                "{text}: {expected} is not in {said:#?}"
            );
        }
    };
    check("otelcol.receiver.otlp \"a\" {\noutput { }\n}", &["it would listen to nothing"]);
    check("otelcol.receiver.otlp \"a\" {\ngrpc { }\n}", &["missing required block \"output\""]);
    check(
        "otelcol.receiver.otlp \"a\" {\ngrpc {\nendpoint = \"here\"\nmax_recv_msg_size = \"1GiB\"\ninclude_metadata = true\n}\noutput { }\n}",
        &["no component here reads the headers", "is not an address", "at most 64MiB"],
    );
    check(
        "otelcol.receiver.otlp \"a\" {\nhttp {\ncompression_algorithms = [\"lz4\"]\n}\noutput {\nlogs = [1]\n}\n}",
        &["\"lz4\" is not unpacked here", "expected capsule(\"otelcol.Consumer\")"],
    );
    check(
        "otelcol.exporter.otlp \"a\" {\nclient {\nendpoint = \"a:1\"\nauthority = \"b\"\ncompression = \"lz4\"\n}\nsending_queue {\nqueue_size = 1\nenabled = false\n}\n\
         retry_on_failure {\nmax_elapsed_time = \"5m\"\n}\n}",
        &[
            "\"authority\" is known to Alloy but not supported",
            "expected one of \"gzip\", \"zstd\"",
            "the queue is a log on disk",
            "the log is always on",
            "what may still be taken is kept",
        ],
    );
    check(
        "otelcol.exporter.otlphttp \"a\" {\nencoding = \"json\"\nclient {\nendpoint = \"a\"\nheaders = {\"grpc-x\" = \"y\"}\n}\n}",
        &["requests are protobuf here", "set by the protocol", "is not a URL"],
    );
    check(
        "otelcol.processor.memory_limiter \"a\" {\ncheck_interval = \"1s\"\noutput { }\n}",
        &["exactly one of limit and limit_percentage"],
    );
    check(
        "otelcol.processor.batch \"a\" {\nsend_batch_max_size = 1\nmetadata_keys = [\"a\"]\noutput { }\n}",
        &["receivers pass no headers", "at least send_batch_size"],
    );
    check(
        "otelcol.exporter.prometheus \"a\" {\nforward_to = []\ngc_frequency = \"0s\"\nhonor_metadata = false\nstart_timestamp_zero_ingestion = true\n\
         convert_classic_histograms_to_nhcb = true\n}\notelcol.exporter.loki \"a\" {\nforward_to = [1]\n}",
        &[
            "must be above zero",
            "metadata is always handed on",
            "no zeros are put in",
            "the classic series",
            "LogsReceiver",
        ],
    );
    check(
        "otelcol.auth.headers \"a\" {\nheader {\nkey = \"a\"\nvalue = \"b\"\nfrom_context = \"c\"\n}\n}\n\
         otelcol.receiver.otlp \"a\" {\ngrpc {\nauth = otelcol.auth.headers.b.handler\n}\noutput { }\n}",
        &["between a receiver and an exporter is a log", "otelcol.auth.headers.b"],
    );
}

/// An endpoint for OTLP over HTTP that remembers every line, on one thread for each connection.
struct Endpoint {
    address: SocketAddr,
    lines: Arc<Mutex<BTreeSet<String>>>,
    is_up: Arc<AtomicBool>,
}

impl Endpoint {
    fn start() -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = Endpoint {
            address: listener.local_addr().expect("an address"),
            lines: Arc::default(),
            is_up: Arc::new(AtomicBool::new(true)),
        };
        let (lines, is_up) = (endpoint.lines.clone(), endpoint.is_up.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (lines, is_up) = (lines.clone(), is_up.clone());
                std::thread::spawn(move || serve(stream, &lines, &is_up));
            }
        });
        endpoint
    }
}

/// The head of a request or an answer, and its body.
fn message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn serve(mut stream: TcpStream, lines: &Mutex<BTreeSet<String>>, is_up: &AtomicBool) {
    while let Some((head, body)) = message(&mut stream) {
        if !is_up.load(Ordering::Relaxed) {
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
            continue;
        }
        assert!(head.contains("content-encoding: gzip"), "{head}");
        let plain = unpack(body.into(), Compression::Gzip, 64 << 20).expect("it is gzip");
        let batch = check_otlp(Signal::Logs, plain).expect("it is OTLP");
        let printed = print_otlp(&batch);
        let values = printed.lines().filter_map(|line| line.trim().strip_prefix("string_value: "));
        lines.lock().expect("no panic").extend(values.map(|value| value.trim_matches('"').to_owned()));
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// Sends lines until it is told to stop; the answer is what was acknowledged.
fn send(address: SocketAddr, name: usize, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut stream = None;
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let lines: Vec<String> = (0..50).map(|line| format!("{name}-{round}-{line}")).collect();
        let records: Vec<String> =
            lines.iter().map(|line| format!(r#"{{"body":{{"stringValue":"{line}"}}}}"#)).collect();
        let body =
            format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#, records.join(","));
        let request = format!(
            "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let connected = stream.take().or_else(|| TcpStream::connect(address).ok());
        let Some(mut connected) = connected else {
            // It is dead for a moment.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let answer = connected.write_all(request.as_bytes()).ok().and_then(|()| message(&mut connected));
        if let Some((head, _)) = answer {
            if head.starts_with("http/1.1 200") {
                acknowledged.extend(lines);
            }
            stream = Some(connected);
        }
    }
    acknowledged
}

#[test]
fn what_was_acknowledged_under_load_arrives_although_the_agent_is_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let endpoint = Endpoint::start();
    let addresses = free_addresses(2).expect("free ports");
    let config = folder.path().join("config.alloy");
    let text = format!(
        "otelcol.receiver.otlp \"in\" {{\nhttp {{\nendpoint = \"{}\"\n}}\noutput {{\nlogs = [otelcol.exporter.otlphttp.out.input]\n}}\n}}\n\
         otelcol.exporter.otlphttp \"out\" {{\nclient {{\nendpoint = \"http://{}\"\n}}\nretry_on_failure {{\ninitial_interval = \"20ms\"\nmax_interval = \"100ms\"\n}}\n\
         wal {{\nsegment_bytes = \"1MiB\"\nmax_bytes = \"64MiB\"\n}}\n}}\n",
        addresses[1], endpoint.address
    );
    std::fs::write(&config, text).expect("a writable folder");
    let flags =
        Flags { config, folder: folder.path().to_owned(), name: "agent", address: addresses[0], join: &[] };
    let mut agent =
        Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts");
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..3)
        .map(|name| {
            let (stop, address) = (stop.clone(), addresses[1]);
            std::thread::spawn(move || send(address, name, &stop))
        })
        .collect();
    let arrived = || endpoint.lines.lock().expect("no panic").len();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    for round in 0..4 {
        let before = arrived();
        until("lines arrive", &|| arrived() > before + 200);
        // In the second half the endpoint is away when the agent dies: what it has is in its log alone.
        endpoint.is_up.store(round < 2, Ordering::Relaxed);
        agent.kill().expect("it ran");
        agent.start_again().expect("it starts");
        until("it is ready", &|| agent.is_ready());
        if round >= 2 {
            std::thread::sleep(Duration::from_millis(200));
            agent.kill().expect("it ran");
            agent.start_again().expect("it starts");
        }
        endpoint.is_up.store(true, Ordering::Relaxed);
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<String> =
        senders.into_iter().flat_map(|sender| sender.join().expect("no panic")).collect();
    assert!(acknowledged.len() > 500, "only {} lines were acknowledged", acknowledged.len());
    let is_missing = || {
        let lines = endpoint.lines.lock().expect("no panic");
        acknowledged.iter().filter(|line| !lines.contains(*line)).count()
    };
    until("every acknowledged line", &|| is_missing() == 0);
    // Before that it has no say in how it ends.
    until("it is ready", &|| agent.is_ready());
    let ended = agent.terminate(PATIENCE).expect("it ends");
    assert!(ended.success(), "{ended}: {}", agent.last_words(20));
}

/// The same through `otelcol.exporter.loki` to a receiver of Loki pushes that goes and comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_were_acknowledged_arrive_at_loki_although_the_agent_is_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receiver = Receiver::start().await.expect("a free port");
    let addresses = free_addresses(2).expect("free ports");
    let config = folder.path().join("config.alloy");
    let text = format!(
        "otelcol.receiver.otlp \"in\" {{\nhttp {{\nendpoint = \"{}\"\n}}\noutput {{\nlogs = [otelcol.exporter.loki.out.input]\n}}\n}}\n\
         otelcol.exporter.loki \"out\" {{\nforward_to = [loki.write.out.receiver]\n}}\n\
         loki.write \"out\" {{\nendpoint {{\nurl = \"{}\"\nbatch_wait = \"50ms\"\nmin_backoff_period = \"20ms\"\nmax_backoff_period = \"100ms\"\n}}\n}}\n",
        addresses[1],
        receiver.push_url()
    );
    std::fs::write(&config, text).expect("a writable folder");
    let flags =
        Flags { config, folder: folder.path().to_owned(), name: "agent", address: addresses[0], join: &[] };
    let mut agent =
        Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts");
    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let (stop, address) = (stop.clone(), addresses[1]);
        std::thread::spawn(move || send(address, 0, &stop))
    };
    for _ in 0..3 {
        let before = receiver.counts().lines;
        receiver.wait_for(PATIENCE, |counts| counts.lines > before + 200).await.expect("lines arrive");
        receiver.down().await;
        agent.kill().expect("it ran");
        agent.start_again().expect("it starts");
        let deadline = Instant::now() + PATIENCE;
        while !agent.is_ready() {
            assert!(Instant::now() < deadline, "it is not ready: {}", agent.last_words(20));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        receiver.up().await.expect("the port is free");
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = sender.join().expect("no panic");
    assert!(acknowledged.len() > 500, "only {} lines were acknowledged", acknowledged.len());
    let missing = || {
        receiver.inspect(|recorded| {
            let labels: Vec<_> = recorded.streams.keys().map(String::as_str).collect();
            assert_eq!(labels, ["{exporter=\"OTLP\"}"]);
            let arrivals = recorded.streams.values().flat_map(|stream| &stream.arrivals);
            let lines: BTreeSet<_> = arrivals.map(|arrival| arrival.line.to_string()).collect();
            acknowledged.iter().filter(|line| !lines.contains(&format!("{{\"body\":\"{line}\"}}"))).count()
        })
    };
    // Not in `wait_for`, which holds the counts: a request that comes then holds what was received, and waits for the counts.
    let deadline = Instant::now() + PATIENCE;
    while missing() > 0 {
        assert!(Instant::now() < deadline, "{} of {} lines are missing", missing(), acknowledged.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Before that it has no say in how it ends.
    while !agent.is_ready() {
        assert!(Instant::now() < deadline, "not ready: {}", agent.last_words(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = agent.terminate(PATIENCE).expect("it ends");
    assert!(ended.success(), "{ended}: {}", agent.last_words(20));
}
