//! The rules of the house as tests: who may import whom, how long a file may be, names that are paths, a page for
//! every component. A broken rule is printed as `file:line: what is wrong`; docs/ARCHITECTURE.md says why it is one.
//!
//! Text is read, not parsed: comments are cut off, `use` trees are unfolded, and unit tests (the last part of a
//! file, or a file `tests.rs`) may import what they like.

#[path = "tidy/text.rs"]
mod text;

use std::fmt::Write as _;

use self::text::{File, lines_with, pages, root, rust_files, unfold};

/// Lines a file may have. There is no list of exceptions.
const LINES_MAX: usize = 500;

const CRATES: [&str; 3] = ["alloy-cluster", "alloy-wal", "alloy-bin"];

/// Top-level module of the agent -> the top-level modules that it may name.
const IMPORTS: &[(&str, &[&str])] = &[
    ("lib", &[]),
    ("main", &[]),
    (
        "cli",
        &["components", "config", "graph", "http_client", "outbox", "ownership", "run", "syntax", "tools"],
    ),
    (
        "run",
        &[
            "cli",
            "components",
            "graph",
            "http_client",
            "logging",
            "ownership",
            "server",
            "service_manager",
            "telemetry",
        ],
    ),
    ("service_manager", &[]),
    ("tools", &["http_client"]),
    ("logging", &["config"]),
    ("syntax", &[]),
    ("config", &["syntax"]),
    ("graph", &["config", "formats", "http_client", "logging", "ownership", "server", "syntax", "telemetry"]),
    (
        "components",
        &[
            "config",
            "formats",
            "graph",
            "http_client",
            "kubernetes",
            "otlp",
            "outbox",
            "ownership",
            "relabel",
            "scraping",
            "server",
            "stages",
            "tailing",
            "telemetry",
        ],
    ),
    ("scraping", &["formats", "graph", "http_client", "relabel", "telemetry"]),
    ("http_client", &["config"]),
    ("kubernetes", &["config", "http_client", "telemetry"]),
    ("relabel", &["config", "telemetry"]),
    ("stages", &["relabel", "telemetry"]),
    ("tailing", &["graph", "telemetry"]),
    ("outbox", &["config", "formats", "graph", "http_client", "telemetry"]),
    ("otlp", &["config", "formats", "graph", "http_client", "outbox", "server", "telemetry"]),
    ("ownership", &["config", "telemetry"]),
    ("formats", &["telemetry"]),
    ("telemetry", &[]),
    ("server", &["config", "http_client", "ownership", "telemetry"]),
    ("testing", &["config", "formats", "stages", "syntax", "telemetry"]),
];

/// A name in the code, and the only parts of the workspace (path prefixes) that may use it.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    (
        "alloy_cluster",
        &["alloy-cluster/", "alloy-bin/src/ownership/", "alloy-bin/src/run.rs"],
        "ownership speaks to the cluster",
    ),
    (
        "alloy_wal",
        &["alloy-wal/", "alloy-bin/src/outbox/", "alloy-bin/src/tools/"],
        "outbox speaks to the log; tools look at one from outside, with no agent running",
    ),
    ("alloy_bin", &["alloy-bin/"], "the libraries know nothing of the agent"),
];

/// A path prefix, and what must not be named below it.
const NEVER_IN: &[(&str, &[&str], &str)] = &[
    ("alloy-bin/src/syntax/", &["tokio", "std::fs", "std::net"], "syntax is text in, tree out"),
    ("alloy-bin/src/formats/", &["tokio", "std::fs", "std::net"], "formats are bytes in, bytes out"),
    ("alloy-bin/src/stages/", &["tokio", "std::fs", "SystemTime"], "stages are functions of a batch"),
    ("alloy-bin/src/telemetry/", &["tokio", "std::fs", "std::net"], "telemetry is the model in memory"),
    ("alloy-bin/src/config/", &["tokio"], "config is tree in, values out"),
    (
        "alloy-wal/src/",
        &["tokio", "std::env", "thread::spawn", "thread::Builder"],
        "the log starts nothing and reads no environment",
    ),
    (
        "alloy-cluster/src/",
        &["tokio::spawn", "std::env", "thread::spawn", "thread::Builder"],
        "the library spawns nothing: its caller does",
    ),
];

