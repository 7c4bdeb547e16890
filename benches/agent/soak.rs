//! Three agents under churn: targets come and go, two of the agents are restarted and killed in turn, the endpoint goes away now and
//! then. The third agent lives through all of it: its memory has to stay flat.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_bin::testing::process::{Process, free_addresses};

use super::Run;
use super::metrics::complain;
use super::pages::{Kind, Pages, Shape, now_ms};
use super::process::{Usage, load, settled, wait_for};
use super::receiver::{Receiver, Stretch};
use super::report::Cell;
use super::rivals::Rival;

const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL_S: u64 = 5;
/// Targets that are always there: of these every slot is accounted for.
const STAY: usize = 200;
/// Targets of which a part is there.
const COME_AND_GO: usize = 100;
/// After a crash slots may be missed until the others know of it, take over, and catch the latest up.
const CRASH_MS: i64 = (2 * INTERVAL_S as i64 + 2) * 1000;
/// Growth of the memory of who lives through it, from the first sixth of the time to the end, that is called flat.
const GROWTH_MAX: f64 = 1.15;

/// What happens every so often, in seconds; no two of them in step.
const TARGETS_CHANGE_S: u64 = 17;
const AGENT_ENDS_S: u64 = 61;
const ENDPOINT_AWAY_S: u64 = 211;

pub(crate) async fn soak(rival: &Rival, run: &Run) -> anyhow::Result<Vec<Cell>> {
    let shape = Shape {
        targets: STAY + COME_AND_GO,
        series: 100,
        distinct: 50,
        variants: 6,
        kinds: [Kind::Node, Kind::Service],
    };
    let (pages, receiver) = (Pages::start(&shape, 0).await?, Receiver::start().await?);
    let targets = run.folder.join("targets.json");
    write_targets(&targets, pages.address(), 0)?;
    let addresses = free_addresses(3)?;
    let config = config(&targets, &receiver.write_url());
    let start = |index: usize| cluster_agent(rival, &run.folder, (&config, &addresses, index));
    let mut agents = vec![start(0)?, start(1)?, start(2)?];
    for agent in &agents {
        wait_for("an agent is ready", PATIENCE, || agent.is_ready()).await?;
    }
    tokio::time::sleep(run.warm).await;

    let (begun, begun_ms) = (Instant::now(), now_ms());
    let time = Duration::from_secs(run.minutes * 60);
    let mut crashes = Vec::new();
    let mut memory = Vec::new();
    let (mut second, mut ends) = (0, 0);
    while begun.elapsed() < time {
        tokio::time::sleep((begun + Duration::from_secs(second)).saturating_duration_since(Instant::now()))
            .await;
        second += 1;
        if second % TARGETS_CHANGE_S == 0 {
            write_targets(&targets, pages.address(), second / TARGETS_CHANGE_S)?;
        }
        match second % ENDPOINT_AWAY_S {
            100 => receiver.down().await,
            120 => receiver.up().await?,
            _ => {}
        }
        let one = 1 + (ends / 2) % 2;
        match second % AGENT_ENDS_S {
            20 if ends % 2 == 0 => {
                agents[one].terminate(PATIENCE)?;
                agents[one].start_again()?;
                ends += 1;
            }
            20 => {
                agents[one].kill()?;
                crashes.push(now_ms());
            }
            // Away for longer than it takes to find that out: its log is sent late when it is back.
            35 if !agents[one].is_running()? => {
                agents[one].start_again()?;
                ends += 1;
            }
            _ => {}
        }
        memory.push(Usage::of(&agents[0])?.rss_mib);
        if second.is_multiple_of(60) {
            println!("soak: minute {}, {:.1} MiB, load {:.1}", second / 60, memory[memory.len() - 1], load());
        }
    }
    receiver.up().await?;
    for agent in &mut agents {
        if !agent.is_running()? {
            agent.start_again()?;
        }
    }
    let ended_ms = now_ms();
    tokio::time::sleep(run.warm).await;
    let cpu_s = Usage::of(&agents[0])?.cpu_s;
    for mut agent in agents {
        agent.terminate(PATIENCE)?;
    }
    settled(PATIENCE, || receiver.books().all_samples).await;

    let books = receiver.books();
    complain(&books)?;
    let stretch = Stretch { from_ms: begun_ms, to_ms: ended_ms, interval_ms: INTERVAL_S as i64 * 1000 };
    let verdict = books.judge(STAY, &stretch, |at_ms| {
        crashes.iter().any(|crash| (*crash - INTERVAL_S as i64 * 1000..crash + CRASH_MS).contains(&at_ms))
    });
    let sixth = memory.len() / 6;
    let median = |part: &[f64]| {
        let mut part = part.to_vec();
        part.sort_by(f64::total_cmp);
        part[part.len() / 2]
    };
    let (early, late) = (median(&memory[sixth..2 * sixth]), median(&memory[memory.len() - sixth..]));
    let is_good = verdict.series == STAY * shape.series
        && verdict.lost == 0
        && verdict.wrong_markers == 0
        && books.conflicting == 0
        && late < early * GROWTH_MAX;
    println!("soak: the verdict is {}", if is_good { "good" } else { "BAD" });
    Ok(vec![
        Cell::plain("million samples", books.samples as f64 / 1e6, 2),
        Cell::plain("series that stay", verdict.series as f64, 0),
        Cell::plain("lost slots", verdict.lost as f64, 0),
        Cell::plain("crashes", crashes.len() as f64, 0),
        Cell::plain("slots lost at crashes", verdict.lost_at_crashes as f64, 0),
        Cell::plain("doubled", books.doubled as f64, 0),
        Cell::plain("with another value", books.conflicting as f64, 0),
        Cell::plain("late", books.late as f64, 0),
        Cell::plain("wrong markers", verdict.wrong_markers as f64, 0),
        Cell::plain("MiB, second sixth", early, 1),
        Cell::plain("MiB, last sixth", late, 1),
        Cell::plain("CPU s", cpu_s, 1),
        Cell::plain("good", f64::from(u8::from(is_good)), 0),
        Cell::plain("load", load(), 1),
    ])
}

