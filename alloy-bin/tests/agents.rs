//! What the program itself does with its configuration: it ends if the first one cannot be loaded, says how a reload went,
//! and two agents in a cluster see that they run different ones.

use std::process::Command;
use std::time::{Duration, Instant};

use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};

const PROGRAM: &str = env!("CARGO_BIN_EXE_alloy");
/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(30);

const GOOD: &str = "local.file_match \"a\" {\n\tpath_targets = []\n}\n";
const OTHER: &str = "local.file_match \"b\" {\n\tpath_targets = []\n}\n";
const WRONG: &str = "local.file_match \"a\" {\n\tpaths = []\n}\n";

fn until(agent: &Process, what: &str, is_so: impl Fn(&Process) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so(agent) {
        assert!(Instant::now() < deadline, "not in time: {what}:\n{}", agent.last_words(20));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn has_line(agent: &Process, start: &str, end: &str) -> bool {
    let page = agent.get("/metrics").expect("it answers");
    page.lines().any(|line| line.starts_with(start) && line.ends_with(end))
}

/// SHA-256 of a configuration.
fn hash(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_agent_whose_first_configuration_is_wrong_ends_and_touches_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("config.alloy");
    std::fs::write(&config, WRONG).expect("a writable folder");
    let storage = folder.path().join("data");
    let output = Command::new(PROGRAM)
        .arg("run")
        .arg(&config)
        .arg(format!("--storage.path={}", storage.display()))
        .output()
        .expect("it starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("config.alloy:1:1: missing required attribute \"path_targets\""), "{said}");
    assert!(said.contains("config.alloy:2:2: unrecognized attribute name \"paths\""), "{said}");
    assert!(!storage.exists());
}

#[test]
fn two_agents_with_different_configurations_show_that_until_they_agree() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let addresses = free_addresses(2).expect("free ports");
    let flags = |index: usize| Flags {
        config: folder.path().join(["one.alloy", "two.alloy"][index]),
        folder: folder.path().to_owned(),
        name: ["one", "two"][index],
        address: addresses[index],
        join: &addresses,
    };
    let write = |index: usize, text: &str| std::fs::write(flags(index).config, text).expect("writable");
    let agents = [0, 1].map(|index| {
        write(index, GOOD);
        Process::start(Start::new(PROGRAM.into(), &flags(index))).expect("it starts")
    });
    agents.iter().for_each(|agent| until(agent, "it is ready", Process::is_ready));
    let all = |what: &str, line: &str, value: &str| {
        agents.iter().for_each(|agent| until(agent, what, |agent| has_line(agent, line, value)));
    };
    let drift = "cluster_node_configuration_drift";
    all("they see each other", "cluster_node_peers{state=\"participant\"}", " 2");
    all("they agree", drift, " 0");

    write(1, OTHER);
    assert_eq!(agents[1].get("/-/reload").expect("it is right"), "config reloaded\n");
    assert!(has_line(&agents[1], &format!("alloy_config_hash{{sha256=\"{}\"", hash(OTHER)), " 1"));
    assert!(has_line(&agents[0], &format!("alloy_config_hash{{sha256=\"{}\"", hash(GOOD)), " 1"));
    all("they run different ones", drift, " 1");

    // What cannot be loaded is not what runs: the drift stays.
    write(0, WRONG);
    let refused = agents[0].get("/-/reload").expect_err("it is wrong").to_string();
    assert!(refused.contains("status 400: "), "{refused}");
    assert!(refused.contains("unrecognized attribute name \"paths\""), "{refused}");
    assert!(has_line(&agents[0], "alloy_config_last_load_successful", " 0"));
    all("they still do", drift, " 1");

    write(0, OTHER);
    assert_eq!(agents[0].get("/-/reload").expect("it is right"), "config reloaded\n");
    all("they agree again", drift, " 0");
    assert!(has_line(&agents[0], "alloy_config_last_load_successful", " 1"));
}

