//! Scenarios of log files: catching up, following, a kill in the middle, files that rest.

use std::time::{Duration, Instant};

use super::Run;
use super::log_files::{FILES, LogFile, fill};
use super::metrics::complain;
use super::process::{Usage, Watched, load, settled, wait_for, watch};
use super::receiver::Receiver;
use super::report::Cell;
use super::rivals::{Follows, Rival};

const PATIENCE: Duration = Duration::from_secs(300);

/// What lines look like, and what is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As they are.
    Plain,
    /// With the head of a container's runtime, which is taken off.
    Cri,
}

/// From the beginning of full files to their end.
pub(crate) async fn catch_up(rival: &Rival, run: &Run, kind: Kind) -> anyhow::Result<Vec<Cell>> {
    let logs = run.folder.join("logs");
    let (lines, bytes) = fill(&logs, run.mib, kind)?;
    let receiver = Receiver::start().await?;
    let begun = Instant::now();
    let mut agent =
        rival.follow(&run.folder, &Follows { logs: &logs, kind, push_url: &receiver.push_url() })?;
    let all = || receiver.books().different_lines() == lines;
    wait_for("every line has come", PATIENCE, all).await?;
    let (seconds, usage) = (begun.elapsed().as_secs_f64(), Usage::of(&agent)?);
    agent.terminate(PATIENCE)?;
    let books = receiver.books();
    complain(&books)?;
    Ok(vec![
        Cell::cost("CPU s per million lines", usage.cpu_s / lines as f64 * 1e6, 3),
        Cell::plain("MB per CPU s", bytes as f64 / 1e6 / usage.cpu_s, 1),
        Cell::plain("MB/s", bytes as f64 / 1e6 / seconds, 1),
        Cell::cost("MiB, peak", usage.peak_mib, 1),
        Cell::cost("bytes sent per line", books.body_bytes as f64 / books.lines as f64, 1),
        Cell::plain("lines", lines as f64, 0),
        Cell::plain("doubled", books.lines_doubled as f64, 0),
        Cell::plain("load", load(), 1),
    ])
}

/// Follows files that grow by 20,000 lines a second together.
pub(crate) async fn tail(rival: &Rival, run: &Run) -> anyhow::Result<Vec<Cell>> {
    const RATE: u64 = 20_000;
    const TICKS: u64 = 20;
    let logs = run.folder.join("logs");
    let mut files =
        (0..FILES).map(|name| LogFile::create(&logs, name, Kind::Plain)).collect::<Result<Vec<_>, _>>()?;
    let time = run.warm + run.window + Duration::from_secs(2);
    let writer = std::thread::spawn(move || -> anyhow::Result<u64> {
        let (begun, mut written) = (Instant::now(), 0);
        while begun.elapsed() < time {
            for file in &mut files {
                file.append(RATE / TICKS / FILES as u64)?;
            }
            written += RATE / TICKS;
            let due = Duration::from_secs_f64(written as f64 / RATE as f64);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        Ok(written)
    });
    let receiver = Receiver::start().await?;
    let follows = Follows { logs: &logs, kind: Kind::Plain, push_url: &receiver.push_url() };
    let mut agent = rival.follow(&run.folder, &follows)?;
    tokio::time::sleep(run.warm).await;
    let before = receiver.books().lines;
    let watched = watch(&agent, run.window).await?;
    let lines = (receiver.books().lines - before) as f64;
    let written = writer.join().map_err(|_| anyhow::anyhow!("the writer has failed"))??;
    settled(PATIENCE, || receiver.books().lines).await;
    agent.terminate(PATIENCE)?;
    let books = receiver.books();
    complain(&books)?;
    Ok(vec![
        Cell::cost("CPU s per million lines", watched.cpu_s / lines * 1e6, 3),
        Cell::cost("MiB, median", watched.rss_mib, 1),
        Cell::plain("lines/s", lines / watched.seconds, 0),
        Cell::plain("lost", written as f64 - books.different_lines() as f64, 0),
        Cell::plain("doubled", books.lines_doubled as f64, 0),
        Cell::plain("load", load(), 1),
    ])
}

/// `kill -9` when half of the lines have come, started again after a second.
pub(crate) async fn kill(rival: &Rival, run: &Run) -> anyhow::Result<Vec<Cell>> {
    let logs = run.folder.join("logs");
    let (lines, _) = fill(&logs, run.mib, Kind::Plain)?;
    let receiver = Receiver::start().await?;
    let follows = Follows { logs: &logs, kind: Kind::Plain, push_url: &receiver.push_url() };
    let mut agent = rival.follow(&run.folder, &follows)?;
    wait_for("half of the lines have come", PATIENCE, || receiver.books().different_lines() > lines / 2)
        .await?;
    agent.kill()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    agent.start_again()?;
    settled(PATIENCE, || receiver.books().lines).await;
    agent.terminate(PATIENCE)?;
    let books = receiver.books();
    complain(&books)?;
    Ok(vec![
        Cell::plain("lines", lines as f64, 0),
        Cell::plain("lost", lines as f64 - books.different_lines() as f64, 0),
        Cell::plain("came twice", books.lines_doubled as f64, 0),
        Cell::plain("of these Loki keeps", (books.lines_doubled - books.lines_repeated) as f64, 0),
        Cell::plain("load", load(), 1),
    ])
}

/// 10,000 files of ten lines that do not change. What one costs is what they take beside a single one.
pub(crate) async fn idle(rival: &Rival, run: &Run) -> anyhow::Result<Vec<Cell>> {
    const COUNT: usize = 10_000;
    let one = unchanged(rival, run, "one", 1).await?;
    let watched = unchanged(rival, run, "all", COUNT).await?;
    Ok(vec![
        Cell::cost("% of a core", watched.cpu_s / watched.seconds * 100.0, 2),
        Cell::cost("MiB, median", watched.rss_mib, 1),
        Cell::cost("KiB per file", (watched.rss_mib - one.rss_mib) * 1024.0 / COUNT as f64, 2),
        Cell::plain("load", load(), 1),
    ])
}

async fn unchanged(rival: &Rival, run: &Run, name: &str, count: usize) -> anyhow::Result<Watched> {
    let folder = run.folder.join(name);
    let logs = folder.join("logs");
    for name in 0..count {
        LogFile::create(&logs, name, Kind::Plain)?.append(10)?;
    }
    let receiver = Receiver::start().await?;
    let follows = Follows { logs: &logs, kind: Kind::Plain, push_url: &receiver.push_url() };
    let mut agent = rival.follow(&folder, &follows)?;
    let all = || receiver.books().different_lines() == 10 * count as u64;
    wait_for("every line has come", PATIENCE, all).await?;
    tokio::time::sleep(run.warm).await;
    let watched = watch(&agent, run.window).await?;
    agent.terminate(PATIENCE)?;
    complain(&receiver.books())?;
    Ok(watched)
}
