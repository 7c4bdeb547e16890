//! The documentation beside the code: arguments on the pages are those that the code reads, examples are valid, commands
//! are commands, links lead somewhere, quoted messages are said.
//!
//! What no test can run says so in front of its block: `<!-- test: not run, REASON -->`. With `<!-- test: run -->` it is run in
//! an empty folder. Pages that `.ci/walkthrough.py` names are run there from their first command to the last.

#[path = "docs/arguments.rs"]
mod arguments;
#[path = "docs/examples.rs"]
mod examples;
#[path = "docs/pages.rs"]
mod pages;

use std::collections::BTreeSet;

use alloy_bin::components::registrations;
use alloy_bin::config::{Asked, AskedBody, Body, Decode, What, asked};
use alloy_bin::http_client::HttpClientOptions;
use alloy_bin::logging::Logging;
use alloy_bin::server::HttpBlock;

use self::arguments::{compare, resolve};
use self::pages::{Page, pages, quoted, report, root};

/// Records of decisions and of other people's code are of their time.
const OF_THEIR_TIME: &[&str] = &["docs/upstream/", "docs/decisions/", "docs/CHANGELOG.md"];

#[test]
fn a_page_has_the_arguments_that_the_code_reads_with_their_types_and_defaults() {
    let pages = pages();
    let mut findings = Vec::new();
    for registration in registrations() {
        let path = format!("docs/components/{}.md", registration.name());
        match pages.iter().find(|page| page.path == path) {
            Some(page) => findings.extend(compare(page, &registration.arguments(), &pages)),
            None => findings.push(format!("there is no {path}")),
        }
    }
    let block =
        |name: &str, body| Asked { name: name.to_owned(), what: What::Block(body), is_refused: false };
    let settings = vec![block("logging", asked::<Logging>()), block("http", asked::<HttpBlock>())];
    for (path, body) in [
        ("docs/http-client.md", asked::<HttpClientOptions>()),
        ("docs/configuration.md", AskedBody { asked: settings, complaints: Vec::new() }),
    ] {
        let page = pages.iter().find(|page| page.path == path).expect("it is there");
        findings.extend(compare(page, &body, &pages));
    }
    report(&findings);
}

struct Example;

impl Decode for Example {
    fn decode(body: &mut Body<'_>) -> Self {
        body.required::<String>("url");
        body.optional("wait", std::time::Duration::from_secs(60));
        body.block::<Inner>("inner");
        Example
    }
}

struct Inner;

impl Decode for Inner {
    fn decode(body: &mut Body<'_>) -> Self {
        body.optional("names", Vec::<String>::new());
        Inner
    }
}

/// A comparison that cannot fail is none.
#[test]
fn a_page_that_is_not_like_the_code_is_found() {
    const HEAD: &str = "## Arguments\n\n| name | type | meaning | default |\n| --- | --- | --- | --- |\n";
    const GOOD: &str = "| `url` | string | | required |\n| `wait` | duration | | `\"1m\"` |\n";
    const INNER: &str = "\n### `inner`\n\n| name | type | meaning | default |\n| --- | --- | --- | --- |\n| `names` | list(string) | | `[]` |\n";
    let check = |rows: &str, inner: &str, wanted: &str| {
        let page = Page::new("page.md", &format!("{HEAD}{rows}{inner}"));
        let findings = compare(&page, &asked::<Example>(), &[]).join("\n");
        assert!(
            if wanted.is_empty() { findings.is_empty() } else { findings.contains(wanted) },
            "{findings}"
        );
    };
    check(GOOD, INNER, "");
    check("| `wait` | duration | | `\"1m\"` |\n", INNER, "reads `url`");
    check(&format!("{GOOD}| `more` | string | | |\n"), INNER, "does not read `more`");
    check(&GOOD.replace("1m", "2m"), INNER, "the code \"1m\"");
    check(&GOOD.replace("duration", "string"), INNER, "the code \"duration\"");
    check(&GOOD.replace("required", "`\"a\"`"), INNER, "is required");
    check(&GOOD.replace("`\"1m\"`", "required"), INNER, "is not required");
    check(GOOD, "", "reads `inner`");
    check(GOOD, &INNER.replace("`inner`", "`other`"), "no block `other`");
    check(GOOD, &INNER.replace("`names`", "`name`"), "reads `inner > names`");
}

