//! `alloy fmt`: the one layout.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::syntax::{Sources, format};

pub(super) const AFTER_HELP: &str = "\
Examples:
  alloy fmt config.alloy            print it in the one layout
  alloy fmt -w *.alloy              write the files that change
  alloy fmt -t *.alloy              name the files that would change; for hooks and pipelines
  curl -s http://... | alloy fmt -  read standard input

Comments stay where they are, and formatting a formatted file changes nothing.

Exit codes:
  0  done; with --test: everything is formatted
  1  a file has errors or can't be read or written; with --test: a file would change
  2  the command line is wrong";

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// The files; - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write the result to the files instead of standard output.
    #[arg(short, long)]
    write: bool,
    /// Write nothing; only name the files that are not formatted.
    #[arg(short, long, conflicts_with = "write")]
    test: bool,
}

pub(super) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in &flags.files {
        match one(file, flags) {
            Ok(true) => {}
            Ok(false) => code = ExitCode::FAILURE,
            // The others are formatted all the same.
            Err(error) => {
                super::complain(&format!("{error:#}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// False if the file should be formatted and only this was asked.
fn one(file: &Path, flags: &Flags) -> anyhow::Result<bool> {
    let stdin = file.as_os_str() == "-";
    let name = if stdin { "standard input".to_owned() } else { file.display().to_string() };
    ensure!(!(stdin && flags.write), "--write needs files; standard input cannot be written to");
    let text = if stdin { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = text.with_context(|| format!("cannot read {name}"))?;
    let mut sources = Sources::default();
    let id = sources.add(name.clone(), text.clone());
    let formatted = match format(&sources, id) {
        Ok(formatted) => formatted,
        Err(diagnostics) => bail!("{}", diagnostics.render(&sources)),
    };
    if flags.test {
        if formatted != text {
            eprintln!("{name} is not formatted");
        }
        return Ok(formatted == text);
    }
    if !flags.write {
        std::io::stdout().write_all(formatted.as_bytes()).context("cannot write to standard output")?;
    } else if formatted != text {
        std::fs::write(file, formatted).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(true)
}
