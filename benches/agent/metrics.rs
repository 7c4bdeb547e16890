//! Scenarios of scraping: the cost of a sample, an endpoint that is away, a full log at the start.

use std::time::{Duration, Instant};

use super::Run;
use super::pages::{Kind, Pages, Shape};
use super::process::{Usage, load, settled, wait_for, watch};
use super::receiver::Receiver;
use super::report::Cell;
use super::rivals::{Rival, Scrapes};

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Steady scraping: what a million samples cost.
pub(crate) async fn scrape(rival: &Rival, run: &Run, shape: &Shape) -> anyhow::Result<Vec<Cell>> {
    let (pages, receiver) = (Pages::start(shape, 0).await?, Receiver::start().await?);
    let url = receiver.write_url();
    let work = Scrapes {
        targets: pages.address(),
        count: shape.targets,
        interval_s: run.interval_s,
        write_url: &url,
    };
    let mut agent = rival.scrape(&run.folder, &work)?;
    tokio::time::sleep(run.warm).await;
    let figures = || {
        let books = receiver.books();
        (books.all_samples, books.body_bytes)
    };
    let before = figures();
    let watched = watch(&agent, run.window).await?;
    let after = figures();
    pages.down().await;
    settled(PATIENCE, || figures().0).await;
    agent.terminate(PATIENCE)?;
    let (samples, bytes) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
    let books = receiver.books();
    complain(&books)?;
    Ok(vec![
        Cell::cost("CPU s per million samples", watched.cpu_s / samples * 1e6, 3),
        Cell::cost("MiB, median", watched.rss_mib, 1),
        Cell::cost("MiB, peak", watched.peak_mib, 1),
        Cell::cost("bytes per sample", bytes / samples, 1),
        Cell::plain("million samples", samples / 1e6, 2),
        Cell::plain("missing", pages.served() as f64 - books.samples as f64, 0),
        Cell::plain("doubled", books.doubled as f64, 0),
        Cell::plain("load", load(), 1),
    ])
}

/// The endpoint is away for a minute; in the middle the agent is killed, and started again after a second.
pub(crate) async fn endpoint_away(rival: &Rival, run: &Run) -> anyhow::Result<Vec<Cell>> {
    const AWAY: Duration = Duration::from_secs(60);
    let shape =
        Shape { targets: 100, series: 1000, distinct: 50, variants: 6, kinds: [Kind::Node, Kind::Service] };
    let (pages, receiver) = (Pages::start(&shape, 0).await?, Receiver::start().await?);
    let url = receiver.write_url();
    let work = Scrapes {
        targets: pages.address(),
        count: shape.targets,
        interval_s: run.interval_s,
        write_url: &url,
    };
    let mut agent = rival.scrape(&run.folder, &work)?;
    tokio::time::sleep(run.warm).await;
    receiver.down().await;
    tokio::time::sleep(AWAY / 2).await;
    agent.kill()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    agent.start_again()?;
    tokio::time::sleep(AWAY / 2).await;
    receiver.up().await?;
    tokio::time::sleep(run.window).await;
    pages.down().await;
    settled(PATIENCE, || receiver.books().all_samples).await;
    agent.terminate(PATIENCE)?;
    let books = receiver.books();
    complain(&books)?;
    let served = pages.served();
    Ok(vec![
        Cell::plain("served", served as f64, 0),
        Cell::plain("lost", served as f64 - books.samples as f64, 0),
        Cell::plain("doubled", books.doubled as f64, 0),
        Cell::plain("out of order", books.late as f64, 0),
        Cell::cost("longest gap, s", pages.longest_gap(0).1, 2),
        Cell::plain("load", load(), 1),
    ])
}

/// Starts with a gibibyte that was never sent: how long until the first scrape?
pub(crate) async fn backlog(rival: &Rival, run: &Run) -> anyhow::Result<Vec<Cell>> {
    const BACKLOG: u64 = 1 << 30;
    // Pages that compress badly fill it soon.
    let shape = Shape {
        targets: 100,
        series: 20_000,
        distinct: 4,
        variants: 2,
        kinds: [Kind::Container, Kind::Container],
    };
    let (pages, receiver) = (Pages::start(&shape, 0).await?, Receiver::start().await?);
    let url = receiver.write_url();
    receiver.down().await;
    let work = Scrapes { targets: pages.address(), count: shape.targets, interval_s: 1, write_url: &url };
    let mut agent = rival.scrape(&run.folder, &work)?;
    let storage = run.folder.join("storage");
    wait_for("the log has a gibibyte", Duration::from_secs(400), || used_bytes(&storage) >= BACKLOG).await?;
    agent.kill()?;
    let size = used_bytes(&storage);
    let before = pages.served();
    let begun = Instant::now();
    agent.start_again()?;
    wait_for("the first scrape", PATIENCE, || pages.served() > before).await?;
    let first = begun.elapsed().as_secs_f64();
    let usage = Usage::of(&agent)?;
    agent.kill()?;
    Ok(vec![
        Cell::plain("MiB of log", size as f64 / 1048576.0, 0),
        Cell::cost("s to the first scrape", first, 2),
        Cell::cost("CPU s until then", usage.cpu_s, 2),
        Cell::cost("MiB of memory then", usage.rss_mib, 1),
        Cell::plain("load", load(), 1),
    ])
}

/// What files of a folder take on the disk.
fn used_bytes(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => used_bytes(&entry.path()),
        _ => entry.metadata().map_or(0, |data| data.blocks() * 512),
    });
    sizes.sum()
}

/// An endpoint that refuses is a mistake of ours.
pub(crate) fn complain(books: &super::receiver::Books) -> anyhow::Result<()> {
    match &books.complaint {
        Some(complaint) => anyhow::bail!("{} requests were refused: {complaint}", books.refused),
        None => Ok(()),
    }
}