const UNSAFE_IN: &str = "alloy-wal/src/storage/mmap.rs";

#[test]
fn every_file_keeps_the_rules_of_the_house() {
    let files = rust_files();
    assert!(files.len() > 20, "only {} files found below {}", files.len(), root().display());
    let components = component_files(&files);
    let mut findings = Vec::new();
    for file in &files {
        findings.extend(size_and_opening(file));
        findings.extend(forbidden_words(file));
        findings.extend(imports(file, &components));
    }
    report(&findings);
}

#[test]
fn a_components_name_is_its_path_and_it_has_a_page() {
    let files = rust_files();
    let mut findings = Vec::new();
    let mut pages = pages();
    for (file, name) in component_files(&files) {
        let wanted = format!("alloy-bin/src/components/{}.rs", module_of_name(&name).join("/"));
        if file.path != wanted && file.path != wanted.replace(".rs", "/mod.rs") {
            findings.push(file.finding(1, &format!("the component `{name}` belongs into {wanted}")));
        }
        let page_path = format!("docs/components/{name}.md");
        let Some(at) = pages.iter().position(|page| page.path == page_path) else {
            findings.push(file.finding(1, &format!("the component `{name}` has no page {page_path}")));
            continue;
        };
        // What the page says is the business of `docs.rs`.
        pages.swap_remove(at);
    }
    findings.extend(pages.iter().map(|page| page.finding(1, "a page of a component that does not exist")));
    report(&findings);
}

#[test]
fn crates_without_unsafe_code_say_so() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let is_root = file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs");
        let wanted =
            if file.path.starts_with("alloy-wal/") { "(unsafe_code)" } else { "#![forbid(unsafe_code)]" };
        if is_root && !file.text.contains(wanted) {
            findings.push(file.finding(1, &format!("the crate's root lacks {wanted}")));
        }
    }
    report(&findings);
}

#[test]
fn the_libraries_readmes_name_every_feature_with_its_default() {
    let mut findings = Vec::new();
    for name in &CRATES[..2] {
        let read = |file: &str| {
            File::new(
                &format!("{name}/{file}"),
                &std::fs::read_to_string(root().join(name).join(file)).expect("readable"),
            )
        };
        let (manifest, page) = (read("Cargo.toml"), read("README.md"));
        let features = manifest
            .text
            .split("[features]\n")
            .nth(1)
            .and_then(|rest| rest.split("\n[").next())
            .expect("a table");
        let (mut defaults, mut count) = ("", 0);
        for line in features.lines() {
            let Some((feature, needs)) = line.split_once(" = ") else { continue };
            if feature == "default" {
                defaults = needs;
                continue;
            }
            count += 1;
            let on = if defaults.contains(&format!("\"{feature}\"")) { "yes" } else { "no" };
            let row = format!("| `{feature}` | {on} |");
            if !page.text.contains(&row) {
                findings.push(page.finding(1, &format!("has no row `{row}`")));
            }
        }
        let rows = page.text.matches(" | yes | ").count() + page.text.matches(" | no | ").count();
        if rows != count {
            findings.push(page.finding(1, &format!("has {rows} rows of features, there are {count}")));
        }
    }
    report(&findings);
}