/// Two agents share targets that nobody answers for; the command asks one of them.
#[test]
fn the_cluster_command_says_who_is_there_who_owns_what_and_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let targets: Vec<String> =
        (0..20).map(|index| format!("{{ __address__ = \"127.0.0.1:1\", number = \"{index}\" }},")).collect();
    let config = format!(
        "prometheus.scrape \"all\" {{\n\ttargets = [{}]\n\tforward_to = []\n\tscrape_interval = \"200ms\"\n\tscrape_timeout = \"200ms\"\n\tclustering {{\n\t\tenabled = true\n\t}}\n}}\n",
        targets.join("\n")
    );
    std::fs::write(folder.path().join("config.alloy"), config).expect("writable");
    let addresses = free_addresses(2).expect("free ports");
    let agents = [0, 1].map(|index| {
        let flags = Flags {
            config: folder.path().join("config.alloy"),
            folder: folder.path().to_owned(),
            name: ["one", "two"][index],
            address: addresses[index],
            join: &addresses,
        };
        Process::start(Start::new(PROGRAM.into(), &flags)).expect("it starts")
    });
    agents.iter().for_each(|agent| until(agent, "it is ready", Process::is_ready));
    agents.iter().for_each(|agent| {
        until(agent, "they share", |agent| {
            has_line(agent, "cluster_node_peers{state=\"participant\"}", " 2")
        });
    });
    let url = format!("--url=http://{}", addresses[1]);
    let cluster = |arguments: &[&str]| {
        let output =
            Command::new(PROGRAM).arg("cluster").args(arguments).arg(&url).output().expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let succeeds = |arguments: &[&str]| {
        let (code, out, err) = cluster(arguments);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
        out
    };

    let status = succeeds(&["status"]);
    assert!(status.contains("as two sees it: view "), "{status}");
    assert_eq!(status.lines().filter(|line| line.contains(" active ")).count(), 2, "{status}");
    let owners = succeeds(&["owners", "--owner=one"]);
    let mine = owners.lines().skip(1).count();
    assert!((1..20).contains(&mine), "{owners}");
    let key = owners.lines().nth(1).and_then(|line| line.split_whitespace().nth(2)).expect("a key");
    let explained = succeeds(&["explain", key]);
    assert!(explained.contains("owner: one; this node: idle"), "{explained}");
    assert!(explained.contains("one is the first in rank of the 2 active members"), "{explained}");
    assert!(explained.contains("   2  two"), "{explained}");
    let simulated = succeeds(&["simulate", "--kill=one", "--json"]);
    let simulated: serde_json::Value = serde_json::from_str(&simulated).expect("JSON");
    assert_eq!((&simulated["keys"], &simulated["moved"]), (&20.into(), &mine.into()));
    assert!(succeeds(&["simulate", "--join=three"]).contains("of 20 keys would move"));

    // The other one is asked how its targets fare.
    until(&agents[1], "all of the other's targets have failed", |agent| {
        let known = agent.get("/api/v0/cluster/ownership?facts=true&owner=one").expect("it answers");
        let known: serde_json::Value = serde_json::from_str(&known).expect("JSON");
        let keys = known["keys"].as_array().expect("a list");
        assert_eq!(keys.len(), mine);
        let refused = |key: &&serde_json::Value| {
            key["fact"]["error"].as_str().is_some_and(|error| error.contains("onnection refused"))
        };
        keys.iter().filter(refused).count() == mine
    });

    let (code, out, err) = cluster(&["explain", "nothing"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("no component of the agent knows that name or key"), "{err}");
    let (code, _, err) = cluster(&["simulate", "--leave=none"]);
    assert_eq!(code, Some(1));
    assert!(err.ends_with("404 Not Found: \"none\" is no member; there are one, two\n"), "{err}");
    assert_eq!(cluster(&["simulate"]).0, Some(1), "nothing changes");
}

#[test]
fn components_are_shown_with_what_they_were_given_and_without_secrets() {
    const CONFIG: &str = r#"
declare "delivery" {
	argument "secret_header" { }
	prometheus.remote_write "store" {
		endpoint {
			url       = "http://127.0.0.1:1/write"
			proxy_url = "http://me:hidden-in-the-url@127.0.0.1:2"
			basic_auth {
				username = "visible"
				password = "hidden-in-a-string"
			}
			headers = { "X-Key" = argument.secret_header.value }
		}
	}
	export "receiver" {
		value = prometheus.remote_write.store.receiver
	}
}
delivery "main" {
	secret_header = "hidden-in-a-header"
}
prometheus.scrape "self" {
	targets         = [{ __address__ = "127.0.0.1:1" }]
	forward_to      = [delivery.main.receiver]
	scrape_interval = "1h"
}
"#;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("config.alloy"), CONFIG).expect("writable");
    let addresses = free_addresses(1).expect("a free port");
    let flags = Flags {
        config: folder.path().join("config.alloy"),
        folder: folder.path().to_owned(),
        name: "one",
        address: addresses[0],
        join: &[],
    };
    let agent = Process::start(Start::new(PROGRAM.into(), &flags)).expect("it starts");
    until(&agent, "it is ready", Process::is_ready);
    let get = |path: &str| {
        let text = agent.get(path).expect("it answers");
        assert!(!text.contains("hidden-in"), "{text}");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    let list = get("/api/v0/web/components");
    let of = |id: &str| {
        let is_it = |component: &&serde_json::Value| component["localID"] == id;
        list.as_array().expect("a list").iter().find(is_it).expect("it runs").clone()
    };
    let (scrape, write) = (of("prometheus.scrape.self"), of("prometheus.remote_write.store"));
    assert_eq!(write["moduleID"], "delivery.main");
    assert_eq!(scrape["referencesTo"], serde_json::json!(["delivery.main/prometheus.remote_write.store"]));
    assert_eq!(write["referencedBy"], serde_json::json!(["prometheus.scrape.self"]));
    assert_eq!(scrape["health"]["state"], "healthy");
    assert!(scrape["position"].as_str().expect("text").ends_with("config.alloy:22:1"), "{scrape}");

    let write = get("/api/v0/web/components/delivery.main/prometheus.remote_write.store");
    let endpoint = &write["arguments"].as_array().expect("a list").iter().find(|it| it["name"] == "endpoint");
    let endpoint = endpoint.expect("it was given").to_string();
    assert!(endpoint.contains(r#""value":"http://127.0.0.1:1/write""#), "{endpoint}");
    assert!(endpoint.contains("visible"), "{endpoint}");
    assert_eq!(endpoint.matches("(secret)").count(), 3, "{endpoint}");
    assert_eq!(write["exports"][0]["name"], "receiver");
    let scrape = get("/api/v0/web/components/prometheus.scrape.self").to_string();
    assert!(
        scrape.contains(r#"{"key":"__address__","value":{"type":"string","value":"127.0.0.1:1"}}"#),
        "{scrape}"
    );
    let none = agent.get("/api/v0/web/components/none").expect_err("there is none").to_string();
    assert!(none.contains("404"), "{none}");
}
