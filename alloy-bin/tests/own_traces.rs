//! Spans of the agents' own work: a scrape, a request, a reload, a hand-over, sent by one agent to another.
#![cfg(feature = "otelcol")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(folder: &Path, name: &str, text: &str, address: SocketAddr, join: &[SocketAddr]) -> Process {
    let config = folder.join(format!("{name}.alloy"));
    std::fs::write(&config, text).expect("writable");
    let flags = Flags { config, folder: folder.to_owned(), name, address, join };
    Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts")
}

fn until(what: &str, agents: &[&Process], mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        let words = || agents.iter().map(|agent| agent.last_words(20)).collect::<Vec<_>>().join("\n\n");
        assert!(Instant::now() < deadline, "not in time: {what}\n{}", words());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Takes spans and prints them.
fn printing(port: u16) -> String {
    format!(
        r#"
otelcol.receiver.otlp "in" {{
	http {{
		endpoint = "127.0.0.1:{port}"
	}}
	output {{
		traces = [otelcol.exporter.debug.out.input]
	}}
}}

otelcol.exporter.debug "out" {{
	verbosity        = "detailed"
	sampling_initial = 1000000
}}
"#
    )
}

/// Scrapes itself in vain, delivers in vain, and has a span of everything.
fn working(port: u16, fraction: &str) -> String {
    // So many that each of two members has some.
    let target = |index| format!("{{\"__address__\" = \"127.0.0.1:1\", \"index\" = \"{index}\"}}");
    let targets = (0..32).map(target).collect::<Vec<_>>().join(", ");
    format!(
        r#"
tracing {{
	sampling_fraction = {fraction}
	write_to          = [otelcol.exporter.otlphttp.spans.input]
}}

otelcol.exporter.otlphttp "spans" {{
	client {{
		endpoint = "http://127.0.0.1:{port}"
	}}
	sending_queue {{
		batch {{
			flush_timeout = "50ms"
		}}
	}}
}}

prometheus.scrape "dead" {{
	targets         = [{targets}]
	forward_to      = [prometheus.remote_write.dead.receiver]
	scrape_interval = "200ms"
	scrape_timeout  = "200ms"

	clustering {{
		enabled = true
	}}
}}

prometheus.remote_write "dead" {{
	endpoint {{
		url = "http://127.0.0.1:1/write"
		queue_config {{
			batch_send_deadline = "50ms"
		}}
	}}
}}
"#
    )
}

#[test]
fn the_agents_own_work_is_seen_as_spans() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let addresses = free_addresses(4).expect("free ports");
    let port = addresses[3].port();
    let sink = start(folder.path(), "sink", &printing(port), addresses[2], &[]);
    until("the sink is ready", &[&sink], || sink.is_ready());
    let members = &addresses[..2];
    let mut one = start(folder.path(), "one", &working(port, "1"), addresses[0], members);
    let two = start(folder.path(), "two", &working(port, "0"), addresses[1], members);
    let active = |agent: &Process| {
        agent.get("/api/v0/web/peers").is_ok_and(|peers| peers.matches("\"participant\"").count() == 2)
    };
    until("both are active", &[&one, &two], || active(&one) && active(&two));
    assert!(one.get("/-/reload").is_ok());
    let config = folder.path().join("one.alloy");
    std::fs::write(&config, "unknown.block \"a\" { }\n").expect("writable");
    assert!(one.get("/-/reload").is_err());
    std::fs::write(&config, working(port, "1")).expect("writable");

    // A span on each line: the log escapes the line ends of the text that is printed.
    let spans = |name: &str| -> Vec<String> {
        let said = sink.last_words(usize::MAX);
        let spans = said.split("spans:").skip(1).map(str::to_owned);
        spans.filter(|span| span.contains(&format!("name: \\\"{name}\\\""))).collect()
    };
    let has = |name: &str, parts: &[&str]| {
        spans(name).iter().any(|span| parts.iter().all(|part| span.contains(part)))
    };
    until("a scrape that fails", &[&one, &sink], || {
        has("scrape", &["http://127.0.0.1:1/metrics", "alloy.samples", "code: ERROR"])
    });
    until("a request that fails", &[&one, &sink], || {
        has("deliver", &["http://127.0.0.1:1/write", "code: ERROR", "kind: CLIENT"])
    });
    until("reloads", &[&one, &sink], || {
        has("reload", &["alloy.config.sha256"]) && has("reload", &["code: ERROR", "unknown.block"])
    });
    one.terminate(PATIENCE).expect("it ends when asked to");
    until("the hand-over", &[&sink], || has("hand over", &["kind: INTERNAL"]));
    let said = sink.last_words(usize::MAX);
    assert!(said.contains("service.instance.id") && said.contains("\\\"one\\\""), "{said}");
    assert!(!said.contains("\\\"two\\\""), "a fraction of 0 is none");
    // Sending spans makes none.
    assert!(spans("deliver").iter().all(|span| !span.contains("v1/traces")));
}

#[test]
fn a_tracing_block_stands_alone_at_the_top_and_leads_somewhere() {
    let check = |text: &str, error: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("main.alloy");
        std::fs::write(&path, text).expect("writable");
        let checked = alloy_bin::graph::check(&path, &alloy_bin::components::registrations(), "host");
        let found = checked.result().err().unwrap_or_default();
        assert!(found.contains(error) && found.is_empty() == error.is_empty(), "{text}: {found}");
    };
    check("tracing { }", "");
    check("tracing \"a\" { }", "block \"tracing\" has no label");
    check("tracing { }\ntracing { }", "block tracing already declared");
    check("declare \"a\" {\ntracing { }\n}\na \"b\" { }", "it belongs only at the top of the configuration");
    check("tracing {\nsampling_fraction = 2\n}", "a fraction is from 0 to 1");
    check("tracing {\nwrite_to = [otelcol.exporter.otlp.none.input]\n}", "does not exist or is out of scope");
    check("loki.echo \"a\" { }\ntracing {\nwrite_to = [loki.echo.a.receiver]\n}", "otelcol.Consumer");
    check("tracing {\nsampler { }\n}", "block \"sampler\" is known to Alloy but not supported here");
}