/// Each rule finds what it is there for: a rule that cannot fail is none.
#[test]
fn a_broken_rule_is_found() {
    let scrape = File::new(
        "alloy-bin/src/components/prometheus/scrape.rs",
        "const NAME: &'static str = \"prometheus.scrape\";",
    );
    let found = |path: &str, text: &str| {
        let file = File::new(path, &format!("//! What it is.\n{text}\n"));
        let mut all = size_and_opening(&file);
        all.extend(forbidden_words(&file));
        all.extend(imports(&file, &[(&scrape, "prometheus.scrape".to_owned())]));
        all.len()
    };
    let check =
        |path: &str, text: &str, wanted: usize| assert_eq!(found(path, text), wanted, "{path}: {text}");
    check("alloy-bin/src/syntax/lexer.rs", "use super::ast::Tree;", 0);
    check("alloy-bin/src/syntax/lexer.rs", "use crate::config::Value;", 1);
    check("alloy-bin/src/syntax/lexer.rs", "// crate::config is above us", 0);
    check("alloy-bin/src/syntax/lexer.rs", "use tokio::time;", 1);
    check(
        "alloy-bin/src/formats/loki/push.rs",
        "use crate::{\n    telemetry::{Labels, LogBatch},\n    outbox,\n};",
        1,
    );
    check("alloy-bin/src/formats/loki/push.rs", "use super::super::super::graph::Consumer;", 1);
    check("alloy-bin/src/formats/loki/push.rs", "#[cfg(test)]\nmod tests { use crate::config::x; }", 0);
    check("alloy-bin/src/server/mod.rs", "use alloy_cluster::View;", 1);
    check("alloy-bin/src/ownership/mod.rs", "use alloy_cluster::View;", 0);
    check("alloy-bin/src/components/loki/write.rs", "use alloy_wal::Wal;", 1);
    check("alloy-bin/src/components/loki/write.rs", "use crate::components::prometheus::scrape::Scrape;", 1);
    check("alloy-bin/src/components/prometheus/remote_write.rs", "use super::scrape::Scrape;", 1);
    check(
        "alloy-bin/src/components/prometheus/scrape.rs",
        "use crate::components::prometheus::scrape::Loop;",
        0,
    );
    check("alloy-bin/src/novelty/mod.rs", "use crate::telemetry;", 1);
    check("alloy-wal/src/log.rs", "fn f() { std::thread::spawn(|| ()); }", 1);
    check(
        "alloy-wal/src/log.rs",
        "static OPEN: AtomicBool = AtomicBool::new(false);\nstatic TABLE: [u8; 2] = [1, 2];",
        1,
    );
    check("alloy-wal/src/log.rs", "fn f() { unsafe { g() } }", 1);
    check(UNSAFE_IN, "fn f() { unsafe { g() } }", 0);
    check("alloy-wal/src/log.rs", concat!("fn f() { to", "do!() }"), 1);
    check("alloy-wal/src/log.rs", &"\n".repeat(LINES_MAX), 1);
    assert_eq!(size_and_opening(&File::new("alloy-wal/src/log.rs", "use std::fs;\n")).len(), 1);
}

fn size_and_opening(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        findings.push(file.finding(lines, &format!("{lines} lines; {LINES_MAX} are the limit, split it")));
    }
    if !file.text.starts_with("//! ") {
        findings.push(file.finding(1, "does not begin with `//! ` and what the file is for"));
    }
    findings
}

fn forbidden_words(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for name in ["todo", "unimplemented", "dbg"] {
        let call = format!("{name}!");
        findings.extend(
            lines_with(&file.code, &call)
                .map(|line| file.finding(line, &format!("{call} is not finished code"))),
        );
    }
    if file.path != UNSAFE_IN {
        let lines = lines_with(&file.code, "unsafe");
        findings
            .extend(lines.map(|line| file.finding(line, &format!("unsafe code belongs into {UNSAFE_IN}"))));
    }
    for (name, homes, why) in ONLY_IN {
        if !homes.iter().any(|home| file.path.starts_with(home)) {
            findings.extend(
                lines_with(&file.code, name).map(|line| file.finding(line, &format!("names {name}; {why}"))),
            );
        }
    }
    for (_, names, why) in NEVER_IN.iter().filter(|(prefix, ..)| file.path.starts_with(prefix)) {
        for name in *names {
            findings.extend(
                lines_with(&file.code, name).map(|line| file.finding(line, &format!("names {name}; {why}"))),
            );
        }
    }
    let is_library = CRATES[..2].iter().any(|name| file.path.starts_with(&format!("{name}/src/")));
    if is_library {
        for (index, line) in file.code.lines().enumerate() {
            let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let is_state = ["mut ", "Atomic", "Cell", "Lock", "Mutex"].iter().any(|word| line.contains(word));
            if line.starts_with("static ") && is_state {
                findings.push(file.finding(index + 1, "a library keeps no state in a static"));
            }
        }
    }
    findings
}

