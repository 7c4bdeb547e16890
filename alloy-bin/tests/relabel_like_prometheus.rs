//! Random rules on random targets, here and in a real Prometheus: both must come to the same labels.
//!
//! Left out is what Prometheus itself has changed since 2.40, where we do as 3 does: which of several labels that are mapped
//! to one name wins, and an empty replacement for a target with groups.
//! `cargo test -p alloy-bin --test relabel_like_prometheus -- --ignored`, with `prometheus` in the path.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_bin::config::{Body, Decode, Scope, decode_statements};
use alloy_bin::relabel::{LabelSet, Rules};
use alloy_bin::syntax::{Sources, ast::Statement, parse};
use alloy_bin::testing::process::free_addresses;
use serde_json::{Value, json};

const JOBS: usize = 400;
const TARGETS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// Xorshift: the same choices for the same seed, everywhere.
struct Choices(u64);

impl Choices {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

const NAMES: [&str; 7] = ["a", "b", "foo_bar", "__meta_x", "__meta_x_y", "__tmp", "instance"];
const VALUES: [&str; 10] = ["", "1", "foo", "Foo-Bar", "a1b22", "x;y", "été", "10.0.0.1:80", "$1", "a{,3}"];
const REGEXES: [&str; 16] = [
    "(.*)",
    "foo",
    "f(o+)",
    "(.)(.*)",
    "[a-c]\\d(.+)",
    "(?P<name>\\w+)-(\\w+)",
    ".*;(.*)",
    "\\D+",
    "[[:alpha:]]*",
    "(?i)FOO.*",
    "([^:]+):(\\d{2})",
    "",
    "[\\w.]+|x;y",
    "a{,3}|\\Q$1\\E",
    "\\S*\\b",
    "(é|t)+",
];
const NAME_REGEXES: [&str; 5] = ["__meta_(.+)", "(a|b)", "(foo_.*)", "(instance|__.*)", "([a-z_]+)"];
const REPLACEMENTS: [&str; 10] = ["$1", "", "x", "${1}-$2", "$name", "${name}!", "$$1", "$1x", "é$0", "a$"];
const TARGET_LABELS: [&str; 6] = ["a", "new", "foo_bar", "${1}", "x_$1", "__tmp"];

fn rule(choices: &mut Choices) -> Value {
    let sources: Vec<&str> = (0..choices.below(3)).map(|_| choices.of(&NAMES)).collect();
    let plain = ["a", "new", "foo_bar", "__tmp"];
    match choices.below(16) {
        0..=5 => {
            let target = choices.of(&TARGET_LABELS);
            let replacement = if target.contains('$') { "a$0" } else { choices.of(&REPLACEMENTS) };
            let mut rule = json!({ "source_labels": sources, "regex": choices.of(&REGEXES),
                "target_label": target, "replacement": replacement });
            if choices.below(3) == 0 {
                rule["separator"] = choices.of(&["", "-", ";;"]).into();
            }
            rule
        }
        6 => {
            json!({ "action": choices.of(&["keep", "drop"]), "source_labels": sources, "regex": choices.of(&REGEXES) })
        }
        7 => {
            json!({ "action": choices.of(&["keepequal", "dropequal"]), "source_labels": sources, "target_label": "a" })
        }
        8 | 9 => {
            json!({ "action": "hashmod", "source_labels": sources, "target_label": choices.of(&plain), "modulus": 97 })
        }
        10 | 11 => json!({ "action": choices.of(&["lowercase", "uppercase"]), "source_labels": sources,
            "target_label": choices.of(&plain) }),
        12 | 13 => json!({ "action": "labelmap", "regex": choices.of(&NAME_REGEXES),
            "replacement": choices.of(&["$1", "x_${1}", "${1}_x"]) }),
        14 => json!({ "action": "labeldrop", "regex": choices.of(&["a|b", "foo.*", "__meta_.*", "new"]) }),
        _ => {
            json!({ "action": "labelkeep", "regex": choices.of(&["__.*|a|b", "__.*|job|foo_bar", "[^f].*"]) })
        }
    }
}

/// The same rule as a block of our language.
fn block(rule: &Value) -> String {
    let fields = rule.as_object().expect("a rule is an object").iter();
    let fields: Vec<String> = fields.map(|(name, value)| format!("  {name} = {value}")).collect();
    format!("rule {{\n{}\n}}\n", fields.join("\n"))
}

fn ours(rules: &[Value]) -> Rules {
    struct Component(Rules);
    impl Decode for Component {
        fn decode(body: &mut Body<'_>) -> Self {
            Component(Rules::read(body, "rule"))
        }
    }
    let mut sources = Sources::default();
    let id = sources.add("rules.alloy", rules.iter().map(block).collect::<String>());
    let (file, diagnostics) = parse(&sources, id);
    assert!(!diagnostics.has_errors(), "{}", diagnostics.render(&sources));
    let Some(Statement::Block(first)) = file.statements.first() else { panic!("there is a rule") };
    let decoded: Result<Component, _> =
        decode_statements(&file.statements, first.header(), &Scope::default());
    decoded.map_err(|diagnostics| diagnostics.render(&sources)).expect("Prometheus takes these rules").0
}

type Labels = BTreeMap<String, String>;

/// What stays of a target: its labels without those that begin with `__`; none if it is dropped.
fn relabelled(rules: &Rules, target: &Labels) -> Option<Labels> {
    let mut labels = LabelSet::new(target.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    if !rules.apply(&mut labels) || labels.get("__address__").is_empty() {
        return None;
    }
    let address = labels.get("__address__").to_owned();
    let pairs = labels.into_pairs().into_iter().map(|(name, value)| (name.into_owned(), value.into_owned()));
    let mut labels: Labels = pairs.filter(|(name, _)| !name.starts_with("__")).collect();
    labels.entry("instance".to_owned()).or_insert(address);
    Some(labels)
}

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn targets_of(address: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /api/v1/targets?state=active HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

#[test]
#[ignore = "needs `prometheus` in the path"]
fn random_rules_come_to_the_same_labels_as_in_prometheus() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_nanos() as u64;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now) | 1;
    println!("SEED={seed}");
    let mut choices = Choices(seed);
    let mut jobs = Vec::new();
    let mut expected: BTreeMap<String, (Labels, Vec<Value>, Labels)> = BTreeMap::new();
    for job in 0..JOBS {
        let rules: Vec<Value> = (0..1 + choices.below(5)).map(|_| rule(&mut choices)).collect();
        let compiled = ours(&rules);
        let mut groups = Vec::new();
        for index in 0..TARGETS {
            let address = format!("127.0.0.1:{}", 1 + job * TARGETS + index);
            let mut labels = Labels::new();
            for name in &NAMES[..6] {
                if choices.below(3) > 0 {
                    labels.insert((*name).to_owned(), choices.of(&VALUES).to_owned());
                }
            }
            groups.push(json!({ "targets": [address], "labels": labels }));
            // What Prometheus adds before the rules.
            let added = [
                ("__address__", address.as_str()),
                ("__metrics_path__", "/metrics"),
                ("__scheme__", "http"),
                ("__scrape_interval__", "1h"),
                ("__scrape_timeout__", "10s"),
                ("job", &format!("job-{job}")),
            ];
            labels.extend(added.map(|(name, value)| (name.to_owned(), value.to_owned())));
            if let Some(left) = relabelled(&compiled, &labels) {
                expected.insert(address, (left, rules.clone(), labels));
            }
        }
        jobs.push(
            json!({ "job_name": format!("job-{job}"), "scrape_interval": "1h", "scrape_timeout": "10s",
            "static_configs": groups, "relabel_configs": rules }),
        );
    }
    assert!(expected.len() > JOBS, "only {} targets are kept: the rules drop too much", expected.len());

    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("prometheus.yml");
    // JSON is YAML.
    std::fs::write(&config, json!({ "scrape_configs": jobs }).to_string()).expect("a writable folder");
    let address = free_addresses(1).expect("a free port")[0];
    let started = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .stdout(Stdio::null())
        .spawn();
    let _prometheus = Prometheus(started.expect("`prometheus` is in the path"));

    let deadline = Instant::now() + PATIENCE;
    let seen: BTreeMap<String, Labels> = loop {
        assert!(Instant::now() < deadline, "Prometheus does not show its targets");
        std::thread::sleep(Duration::from_millis(200));
        let Some(answer) = targets_of(address) else { continue };
        let active = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let seen: BTreeMap<String, Labels> = active
            .iter()
            .map(|target| {
                let labels = serde_json::from_value(target["labels"].clone()).expect("texts");
                (target["discoveredLabels"]["__address__"].as_str().unwrap_or_default().to_owned(), labels)
            })
            .collect();
        // All jobs are synced together some seconds after the start.
        if seen.len() >= expected.len() {
            break seen;
        }
    };
    for (address, (labels, rules, before)) in &expected {
        assert_eq!(
            seen.get(address),
            Some(labels),
            "{before:?}\n{}",
            rules.iter().map(block).collect::<String>()
        );
    }
    assert_eq!(seen.len(), expected.len(), "Prometheus keeps targets that we drop");
    println!("{} targets kept of {}, all alike", seen.len(), JOBS * TARGETS);
}
