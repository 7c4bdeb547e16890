//! `alloy tools`: programs for people who look after an agent. They read what is on disk, or ask an agent, and change nothing.
//!
//! | file | tool |
//! | --- | --- |
//! | `ready.rs` | `alloy tools ready`: waits until an agent is ready |
//! | `wal.rs` | `alloy tools wal`: looks into a log, live or dead |

pub mod ready;
pub mod wal;

use std::process::ExitCode;

use clap::Subcommand;

/// The tools.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Waits until an agent is ready; exit code 1 if it is not in time.
    Ready(ready::Flags),
    /// Looks into a write-ahead log, live or dead, without changing it.
    Wal(wal::Flags),
}

/// Runs a tool.
///
/// # Errors
/// What the tool could not read.
pub fn run(tool: &Tool) -> anyhow::Result<ExitCode> {
    match tool {
        Tool::Ready(flags) => ready::run(flags),
        Tool::Wal(flags) => wal::run(flags, &mut anstream::stdout().lock()),
    }
}