/// Who may name whom inside the agent.
fn imports(file: &File, components: &[(&File, String)]) -> Vec<String> {
    if !file.path.starts_with("alloy-bin/src/") || file.code.is_empty() {
        return Vec::new();
    }
    let module = file.module();
    let home = module.first().copied().unwrap_or_default();
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == home) else {
        return vec![file.finding(1, &format!("the module `{home}` has no row in IMPORTS of tests/tidy.rs"))];
    };
    let mut findings = Vec::new();
    for (line, path) in named_paths(file) {
        let Some(top) = path.first().map(String::as_str) else { continue };
        let is_module = IMPORTS.iter().any(|(name, _)| *name == top);
        if is_module && top != home && !allowed.contains(&top) {
            findings
                .push(file.finding(line, &format!("`{home}` may not name `crate::{top}`, only {allowed:?}")));
        }
        if top == "components" && home == "components" {
            let named = components.iter().map(|(other, name)| (other.module(), name));
            for (other, name) in named.filter(|(other, _)| !module.starts_with(other)) {
                if other.len() <= path.len()
                    && other.iter().zip(&path).all(|(a, b)| a == b)
                    && module.len() > 1
                {
                    findings.push(
                        file.finding(
                            line,
                            &format!("a component names `{name}`; they meet in the graph alone"),
                        ),
                    );
                }
            }
        }
    }
    // The registry and the folders' maps name every component: that is what they are for.
    if file.path.ends_with("/mod.rs") && home == "components" {
        findings.retain(|finding| !finding.contains("they meet in the graph alone"));
    }
    findings
}

/// Every path that begins with `crate::` or `super::`, from the crate's root on, with its line.
fn named_paths(file: &File) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let module = file.module();
    for start in ["crate::", "super::"] {
        for (at, _) in file.code.match_indices(start) {
            let before = file.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut rest = &file.code[at..];
            let mut base: Vec<String> = Vec::new();
            if start == "crate::" {
                rest = &rest["crate::".len()..];
            } else {
                let mut depth = module.len();
                while let Some(behind) = rest.strip_prefix("super::") {
                    depth = depth.saturating_sub(1);
                    rest = behind;
                }
                base = module[..depth].iter().map(|part| (*part).to_owned()).collect();
            }
            let line = file.code[..at].matches('\n').count() + 1;
            for path in unfold(rest) {
                found.push((line, base.iter().cloned().chain(path).collect()));
            }
        }
    }
    found
}

/// The files that declare a component, with its name.
fn component_files(files: &[File]) -> Vec<(&File, String)> {
    let candidates = files.iter().filter(|file| file.path.starts_with("alloy-bin/src/components/"));
    candidates
        .filter_map(|file| {
            let behind = file.code.split_once("const NAME: &'static str =")?.1;
            Some((file, behind.split('"').nth(1)?.to_owned()))
        })
        .collect()
}

/// `loki.source.file` -> `["loki", "source_file"]`.
fn module_of_name(name: &str) -> Vec<String> {
    name.splitn(2, '.').map(|part| part.replace('.', "_")).collect()
}

fn report(findings: &[String]) {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{finding}");
    }
    assert!(findings.is_empty(), "{} broken rules of the house:\n{text}", findings.len());
}