fn cluster_agent(
    rival: &Rival,
    folder: &Path,
    (config, addresses, index): (&str, &[SocketAddr], usize),
) -> anyhow::Result<Process> {
    let join: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let flags = vec![
        "--cluster.enabled".to_owned(),
        "--cluster.name=soak".to_owned(),
        format!("--cluster.node-name=agent-{index}"),
        format!("--cluster.join-addresses={}", join.join(",")),
        "--cluster.advertise-address=127.0.0.1".to_owned(),
    ];
    rival.ours_with(&folder.join(format!("agent-{index}")), addresses[index], (config, flags))
}

fn config(targets: &Path, write_url: &str) -> String {
    format!(
        r#"discovery.file "soak" {{
	files            = ["{}"]
	refresh_interval = "1s"
}}
prometheus.scrape "soak" {{
	targets         = discovery.file.soak.targets
	forward_to      = [prometheus.remote_write.soak.receiver]
	scrape_interval = "{INTERVAL_S}s"
	scrape_timeout  = "{INTERVAL_S}s"
	clustering {{
		enabled = true
	}}
}}
prometheus.remote_write "soak" {{
	endpoint {{
		url = "{write_url}"
	}}
}}
"#,
        targets.display()
    )
}

/// Those that stay, and a part of the others that moves on with each change.
fn write_targets(path: &Path, pages: SocketAddr, change: u64) -> anyhow::Result<()> {
    let is_there = |index: &usize| *index < STAY || !(index + change as usize * 7).is_multiple_of(3);
    let mut text = String::from("[");
    for index in (0..STAY + COME_AND_GO).filter(is_there) {
        let comma = if index == 0 { "" } else { "," };
        write!(
            text,
            "{comma}\n{{\"targets\": [\"{pages}\"], \"labels\": {{\"__metrics_path__\": \"/t/{index}/metrics\", \"instance\": \"host-{index:05}\", \"job\": \"soak\"}}}}"
        )?;
    }
    text.push_str("\n]\n");
    let next = path.with_extension("next");
    std::fs::write(&next, text)?;
    Ok(std::fs::rename(&next, path)?)
}
