//! The agent beside others, on the same work in the same run: `cargo bench -p benches --bench agent -- --help`
//!
//! | file | what |
//! | --- | --- |
//! | `rivals.rs` | adapters: how each agent is configured and started |
//! | `pages.rs` | many targets on one port: pages made once, another variant at each scrape |
//! | `receiver.rs` | remote write and Loki push; decodes and accounts for everything it counts |
//! | `log_files.rs` | log files with numbered lines |
//! | `process.rs` | the agent under test: its processor time and memory, by `/proc` |
//! | `metrics.rs` | scenarios of scraping |
//! | `crowd.rs` | scenarios of size: very many targets, very many series |
//! | `logs.rs` | scenarios of log files |
//! | `soak.rs` | half an hour under churn, with a verdict |
//! | `report.rs` | tables in Markdown, ratios, plots |
//!
//! README.md beside this file says how to get the rivals.
#![forbid(unsafe_code)]

mod crowd;
mod log_files;
mod logs;
mod metrics;
mod pages;
mod process;
mod receiver;
mod report;
mod rivals;
mod soak;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use report::Table;
use rivals::Rival;

/// What is measured, and of whom.
#[derive(Parser)]
struct Options {
    /// scrape-small, scrape-mid, scrape-large, away, backlog, targets, series, logs-plain, logs-cri, logs-tail, logs-kill,
    /// logs-idle, soak.
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// KIND=PROGRAM; the kinds are ours, ours2 (remote write 2.0), prometheus, vmagent, promtail. The first one is what the others are compared with.
    #[arg(long = "agent", required = true)]
    agents: Vec<Rival>,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 40)]
    window: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 15)]
    warm: u64,
    /// Seconds between two scrapes, where the scenario leaves the choice.
    #[arg(long, default_value_t = 5)]
    interval: u64,
    /// Mebibytes of log files.
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// Minutes of the soak.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Where files go [default: a temporary folder, removed at the end].
    #[arg(long)]
    folder: Option<PathBuf>,
    /// `cargo bench` says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a scenario needs to know.
struct Run {
    folder: PathBuf,
    window: Duration,
    warm: Duration,
    interval_s: u64,
    mib: u64,
    minutes: u64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let temporary = tempfile::tempdir()?;
    let run = Run {
        folder: options.folder.clone().unwrap_or_else(|| temporary.path().to_owned()),
        window: Duration::from_secs(options.window),
        warm: Duration::from_secs(options.warm),
        interval_s: options.interval,
        mib: options.mib,
        minutes: options.minutes,
    };
    // The helpers have one thread: what is left of the machine is the agent's.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut is_bad = false;
    for scenario in &options.scenarios {
        let mut table = Table::new(scenario);
        for rival in options.agents.iter().filter(|rival| rival.kind.can(scenario)) {
            let measured = runtime.block_on(measure(scenario, rival, &run));
            match measured {
                Ok(cells) => table.add(rival, cells),
                Err(error) => {
                    is_bad = true;
                    println!("{scenario}, {}: {error:#}", rival.name());
                }
            }
        }
        println!("{table}");
    }
    anyhow::ensure!(!is_bad, "not everything could be measured");
    Ok(())
}

async fn measure(scenario: &str, rival: &Rival, run: &Run) -> anyhow::Result<Vec<report::Cell>> {
    let folder = run.folder.join(format!("{scenario}-{}", rival.name()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let run = &Run { folder, ..*run };
    let cells = match scenario {
        "scrape-small" => metrics::scrape(rival, run, &pages::SMALL).await,
        "scrape-mid" => metrics::scrape(rival, run, &pages::MID).await,
        "scrape-large" => metrics::scrape(rival, run, &pages::LARGE).await,
        "away" => metrics::endpoint_away(rival, run).await,
        "backlog" => metrics::backlog(rival, run).await,
        "targets" => crowd::many_targets(rival, run).await,
        "series" => crowd::many_series(rival, run).await,
        "logs-plain" => logs::catch_up(rival, run, logs::Kind::Plain).await,
        "logs-cri" => logs::catch_up(rival, run, logs::Kind::Cri).await,
        "logs-tail" => logs::tail(rival, run).await,
        "logs-kill" => logs::kill(rival, run).await,
        "logs-idle" => logs::idle(rival, run).await,
        "soak" => soak::soak(rival, run).await,
        other => anyhow::bail!("there is no scenario {other}"),
    };
    let _ = std::fs::remove_dir_all(&run.folder);
    cells
}
