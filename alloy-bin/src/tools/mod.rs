//! `alloy tools`: programs for people who look after an agent. They read what is on disk and change nothing.
//!
//! | file | tool |
//! | --- | --- |
//! | `wal.rs` | `alloy tools wal`: looks into a log, live or dead |

pub mod wal;

use std::process::ExitCode;

use clap::Subcommand;

/// The tools.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Looks into a write-ahead log, live or dead, without changing it.
    Wal(wal::Flags),
}

/// Runs a tool.
///
/// # Errors
/// What the tool could not read.
pub fn run(tool: &Tool) -> anyhow::Result<ExitCode> {
    match tool {
        Tool::Wal(flags) => wal::run(flags, &mut std::io::stdout().lock()),
    }
}