#[test]
fn every_configuration_on_a_page_is_valid() {
    let mut findings = Vec::new();
    let mut checked = 0;
    for page in pages() {
        for code in page.code().iter().filter(|code| code.language == "alloy" && code.mark.is_empty()) {
            checked += 1;
            if let Err(error) = examples::configuration(code) {
                findings.push(format!("{}:{}: {error}", page.path, code.line));
            }
        }
    }
    assert!(checked > 35, "{checked} configurations");
    report(&findings);
}

#[test]
fn every_command_on_a_page_is_one() {
    let mut findings = Vec::new();
    let mut checked = 0;
    for page in pages() {
        if is_walked_through(&page) {
            continue;
        }
        for code in page.code().iter().filter(|code| is_shell(&code.language) && code.mark.is_empty()) {
            for line in examples::commands(&code.text) {
                checked += 1;
                let fault = match examples::command(&line) {
                    Some(Ok(())) => continue,
                    Some(Err(error)) => error,
                    None => "no test runs this: give the block a mark, see tests/docs.rs".to_owned(),
                };
                findings.push(format!("{}:{}: {line}\n{fault}", page.path, code.line));
            }
        }
        for (line, text) in page.prose().filter(|_| !OF_THEIR_TIME.iter().any(|of| page.path.starts_with(of)))
        {
            for command in quoted(text).iter().filter(|text| text.starts_with("alloy ")) {
                let command = &command.replace("\\|", "|");
                if command.contains("...") || command.contains(['[', '{']) {
                    continue;
                }
                checked += 1;
                // Prose names commands without what they need, as a group, or as what only Alloy has.
                let is_a_name = |error: &str| {
                    !error.starts_with("error:")
                        || ["required arguments were not provided", "invalid value 'SHELL'", "is not here:"]
                            .iter()
                            .any(|part| error.contains(part))
                };
                if let Some(Err(error)) = examples::command(command)
                    && !is_a_name(&error)
                {
                    findings.push(format!("{}:{line}: {command}\n{error}", page.path));
                }
            }
        }
    }
    assert!(checked > 20, "{checked} commands");
    report(&findings);
}

fn is_shell(language: &str) -> bool {
    matches!(language, "sh" | "console")
}

/// JSON and YAML are JSON and YAML, and what is to be depended on has this version.
#[test]
fn other_examples_on_a_page_are_what_they_say() {
    let mut findings = Vec::new();
    for page in pages() {
        for code in page.code().iter().filter(|code| code.mark.is_empty()) {
            let fault = match code.language.as_str() {
                "json" => {
                    serde_json::from_str::<serde_json::Value>(&code.text).err().map(|error| error.to_string())
                }
                "yaml" => serde_saphyr::from_str::<serde_json::Value>(&code.text)
                    .err()
                    .map(|error| error.to_string()),
                "toml" => {
                    let own = code.text.lines().filter(|line| line.starts_with("alloy-"));
                    let version = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
                    let is_old = |line: &&str| !env!("CARGO_PKG_VERSION").starts_with(&version(line));
                    own.into_iter()
                        .find(is_old)
                        .map(|line| format!("{line}: this is {}", env!("CARGO_PKG_VERSION")))
                }
                "alloy" | "sh" | "console" | "text" | "mermaid" | "rust" => None,
                other => Some(format!("nothing looks at {other:?}")),
            };
            findings.extend(fault.map(|fault| format!("{}:{}: {fault}", page.path, code.line)));
            let is_doctest =
                ["docs/guides/", "docs/upstream/"].iter().any(|folder| page.path.starts_with(folder));
            if code.language == "rust" && !is_doctest {
                findings
                    .push(format!("{}:{}: no crate has this page among its doctests", page.path, code.line));
            }
        }
    }
    report(&findings);
}

/// The commands of these pages are run one after the other.
fn is_walked_through(page: &Page) -> bool {
    let runner = std::fs::read_to_string(root().join(".ci/walkthrough.py")).expect("readable");
    runner.contains(&format!("\"{}\"", page.path))
}

