//! Scenarios of size: very many targets, some of which hang, and very many series.

use std::time::Duration;

use super::Run;
use super::metrics::complain;
use super::pages::{Kind, Pages, Shape};
use super::process::{load, wait_for, watch};
use super::receiver::Receiver;
use super::report::Cell;
use super::rivals::{Rival, Scrapes};

const PATIENCE: Duration = Duration::from_secs(180);

/// 50,000 targets of 20 series each, of which every hundredth never answers.
pub(crate) async fn many_targets(rival: &Rival, run: &Run) -> anyhow::Result<Vec<Cell>> {
    const INTERVAL_S: u64 = 30;
    let shape =
        Shape { targets: 50_000, series: 20, distinct: 100, variants: 3, kinds: [Kind::Node, Kind::Service] };
    let (pages, receiver) = (Pages::start(&shape, 100).await?, Receiver::start().await?);
    let url = receiver.write_url();
    let work =
        Scrapes { targets: pages.address(), count: shape.targets, interval_s: INTERVAL_S, write_url: &url };
    let mut agent = rival.scrape(&run.folder, &work)?;
    wait_for("every target is scraped", PATIENCE, || pages.longest_gap(0).0 == shape.targets).await?;
    let watched = watch(&agent, run.window.max(Duration::from_secs(3 * INTERVAL_S))).await?;
    let (_, gap) = pages.longest_gap(0);
    agent.terminate(PATIENCE)?;
    complain(&receiver.books())?;
    Ok(vec![
        Cell::cost("cores", watched.cpu_s / watched.seconds, 3),
        Cell::cost("MiB, median", watched.rss_mib, 1),
        Cell::cost("KiB per target", watched.rss_mib * 1024.0 / shape.targets as f64, 2),
        Cell::cost("longest gap of one that answers, s", gap, 2),
        Cell::plain("interval, s", INTERVAL_S as f64, 0),
        Cell::plain("load", load(), 1),
    ])
}

/// 10,000 to 1,000,000 active series on pages of 1,000: what each one more costs.
pub(crate) async fn many_series(rival: &Rival, run: &Run) -> anyhow::Result<Vec<Cell>> {
    const INTERVAL_S: u64 = 15;
    const NAMES: [[&str; 2]; 4] = [
        ["MiB, 10 k", "CPU s/M, 10 k"],
        ["MiB, 100 k", "CPU s/M, 100 k"],
        ["MiB, 300 k", "CPU s/M, 300 k"],
        ["MiB, 1 M", "CPU s/M, 1 M"],
    ];
    let mut memory = Vec::new();
    let mut cells = Vec::new();
    for (names, targets) in NAMES.into_iter().zip([10, 100, 300, 1000]) {
        let shape =
            Shape { targets, series: 1000, distinct: 100, variants: 3, kinds: [Kind::Node, Kind::Service] };
        let folder = run.folder.join(targets.to_string());
        std::fs::create_dir_all(&folder)?;
        let (pages, receiver) = (Pages::start(&shape, 0).await?, Receiver::start().await?);
        let url = receiver.write_url();
        let work =
            Scrapes { targets: pages.address(), count: targets, interval_s: INTERVAL_S, write_url: &url };
        let mut agent = rival.scrape(&folder, &work)?;
        let all = targets * 1000;
        wait_for("every series has come", PATIENCE, || receiver.books().page_series() == all).await?;
        let before = receiver.books().all_samples;
        let watched = watch(&agent, Duration::from_secs(2 * INTERVAL_S)).await?;
        let samples = receiver.books().all_samples - before;
        agent.terminate(PATIENCE)?;
        complain(&receiver.books())?;
        memory.push((all as f64, watched.rss_mib * 1048576.0));
        cells.push(Cell::cost(names[0], watched.rss_mib, 1));
        cells.push(Cell::cost(names[1], watched.cpu_s / samples as f64 * 1e6, 3));
    }
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    cells.push(Cell::cost("bytes per further series", (last.1 - first.1) / (last.0 - first.0), 0));
    cells.push(Cell::plain("load", load(), 1));
    Ok(cells)
}
