//! The command line: Alloy's commands and flags, as far as they are here.
//!
//! | file | command |
//! | --- | --- |
//! | `run.rs` | `alloy run`: its flags |
//! | `validate.rs` | `alloy validate`: is this a configuration that would run? |
//! | `fmt.rs` | `alloy fmt`: the one layout |
//! | `cluster.rs` | `alloy cluster`: asks a running agent who is there, who owns what and why |
//! | `table.rs` | tables for people |
//! | `manual.rs` | `alloy completion`, `alloy man` |
//! | `elsewhere.rs` | flags and commands that Alloy has: what becomes of them here |

mod cluster;
mod elsewhere;
mod fmt;
mod manual;
mod run;
mod table;
mod validate;

pub use run::RunFlags;

use std::ffi::OsString;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// A clustered telemetry agent: Alloy configuration in, telemetry out.
#[derive(Debug, Parser)]
#[command(name = "alloy", version, about, max_term_width = 120, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  alloy run /etc/alloy/config.alloy        run the agent with one file
  alloy run /etc/alloy                     ... with all *.alloy files of a folder
  alloy validate config.alloy && alloy run config.alloy
  alloy fmt -w config.alloy                write a file in the one layout
  source <(alloy completion bash)          complete commands and flags in this shell

Environment:
  Every flag has a variable: --server.http.listen-addr is ALLOY_SERVER_HTTP_LISTEN_ADDR, and --write of `alloy fmt` is
  ALLOY_FMT_WRITE. A flag on the command line wins.

Exit codes:
  0  all is well
  1  the configuration, a file or the machine does not allow it; standard error says why
  2  the command line is wrong";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the agent.
    #[command(after_help = run::AFTER_HELP)]
    Run(Box<RunFlags>),
    /// Says whether configurations would run, and all that is wrong with them, without running anything.
    #[command(after_help = validate::AFTER_HELP)]
    Validate(validate::Flags),
    /// Formats configuration files.
    #[command(after_help = fmt::AFTER_HELP)]
    Fmt(fmt::Flags),
    /// Asks a running agent who is there, who owns what and why, and what would move.
    #[command(after_help = cluster::AFTER_HELP)]
    Cluster(cluster::Flags),
    /// Prints a script that completes commands and flags in a shell.
    Completion(manual::CompletionFlags),
    /// Prints a manual page.
    #[command(hide = true)]
    Man(manual::ManFlags),
    /// Looks at what an agent keeps on disk, or at whether it is ready.
    #[command(subcommand)]
    Tools(crate::tools::Tool),
}

/// What is wrong with a command line, the program's name first, if something is.
///
/// # Errors
/// The text for people.
pub fn check(arguments: impl IntoIterator<Item: Into<OsString>>) -> Result<(), String> {
    parse(arguments).map(drop).map_err(|error| error.to_string())
}

fn parse(arguments: impl IntoIterator<Item: Into<OsString>>) -> Result<Cli, clap::Error> {
    let arguments = arguments.into_iter().map(Into::into).collect();
    let arguments = elsewhere::sift(arguments, &command())?;
    let matches = command().try_get_matches_from(arguments)?;
    let shown = flags_shown(&matches);
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let Command::Run(flags) = &mut cli.command {
        flags.shown = shown;
    }
    Ok(cli)
}

/// Runs the program with these arguments, the program's name first.
pub fn main_from(arguments: impl IntoIterator<Item: Into<OsString>>) -> ExitCode {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" that go to standard output.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Run(flags) => crate::run::run(*flags),
        Command::Validate(flags) => validate::run(&flags),
        Command::Cluster(flags) => cluster::run(&flags),
        Command::Fmt(flags) => fmt::run(&flags),
        Command::Completion(flags) => manual::completion(&flags, command()),
        Command::Man(flags) => manual::man(&flags, command()),
        Command::Tools(tool) => crate::tools::run(&tool),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The flags with their values, wherever those come from: `storage.path=data`.
fn flags_shown(matches: &clap::ArgMatches) -> Vec<String> {
    let Some((name, matches)) = matches.subcommand() else { return Vec::new() };
    let line = |flag: &clap::Arg| {
        let values = matches.try_get_raw(flag.get_id().as_str()).ok()??;
        let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
        Some(format!("{}={}", flag.get_long()?, values.join(",")))
    };
    command()
        .find_subcommand(name)
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter_map(line)
        .collect()
}

/// Says on standard error what is wrong; how bad it is has a colour on a terminal, unless NO_COLOR is set.
fn complain(text: &str) {
    let colour = |colour: AnsiColor| Style::new().bold().fg_color(Some(colour.into()));
    for line in text.trim_end().lines() {
        let style = match line.split_once(": ") {
            Some(("Error", _)) => colour(AnsiColor::Red),
            Some(("Warning", _)) => colour(AnsiColor::Yellow),
            _ => {
                anstream::eprintln!("{line}");
                continue;
            }
        };
        let (word, rest) = line.split_at(line.find(' ').unwrap_or(0));
        anstream::eprintln!("{style}{word}{style:#}{rest}");
    }
}

/// The commands, each flag with its variable.
fn command() -> clap::Command {
    let with_variables = |command: clap::Command| {
        // The names of `run` and `validate` are Alloy's and mean the same everywhere; the others belong to a command.
        let own = format!("{}_", command.get_name());
        command.mut_args(|flag| match flag.get_long() {
            Some(long) if !matches!(long, "help" | "version") => {
                let prefix = if long.contains('.') { "" } else { own.as_str() };
                let variable = format!("ALLOY_{prefix}{long}").replace(['.', '-'], "_").to_uppercase();
                flag.env(variable).hide_env_values(true)
            }
            _ => flag,
        })
    };
    Cli::command().mut_subcommands(with_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent_and_every_flag_has_a_variable_of_its_own() {
        command().debug_assert();
        let mut variables = std::collections::BTreeMap::new();
        for command in command().get_subcommands().filter(|command| command.get_name() != "tools") {
            for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
                let long = flag.get_long().unwrap_or_default().to_owned();
                let variable = flag.get_env().unwrap_or_else(|| panic!("--{long} has none")).to_owned();
                let other = variables.insert(variable, long.clone());
                assert!(other.is_none_or(|other| other == long), "--{long}");
            }
        }
        assert!(variables.contains_key(std::ffi::OsStr::new("ALLOY_STORAGE_PATH")), "{variables:?}");
    }
}
