//! Examples on the pages: configurations are checked as `alloy validate` does, commands are read by the real command line.

use std::collections::BTreeSet;

use alloy_bin::components::registrations;
use alloy_bin::graph::check;
use regex::Regex;

use super::pages::{Code, root};

/// What a fragment may refer to without having it: a block of this kind is put behind it.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("discovery.dns", "names = [\"a\"]"),
    ("discovery.file", "files = [\"a.json\"]"),
    ("discovery.kubernetes", "role = \"pod\""),
    ("loki.write", "endpoint {\n\turl = \"http://loki\"\n}"),
    ("otelcol.exporter.otlp", "client {\n\tendpoint = \"tempo:4317\"\n}"),
    ("prometheus.remote_write", "endpoint {\n\turl = \"http://store\"\n}"),
];

/// What is wrong with a configuration. One that is a fragment is given the neighbours that it names.
pub(super) fn configuration(code: &Code) -> Result<(), String> {
    // Variables that the machine of a test does not have.
    let mut text =
        Regex::new(r#"sys\.env\("(\w+)"\)"#).expect("valid").replace_all(&code.text, "\"$1\"").into_owned();
    let mut given = BTreeSet::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("example.alloy");
    loop {
        std::fs::write(&path, &text).expect("writable");
        let checkup = check(&path, &registrations(), "host");
        let Err(error) = checkup.result() else { return Ok(()) };
        let missing: Vec<String> = checkup
            .diagnostics
            .iter()
            .filter_map(|found| {
                let name = found.message.strip_prefix("component \"")?;
                Some(name.strip_suffix("\" does not exist or is out of scope")?.to_owned())
            })
            .collect();
        let before = given.len();
        for name in &missing {
            let neighbour = NEIGHBOURS.iter().find(|(kind, _)| name.starts_with(&format!("{kind}.")));
            let Some((kind, body)) = neighbour else { return Err(error) };
            let label = name[kind.len() + 1..].split('.').next().unwrap_or_default();
            if given.insert(format!("{kind}.{label}")) {
                text += &format!("\n{kind} \"{label}\" {{\n{body}\n}}\n");
            }
        }
        if given.len() == before {
            return Err(error);
        }
    }
}

/// The commands of a block for a shell: lines that go on are joined, comments and what is behind a pipe cut off.
pub(super) fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    // What a person types in a `console`.
    let is_console = joined.starts_with("$ ");
    let typed =
        joined.lines().filter_map(|line| if is_console { line.strip_prefix("$ ") } else { Some(line) });
    let lines = typed.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// What is wrong with a command. `None`: it is none of those that are known here.
pub(super) fn command(line: &str) -> Option<Result<(), String>> {
    let words: Vec<String> = words(line);
    let example = |name: &str| {
        let folder = root().join("examples");
        let is_there = folder.join(format!("{name}.rs")).exists() || folder.join(name).is_dir();
        if is_there { Ok(()) } else { Err(format!("there is no example {name}")) }
    };
    let is_after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1);
    match words.first().map(String::as_str)? {
        "alloy" => Some(alloy_bin::cli::check(words.iter().take_while(|word| *word != "|" && *word != "&"))),
        "cargo" => Some(match is_after("--example") {
            Some(name) => example(name),
            None => is_after("--test").map_or(Ok(()), |name| {
                let files =
                    ["alloy-bin", "alloy-wal", "alloy-cluster"].map(|name| root().join(name).join("tests"));
                let is_there = files.iter().any(|folder| folder.join(format!("{name}.rs")).exists());
                if is_there { Ok(()) } else { Err(format!("there is no test {name}")) }
            }),
        }),
        "curl" => Some(asked_for(words.last().map_or("", String::as_str))),
        program if program.starts_with(".ci/") || program.starts_with("fuzz/") => {
            Some(if root().join(program).exists() { Ok(()) } else { Err("there is no such file".to_owned()) })
        }
        _ => None,
    }
}

/// Whether the API has what a URL asks for.
fn asked_for(url: &str) -> Result<(), String> {
    let path = url.split('?').next().unwrap_or_default().trim_start_matches("http://");
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let api = std::fs::read_to_string(root().join("docs/openapi.yaml")).expect("readable");
    let is_there = api.contains(&format!("\n  /{path}:")) || api.contains(&format!("\n  /{folder}/{{"));
    if is_there { Ok(()) } else { Err(format!("the API has no /{path}")) }
}

/// As a shell takes a line apart, without variables.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote, mut word) = (Vec::new(), None, String::new());
    for character in line.chars() {
        match (character, quote) {
            ('\'' | '"', None) => quote = Some(character),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            (c, _) => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}
