//! What operators see of a running agent: what passes its components, the support bundle, what it says of itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use serde_json::Value;

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    agent: Process,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl World {
    fn start(configuration: &str, more: &[&str]) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = free_addresses(1).expect("a free port")[0];
        let config = folder.path().join("main.alloy");
        std::fs::write(&config, configuration).expect("writable");
        let flags = Flags { config, folder: folder.path().to_owned(), name: "agent", address, join: &[] };
        let mut start = Start::new("/usr/bin/env".into(), &flags);
        let variables = ["HUNTER=hunter2", "HTTP_PROXY=http://me:hunter2@127.0.0.1:1", "NO_PROXY=127.0.0.1"];
        let program = env!("CARGO_BIN_EXE_alloy");
        start.arguments.splice(0..0, variables.into_iter().chain([program]).map(Into::into));
        start.arguments.extend(more.iter().map(Into::into));
        let agent = Process::start(start).expect("it starts");
        let world = World { agent, address, folder };
        world.until("it is ready", || world.agent.is_ready());
        world
    }

    fn until(&self, what: &str, mut reached: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached() {
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", self.agent.last_words(30));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the configuration is taken.
    fn reload(&self, configuration: &str) -> bool {
        std::fs::write(self.folder.path().join("main.alloy"), configuration).expect("writable");
        self.agent.get("/-/reload").is_ok()
    }

    fn watch(&self, path: &str) -> Stream {
        let mut stream = connect(self.address);
        write!(stream, "GET /api/v0/web/debug/{path} HTTP/1.0\r\nHost: a\r\n\r\n").expect("it reads");
        let mut lines = BufReader::new(stream);
        let mut status = String::new();
        lines.read_line(&mut status).expect("an answer");
        Stream { lines, status: status.split(' ').nth(1).unwrap_or_default().to_owned() }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
    stream
}

/// Posts JSON; the status.
fn post(address: SocketAddr, path: &str, body: &str) -> String {
    let mut stream = connect(address);
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// An answer that goes on.
struct Stream {
    lines: BufReader<TcpStream>,
    status: String,
}

impl Stream {
    /// The next event that fits: its name and its data.
    fn next(&mut self, fits: impl Fn(&str, &Value) -> bool) -> Value {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("more in time");
            assert!(read > 0, "the stream has ended");
            match line.trim_end().split_once(": ") {
                Some(("event", event)) => event.clone_into(&mut name),
                Some(("data", data)) => {
                    let data = serde_json::from_str(data).expect("JSON");
                    if fits(&name, &data) {
                        return data;
                    }
                }
                _ => {}
            }
        }
    }

    /// All that is left of it.
    fn rest(mut self) -> String {
        let mut text = String::new();
        self.lines.read_to_string(&mut text).expect("an end");
        text
    }
}

fn watched(loki: SocketAddr, otlp: SocketAddr, enabled: bool, stage: &str, piped: bool) -> String {
    let (loki_port, otlp_port) = (loki.port(), otlp.port());
    let (pipe, to) = match piped {
        true => ("pipe \"line\" {\n\tto = [loki.echo.end.receiver]\n}\n", "pipe.line.receiver"),
        false => ("", "loki.echo.end.receiver"),
    };
    format!(
        r#"
livedebugging {{
	enabled = {enabled}
}}

declare "pipe" {{
	argument "to" {{ }}

	loki.process "inner" {{
		forward_to = argument.to.value
		{stage}
	}}

	export "receiver" {{
		value = loki.process.inner.receiver
	}}
}}

{pipe}
loki.source.api "in" {{
	http {{
		listen_address = "127.0.0.1"
		listen_port    = {loki_port}
	}}
	forward_to             = [{to}]
	use_incoming_timestamp = true
}}

loki.echo "end" {{ }}

prometheus.exporter.self "own" {{ }}

prometheus.scrape "own" {{
	targets         = prometheus.exporter.self.own.targets
	forward_to      = [prometheus.echo.end.receiver]
	scrape_interval = "500ms"
	scrape_timeout  = "500ms"
}}

prometheus.echo "end" {{ }}

otelcol.receiver.otlp "in" {{
	http {{
		endpoint = "127.0.0.1:{otlp_port}"
	}}
	output {{
		traces = [otelcol.exporter.debug.end.input]
	}}
}}

otelcol.exporter.debug "end" {{ }}
"#
    )
}

#[test]
fn what_comes_into_components_is_seen_as_it_comes_where_that_is_allowed() {
    let ports = free_addresses(2).expect("free ports");
    let (loki, otlp) = (ports[0], ports[1]);
    let configuration = |enabled, stage, piped| watched(loki, otlp, enabled, stage, piped);
    let world = World::start(&configuration(false, "", true), &[]);
    let refused = world.watch("loki.echo.end");
    assert_eq!(refused.status, "403");
    assert!(refused.rest().contains("livedebugging { enabled = true }"));
    assert!(world.reload(&configuration(true, "", true)));

    let is_item = |name: &str, text: &Value, part: &str| {
        name == "item" && text["text"].as_str().is_some_and(|text| text.contains(part))
    };
    let push = |line: &str| {
        let body = format!(
            r#"{{"streams":[{{"stream":{{"app":"a"}},"values":[["1700000000123000000","{line}"]]}}]}}"#
        );
        assert_eq!(post(loki, "/loki/api/v1/push", &body), "204");
    };
    let mut inner = world.watch("pipe.line/loki.process.inner");
    assert_eq!(inner.status, "200");
    push("the first");
    let item = inner.next(|name, data| is_item(name, data, "the first"));
    assert_eq!(
        item,
        serde_json::json!({ "kind": "line", "time_ms": 1_700_000_000_123_i64, "labels": "{app=\"a\"}", "text": "the first" })
    );

    // A component with other arguments, or made anew, is watched on.
    assert!(world.reload(&configuration(true, "stage.static_labels {\n values = { b = \"c\" }\n}", true)));
    push("the second");
    inner.next(|name, data| is_item(name, data, "the second"));
    let mut end = world.watch("loki.echo.end");
    push("the third");
    let item = end.next(|name, data| is_item(name, data, "the third"));
    assert_eq!(item["labels"], "{app=\"a\", b=\"c\"}");

    let mut samples = world.watch("prometheus.echo.end?sampleProb=1");
    let up = samples
        .next(|name, data| name == "item" && data["labels"].to_string().contains("__name__=\\\"up\\\""));
    assert_eq!((&up["kind"], &up["text"]), (&"sample".into(), &"1".into()));
    let mut spans = world.watch("otelcol.exporter.debug.end");
    let span =
        r#"{"name":"a-span","traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}"#;
    let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
    assert_eq!(post(otlp, "/v1/traces", &body), "200");
    let item = spans.next(|name, data| is_item(name, data, "name: \"a-span\""));
    assert_eq!(item["kind"], "traces");

    for (path, status) in [
        ("loki.echo.none", "404"),
        ("prometheus.scrape.own", "409"),
        ("loki.echo.end?sampleProb=2", "400"),
        ("loki.echo.end?sampleProb=NaN", "400"),
        ("loki.echo.end?sampleProb=x", "400"),
    ] {
        assert_eq!(world.watch(path).status, status, "{path}");
    }
    // Four watch already; a share of nothing is a share.
    let more: Vec<Stream> = (0..4).map(|_| world.watch("loki.echo.end?sampleProb=0")).collect();
    assert!(more.iter().all(|stream| stream.status == "200"));
    assert_eq!(world.watch("loki.echo.end").status, "503");
    drop(more);
    world.until("places are free again", || world.watch("loki.echo.end?sampleProb=0").status == "200");

    // It goes, and the others are watched on.
    assert!(world.reload(&configuration(true, "", false)));
    let gone = inner.next(|name, _| name == "end");
    assert_eq!(gone["reason"], "the component is gone");
    assert_eq!(inner.rest().trim(), "");
    push("the fourth");
    end.next(|name, data| is_item(name, data, "the fourth"));

    assert!(world.reload(&configuration(false, "", false)));
    for mut stream in [end, samples, spans] {
        let over = stream.next(|name, _| name == "end");
        assert!(over["reason"].to_string().contains("live debugging is off"), "{over}");
    }
}

/// Secrets wherever one may stand.
const SECRETIVE: &str = r#"
// The password is hunter2.
http {
	auth {
		basic {
			username = "me"
			password = "hunter2"
		}

		filter {
			paths                       = ["/"]
			authenticate_matching_paths = false
		}
	}
}

import.string "library" {
	content = `declare "store" {
	argument "password" { }
	prometheus.remote_write "inner" {
		endpoint {
			url = "http://127.0.0.1:1/inner"
			basic_auth {
				username = "me"
				password = argument.password.value
			}
			headers = {"X-Api-Key" = "hunter2"}
		}
	}
	export "receiver" { value = prometheus.remote_write.inner.receiver }
}`
}

library.store "one" {
	password = "hunter2"
}

prometheus.remote_write "plain" {
	endpoint {
		url     = "http://127.0.0.1:1/write"
		headers = {"Cookie" = "hunter2", "X-Scope-OrgID" = "hunter2"}
	}
}

prometheus.exporter.self "own" { }

prometheus.scrape "own" {
	targets         = prometheus.exporter.self.own.targets
	forward_to      = [prometheus.remote_write.plain.receiver, library.store.one.receiver]
	scrape_interval = "200ms"
	scrape_timeout  = "200ms"
	bearer_token    = sys.env("HUNTER")
	http_headers    = {"X-Key" = ["hunter2"]}
}

loki.write "lines" {
	endpoint {
		url = "http://127.0.0.1:1/loki"
		authorization {
			type        = "Token"
			credentials = sys.env("HUNTER")
		}
	}
}

discovery.http "world" {
	url = "http://127.0.0.1:1/targets"
	oauth2 {
		client_id     = "me"
		client_secret = "hunter2"
		token_url     = "http://127.0.0.1:1/token"
		endpoint_params = {"password" = "hunter2"}
	}
}

otelcol.auth.headers "key" {
	header {
		key   = "X-Key"
		value = "hunter2"
	}
}

otelcol.exporter.otlphttp "out" {
	client {
		endpoint = "http://127.0.0.1:1"
		headers  = {"X-Other" = "hunter2"}
		auth     = otelcol.auth.headers.key.handler
	}
}
"#;

/// Reads an archive with Python: what another program makes of it is what counts.
const READ_ARCHIVE: &str = "
import json, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
print(json.dumps({name: archive.read(name).decode() for name in archive.namelist()}))
";

#[test]
fn a_support_bundle_has_what_is_needed_and_no_secret() {
    let world = World::start(SECRETIVE, &[]);
    world.until("an endpoint has failed", || world.agent.last_words(100).contains("127.0.0.1:1"));
    // A password in a URL is refused, and the answer and the log say so without it.
    let refused =
        format!("{SECRETIVE}\ndiscovery.http \"bad\" {{\n\turl = \"http://me:hunter2@127.0.0.1:1/\"\n}}\n");
    assert!(!world.reload(&refused));
    let ask = |address, path: &str| {
        let mut stream = connect(address);
        write!(stream, "GET {path} HTTP/1.0\r\nHost: a\r\n\r\n").expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        answer
    };
    for duration in ["0", "301", "x"] {
        let answer = ask(world.address, &format!("/-/support?duration={duration}"));
        assert!(answer.starts_with(b"HTTP/1.0 400 "), "{duration}: {}", String::from_utf8_lossy(&answer));
    }
    let answer = ask(world.address, "/-/support?duration=1");
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&answer[..body]).to_lowercase();
    assert!(head.starts_with("http/1.0 200") && head.contains("content-type: application/zip"), "{head}");
    let path = world.folder.path().join("bundle.zip");
    std::fs::write(&path, &answer[body..]).expect("writable");
    let read =
        Command::new("python3").args(["-c", READ_ARCHIVE]).arg(&path).output().expect("python3 is here");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let files: serde_json::Map<String, Value> = serde_json::from_slice(&read.stdout).expect("JSON");

    let file = |name: &str| {
        let found = files.get(&format!("alloy-support-bundle/{name}"));
        found.and_then(Value::as_str).unwrap_or_else(|| panic!("{name} is not among {:?}", files.keys()))
    };
    for (name, part) in [
        ("alloy-metadata.yaml", "build_version: \""),
        ("alloy-components.json", "\"localID\":\"prometheus.scrape.own\""),
        ("alloy-peers.json", "\"isSelf\":true"),
        ("alloy-cluster.json", "\"changes\":"),
        ("alloy-ownership.json", "\"total\":"),
        ("alloy-health.txt", "omponents"),
        ("alloy-metrics-sample-start.txt", "alloy_build_info{"),
        ("alloy-metrics-sample-end.txt", "alloy_wal_lag_bytes{"),
        ("alloy-runtime-flags.txt", "server.http.disable-support-bundle=false"),
        ("alloy-runtime-flags.txt", "storage.path=/"),
        ("alloy-environment.txt", "HTTP_PROXY=http://me:(secret)@127.0.0.1:1"),
        ("alloy-logs.txt", "the agent is running"),
        ("alloy-logs.txt", "http://me:*******@127.0.0.1:1/"),
        ("components/library.store.one/prometheus.remote_write.inner.json", "(secret)"),
        ("components/prometheus.remote_write.plain.json", "http://127.0.0.1:1/write"),
        ("sources/0-main.alloy", "library.store \"one\" {\n\tpassword = \"...\"\n}"),
    ] {
        assert!(file(name).contains(part), "{name} has no {part}: {}", file(name));
    }
    for (name, content) in &files {
        let content = content.as_str().expect("text");
        let line = content.lines().find(|line| line.contains("hunter2"));
        assert_eq!(line, None, "{name}");
    }
    let components: Value = serde_json::from_str(file("alloy-components.json")).expect("JSON");
    assert_eq!(components.as_array().map(Vec::len), Some(8));
    // What pages and the API show beside it.
    for path in [
        "/components",
        "/component/discovery.http.world",
        "/metrics",
        "/api/v0/web/components/discovery.http.world",
    ] {
        assert!(!world.agent.get(path).expect("a page").contains("hunter2"), "{path}");
    }
    assert!(!world.agent.last_words(usize::MAX).contains("hunter2"));

    let world = World::start("", &["--server.http.disable-support-bundle"]);
    assert!(ask(world.address, "/-/support").starts_with(b"HTTP/1.0 403 "));
}

#[test]
fn what_is_said_too_often_is_counted_and_what_is_printed_is_not() {
    let loki = free_addresses(1).expect("a free port")[0];
    let good = format!(
        "logging {{\n level = \"info\"\n levels = {{ \"alloy_bin::graph\" = \"error\" }}\n}}\n\
         loki.source.api \"in\" {{\n http {{\n listen_address = \"127.0.0.1\"\n listen_port = {}\n }}\n forward_to = [loki.echo.end.receiver]\n}}\n\
         loki.echo \"end\" {{ }}\n",
        loki.port()
    );
    let world = World::start(&good, &[]);
    // So many that at least one of the intervals in which they fall has too many.
    const WRONG: usize = 120;
    for _ in 0..WRONG {
        assert!(!world.reload("unknown.block \"a\" { }\n"));
    }
    assert!(world.reload(&good));
    let lines: Vec<String> =
        (0..100).map(|index| format!(r#"["17000000000000000{index:02}","line {index}"]"#)).collect();
    let body = format!(r#"{{"streams":[{{"stream":{{"app":"a"}},"values":[{}]}}]}}"#, lines.join(","));
    assert_eq!(post(loki, "/loki/api/v1/push", &body), "204");
    let said =
        |part: &str| world.agent.last_words(usize::MAX).lines().filter(|line| line.contains(part)).count();
    world.until("all is printed", || said("received log entry") == 100);
    let told = |line: &str| -> Option<usize> {
        let (_, rest) = line.split_once("message=\"the same was said too often\" left_out=")?;
        let (count, what) = rest.split_once(' ')?;
        assert_eq!(what, "said=\"the configuration cannot be loaded; the old one goes on\"");
        count.parse().ok()
    };
    let heard = || said("message=\"the configuration cannot be loaded");
    let left_out = || world.agent.last_words(usize::MAX).lines().filter_map(told).sum::<usize>();
    world.until("it is told", || heard() + left_out() == WRONG);
    assert!(left_out() > 0, "{}", world.agent.last_words(20));
    assert_eq!(said("the configuration is loaded"), 0, "this module is heard only when something is wrong");
    // A reload changes it while the agent runs.
    assert!(world.reload(&good.replace("\"error\"", "\"info\"")));
    assert_eq!(said("the configuration is loaded"), 1);
    assert!(!world.reload("logging {\n levels = { \"a b\" = \"info\" }\n}\n"));
}
