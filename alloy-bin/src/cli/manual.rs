//! `alloy completion` and `alloy man`: made from the same definition as the commands themselves.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(super) struct CompletionFlags {
    /// The shell.
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManFlags {
    /// The command; without one the page of `alloy` itself.
    command: Option<String>,
}

pub(super) fn completion(flags: &CompletionFlags, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut command, "alloy", &mut script);
    print(&script)
}

/// `alloy man run | man -l -` shows a page, `alloy man run > alloy-run.1` keeps one.
pub(super) fn man(flags: &ManFlags, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    // Otherwise the page of a command would not be named after the program.
    command.build();
    let command = match &flags.command {
        None => command,
        Some(name) => {
            let found =
                command.find_subcommand(name).with_context(|| format!("there is no command {name:?}"))?;
            let full_name = format!("alloy-{name}");
            found.clone().name(full_name)
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).context("cannot make the page")?;
    print(&page)
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(text).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
