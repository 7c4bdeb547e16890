//! What operators see of a running agent: what passes its components, what it says of itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
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
