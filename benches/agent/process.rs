//! The agent under test, seen from outside.

use std::time::{Duration, Instant};

use alloy_bin::testing::process::Process;
use anyhow::Context as _;

/// Of the kernel's figures for user space, on every architecture that the agent runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used up to now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Processor time, user and system.
    pub(crate) cpu_s: f64,
    /// Memory now.
    pub(crate) rss_mib: f64,
    /// The most memory ever.
    pub(crate) peak_mib: f64,
}

impl Usage {
    /// Of that process.
    pub(crate) fn of(process: &Process) -> anyhow::Result<Usage> {
        let id = process.id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).context("the agent has ended")?;
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace().collect();
        let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let mib = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
        };
        Ok(Usage {
            cpu_s: ticks / TICKS_PER_SECOND,
            rss_mib: mib("VmRSS:").context("no VmRSS")?,
            peak_mib: mib("VmHWM:").context("no VmHWM")?,
        })
    }
}

/// What was used between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    /// Processor time.
    pub(crate) cpu_s: f64,
    /// The median.
    pub(crate) rss_mib: f64,
    /// The most memory ever.
    pub(crate) peak_mib: f64,
    /// How long it was looked at.
    pub(crate) seconds: f64,
}

/// Looks at the process for that long.
pub(crate) async fn watch(process: &Process, time: Duration) -> anyhow::Result<Watched> {
    let (begun, before) = (Instant::now(), Usage::of(process)?);
    let mut memory = vec![before.rss_mib];
    let mut usage = before;
    while begun.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(500)).await;
        usage = Usage::of(process)?;
        memory.push(usage.rss_mib);
    }
    memory.sort_by(f64::total_cmp);
    Ok(Watched {
        cpu_s: usage.cpu_s - before.cpu_s,
        rss_mib: memory[memory.len() / 2],
        peak_mib: usage.peak_mib,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Looks every 100 ms until it is so. An error: not within that time.
pub(crate) async fn wait_for(
    what: &str,
    within: Duration,
    mut reached: impl FnMut() -> bool,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    while !reached() {
        anyhow::ensure!(begun.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(begun.elapsed())
}

/// Waits until that figure has been the same for 3 s, at most for that time.
pub(crate) async fn settled(within: Duration, mut figure: impl FnMut() -> u64) {
    let (begun, mut last, mut since) = (Instant::now(), figure(), Instant::now());
    while begun.elapsed() < within && since.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = figure();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// The machine's load: what else ran says how far a figure can be trusted.
pub(crate) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}
