//! The command line: Alloy's commands and flags, as far as they are here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::ownership::ClusterFlags;

/// A clustered telemetry agent: Alloy configuration in, telemetry out.
#[derive(Debug, Parser)]
#[command(name = "alloy", version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the agent.
    Run(Box<RunFlags>),
    /// Formats a configuration file.
    Fmt(FmtFlags),
    /// Looks at what an agent keeps on disk.
    #[command(subcommand)]
    Tools(crate::tools::Tool),
}

/// Flags of `alloy run`.
#[derive(Debug, Args)]
pub struct RunFlags {
    /// The configuration: a file, or a folder with *.alloy files.
    pub config: PathBuf,
    /// Where logs and positions are kept.
    #[arg(long = "storage.path", value_name = "DIR", default_value = "data-alloy/")]
    pub storage: PathBuf,
    /// Where the HTTP server listens.
    #[arg(long = "server.http.listen-addr", value_name = "HOST:PORT", default_value = "127.0.0.1:12345")]
    pub listen: String,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterFlags,
}

#[derive(Debug, Args)]
struct FmtFlags {
    /// The file; - for standard input.
    file: PathBuf,
    /// Write the result to the file instead of standard output.
    #[arg(short, long)]
    write: bool,
    /// Only say whether the file is formatted, by the exit code.
    #[arg(short, long, conflicts_with = "write")]
    test: bool,
}

/// Runs the program with these arguments, the program's name first.
pub fn main_from(arguments: impl IntoIterator<Item: Into<OsString> + Clone>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" that go to standard output.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Run(flags) => crate::run::run(*flags),
        Command::Fmt(flags) => fmt(&flags),
        Command::Tools(tool) => crate::tools::run(&tool),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", format!("{error:#}").trim_end());
            ExitCode::FAILURE
        }
    }
}

fn fmt(flags: &FmtFlags) -> anyhow::Result<ExitCode> {
    use anyhow::Context;
    let stdin = flags.file.as_os_str() == "-";
    let name = flags.file.display().to_string();
    let text =
        if stdin { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(&flags.file) };
    let text = text.with_context(|| format!("cannot read {name}"))?;
    let mut sources = crate::syntax::Sources::default();
    let id = sources.add(name.clone(), text.clone());
    let formatted = match crate::syntax::format(&sources, id) {
        Ok(formatted) => formatted,
        Err(diagnostics) => anyhow::bail!("{}", diagnostics.render(&sources)),
    };
    if flags.test {
        return Ok(if formatted == text { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if !flags.write {
        print!("{formatted}");
    } else if formatted != text {
        anyhow::ensure!(!stdin, "--write needs a file; standard input cannot be written to");
        std::fs::write(&flags.file, formatted).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