/// Blocks that are marked to be run, each alone in an empty folder.
#[test]
fn marked_commands_do_what_they_say() {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_alloy")).parent().expect("a folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").expect("there is one"));
    let mut findings = Vec::new();
    let pages = pages();
    for page in &pages {
        for code in page.code().iter().filter(|code| code.mark == "run") {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut shell = std::process::Command::new("bash");
            shell.args(["-euo", "pipefail", "-c", &code.text]).current_dir(folder.path()).env("PATH", &path);
            let output = shell.output().expect("it starts");
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                findings.push(format!("{}:{}: {}: {said}", page.path, code.line, output.status));
            }
        }
    }
    report(&findings);
}

/// Who marks a block says why.
#[test]
fn every_block_that_is_left_out_says_why() {
    let mut findings = Vec::new();
    for page in pages() {
        for code in page.code().iter().filter(|code| !code.mark.is_empty()) {
            let has_reason = code.mark.strip_prefix("not run, ").is_some_and(|reason| reason.len() > 10);
            let is_fine =
                has_reason || code.mark == "run" || (code.mark == "output" && is_walked_through(&page));
            if !is_fine {
                findings.push(format!("{}:{}: what is {:?}?", page.path, code.line, code.mark));
            }
        }
    }
    report(&findings);
}

#[test]
fn every_link_on_a_page_leads_somewhere() {
    let pages = pages();
    let mut findings = Vec::new();
    for page in &pages {
        for (line, target) in page.links() {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = resolve(&page.path, &target);
            if !root().join(&path).exists() {
                findings.push(format!("{}:{line}: {target}: there is no {path}", page.path));
            }
            let leads = pages
                .iter()
                .find(|page| page.path == path)
                .is_none_or(|page| page.anchors().contains(&anchor));
            if !anchor.is_empty() && !leads {
                findings.push(format!("{}:{line}: {path} has no heading #{anchor}", page.path));
            }
        }
    }
    report(&findings);
}

#[test]
fn the_books_summary_has_every_page_once() {
    let pages = pages();
    let summary = pages.iter().find(|page| page.path == "docs/SUMMARY.md").expect("docs/SUMMARY.md");
    let mut listed: Vec<String> =
        summary.links().into_iter().map(|(_, target)| format!("docs/{target}")).collect();
    listed.sort();
    let wanted: Vec<&str> = pages.iter().map(|page| page.path.as_str()).collect();
    let wanted: Vec<&str> =
        wanted.into_iter().filter(|path| path.starts_with("docs/") && *path != "docs/SUMMARY.md").collect();
    assert_eq!(listed, wanted);
    let table = pages.iter().find(|page| page.path == "docs/components/README.md").expect("it is there");
    let linked: Vec<String> = table.links().into_iter().map(|(_, target)| target).collect();
    let missing = registrations()
        .into_iter()
        .map(|one| format!("{}.md", one.name()))
        .filter(|page| !linked.contains(page));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<String>::new(), "docs/components/README.md");
}

/// A message in the first column of the troubleshooting page's tables is one that the code has.
#[test]
fn messages_that_the_troubleshooting_page_quotes_are_said() {
    let pages = pages();
    let page =
        pages.iter().find(|page| page.path == "docs/troubleshooting.md").expect("docs/troubleshooting.md");
    let mut sources = String::new();
    let mut folders =
        ["alloy-bin/src", "alloy-wal/src", "alloy-cluster/src"].map(|name| root().join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(path).expect("text");
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                sources.extend(code.flat_map(|line| [line, "\n"]));
            }
        }
    }
    // Long texts go over several lines in the code.
    let sources: String = sources.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut quotes = BTreeSet::new();
    for (line, text) in page.prose().filter(|(_, text)| text.starts_with("| ")) {
        let cell = text.split(" | ").next().unwrap_or_default();
        quotes.extend(quoted(cell).into_iter().map(|quote| (line, quote)));
    }
    assert!(quotes.len() > 15, "{quotes:?}");
    // What stands between `...` is one piece of a text.
    let is_said = |quote: &str| quote.split("...").all(|piece| sources.contains(piece.trim()));
    let missing = quotes.iter().filter(|(_, quote)| !is_said(quote));
    report(
        &missing
            .map(|(line, quote)| format!("{}:{line}: nobody says {quote:?}", page.path))
            .collect::<Vec<_>>(),
    );
}
