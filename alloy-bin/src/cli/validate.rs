//! `alloy validate`: is this a configuration that would run?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::components::registrations;
use crate::graph::{Checkup, check};
use crate::syntax::Severity;

pub(super) const AFTER_HELP: &str = "\
Examples:
  alloy validate config.alloy
  alloy validate prod/ staging/              each folder is one configuration
  alloy validate --format=json config.alloy  for programs

Everything is checked that can be known without running: syntax, names, references, cycles, types, values. Nothing is
started, and nothing is asked over the network.

Exit codes:
  0  all would run
  1  one would not; standard error says why, with --format=json standard output
  2  the command line is wrong";

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Configurations: files, or folders with *.alloy files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to say what is wrong.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The same as --format=json.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    /// For people: the lines with carets under them.
    Text,
    /// One object with the list `configurations`.
    Json,
}

pub(super) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let hostname = crate::run::hostname();
    let mut reports = Vec::new();
    let mut valid = true;
    let format = if flags.json { Format::Json } else { flags.format };
    for path in &flags.paths {
        let checkup = check(path, &registrations(), &hostname);
        let is_valid = !checkup.diagnostics.has_errors();
        valid &= is_valid;
        if format == Format::Json {
            reports.push(Report::new(path.display().to_string(), is_valid, &checkup));
            continue;
        }
        if !checkup.diagnostics.is_empty() {
            super::complain(&checkup.diagnostics.render(&checkup.sources));
        }
        if is_valid {
            let components = if checkup.blocks == 1 { "component" } else { "components" };
            println!("{}: valid, {} {components}", path.display(), checkup.blocks);
        }
    }
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "configurations": reports }))?);
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `--format=json` says of one configuration.
#[derive(Serialize)]
struct Report {
    path: String,
    valid: bool,
    components: usize,
    diagnostics: Vec<Message>,
}

/// Lines and columns count from 1; the end is the column behind the last character.
#[derive(Serialize)]
struct Message {
    severity: &'static str,
    file: String,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Report {
    fn new(path: String, valid: bool, checkup: &Checkup) -> Report {
        let messages = checkup.diagnostics.iter().map(|diagnostic| {
            let start = checkup.sources.location(diagnostic.span);
            let end = checkup.sources.location(diagnostic.span.behind());
            Message {
                severity: match diagnostic.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                file: start.file,
                line: start.line,
                column: start.column,
                end_line: end.line,
                end_column: end.column,
                message: diagnostic.message.clone(),
                hint: diagnostic.hint.clone(),
            }
        });
        Report { path, valid, components: checkup.blocks, diagnostics: messages.collect() }
    }
}
