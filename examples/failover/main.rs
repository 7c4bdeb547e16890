//! `cargo run --release --example failover`: three agents share targets and log files; one is killed and comes back,
//! another is restarted in an orderly way; both ends are compared afterwards.
//!
//! | file | what |
//! | --- | --- |
//! | `main.rs` | the story, act by act |
//! | `cluster.rs` | the three agents: processes, configuration, what they say of themselves |
//! | `world.rs` | targets, log files and the receiver around them, and what these know afterwards |
//! | `table.rs` | who owns what, live |
//! | `report.rs` | the verdict; no I/O |
//!
//! The program is its own agent: started as `failover run CONFIG ...` it is `alloy`.

mod cluster;
mod report;
mod table;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use cluster::{Cluster, Configuration};
use report::{Act, Evidence, Millis, Report};
use table::{Picture, Table};
use world::World;

const NAMES: [&str; 3] = ["anna", "bert", "carl"];
const KILLED: &str = "bert";
const RESTARTED: &str = "carl";
const INTERVAL: Duration = Duration::from_secs(5);

// How long each act is watched: more than two intervals, so that every target has its turn.
const STEADY: Duration = Duration::from_secs(12);
const DEAD: Duration = Duration::from_secs(13);
const RETURNED: Duration = Duration::from_secs(14);
const AWAY: Duration = Duration::from_secs(7);
const REJOINED: Duration = Duration::from_secs(14);

/// How long anything that should happen soon may take before the demonstration gives up.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "run") {
        end_with_the_parent();
        return alloy_bin::cli::main_from(arguments);
    }
    match demonstrate() {
        Ok(report) => {
            println!("\n{report}");
            let failures = report.failures();
            if failures.is_empty() {
                println!("Nothing was lost.");
                return ExitCode::SUCCESS;
            }
            println!("FAILED: {}.", failures.join("; "));
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> anyhow::Result<Report> {
    let folder = tempfile::Builder::new().prefix("alloy-failover-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    runtime.spawn(async move {
        // Ctrl-C, or the terminal is closed: the agents end in an orderly way and the temporary folder goes.
        if let Ok(mut hangup) = signal(SignalKind::hangup()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = hangup.recv() => {}
            }
            flag.store(true, Ordering::Relaxed);
        }
    });
    let logs = folder.path().join("logs");
    let world = World::start(&runtime, &logs)?;
    let targets = folder.path().join("targets.json");
    std::fs::write(&targets, world.discovery_file())?;
    let configuration = Configuration {
        targets: &targets,
        logs: &logs,
        write_url: world.receiver.write_url(),
        push_url: world.receiver.push_url(),
        interval: INTERVAL,
    };
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let cluster = Cluster::start(program, &NAMES, folder.path(), &configuration)?;
    let mut story = Story {
        world,
        cluster,
        table: Table::new(),
        acts: Vec::new(),
        lines_doubled: Vec::new(),
        headline: String::new(),
        interrupted,
    };
    let report = story.tell();
    if report.as_ref().is_ok_and(|report| !report.failures().is_empty()) || report.is_err() {
        story.table.say(&story.cluster.last_words());
    }
    story.cluster.end();
    report
}

/// The demonstration while it runs.
struct Story {
    world: World,
    cluster: Cluster,
    table: Table,
    acts: Vec<(Act, Millis)>,
    /// How many lines had come twice when each act began.
    lines_doubled: Vec<u64>,
    headline: String,
    interrupted: Arc<AtomicBool>,
}

impl Story {
    fn tell(&mut self) -> anyhow::Result<Report> {
        let survivors: Vec<&str> = NAMES.into_iter().filter(|name| *name != KILLED).collect();
        self.say("three agents start; 60 targets are due every 5 s, 12 log files grow by ten lines a second");
        self.until("all three agents are ready and see each other", |story| {
            story.cluster.is_settled(&NAMES)
        })?;
        self.until("every target and every file has been read", Story::everything_was_read)?;
        self.act(Act::Steady, "all three run");
        self.watch(STEADY)?;

        let (owners, _) = self.world.arrange(&self.cluster.owners());
        self.cluster.agent(KILLED).kill()?;
        self.act(Act::Kill, &format!("{KILLED} is killed (SIGKILL)"));
        let died = Instant::now();
        self.until("the others know it and see each other", |story| story.cluster.is_settled(&survivors))?;
        self.watch(DEAD.saturating_sub(died.elapsed()))?;

        self.cluster.agent(KILLED).start_again()?;
        self.act(Act::Return, &format!("{KILLED} is started again"));
        self.until("it is back at work", |story| story.cluster.is_settled(&NAMES))?;
        self.watch(RETURNED)?;

        self.act(Act::Leave, &format!("{RESTARTED} is asked to stop (SIGTERM)"));
        self.cluster.agent(RESTARTED).ask_to_end()?;
        self.until("it has handed over and ended", |story| {
            !story.cluster.agent(RESTARTED).is_running().unwrap_or(true)
        })?;
        self.watch(AWAY)?;

        self.cluster.agent(RESTARTED).start_again()?;
        self.act(Act::Rejoin, &format!("{RESTARTED} is started again"));
        self.until("it is back at work", |story| story.cluster.is_settled(&NAMES))?;
        self.watch(REJOINED)?;
        self.end(&owners)
    }

    /// Stops the clock, waits for what is still on its way, and compares both ends.
    fn end(&mut self, owners: &[Option<String>]) -> anyhow::Result<Report> {
        let written = self.world.stop_writing()?;
        let end = now();
        self.say("the log files grow no more; what is on its way may arrive");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let evidence = Evidence {
                interval_ms: INTERVAL.as_millis() as Millis,
                acts: self.acts.clone(),
                lines_doubled: [&self.lines_doubled[..], &[self.world.lines_doubled()]].concat(),
                end,
                targets: self.world.target_evidence(owners, KILLED),
                files: self.world.file_evidence(&written),
            };
            let report = evidence.judge();
            if report.failures().is_empty() || Instant::now() > deadline {
                return Ok(report);
            }
            self.watch(Duration::from_millis(500))?;
        }
    }

    fn everything_was_read(story: &mut Story) -> bool {
        let (owners, _) = story.world.arrange(&story.cluster.owners());
        let targets = story.world.target_evidence(&owners, "");
        let files = story.world.file_evidence(&vec![1; owners.len()]);
        targets.iter().all(|target| !target.ups.is_empty())
            && files.iter().all(|file| !file.received.is_empty())
    }

    fn act(&mut self, act: Act, headline: &str) {
        self.acts.push((act, now()));
        self.lines_doubled.push(self.world.lines_doubled());
        headline.clone_into(&mut self.headline);
        self.say(headline);
    }

    fn say(&mut self, sentence: &str) {
        self.table.say(sentence);
    }

    /// Shows the cluster for that long.
    fn watch(&mut self, duration: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            self.show()?;
        }
        Ok(())
    }

    /// Shows the cluster until the condition holds, and says how long it took.
    fn until(&mut self, what: &str, condition: impl Fn(&mut Story) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !condition(self) {
            if began.elapsed() > PATIENCE {
                bail!("after {} s it is not so that {what}", PATIENCE.as_secs());
            }
            self.show()?;
        }
        self.say(&format!("{what} (after {:.1} s)", began.elapsed().as_secs_f64()));
        Ok(())
    }

    /// One look at the cluster, and a short sleep.
    fn show(&mut self) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let (targets, files) = self.world.arrange(&self.cluster.owners());
        let counts = self.world.receiver.counts();
        self.table.show(&Picture {
            headline: self.headline.clone(),
            agents: self.cluster.states(),
            targets,
            files,
            samples: counts.samples,
            lines: counts.lines,
        });
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    }
}

/// An agent of this demonstration does not outlive it, however it ends.
fn end_with_the_parent() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        eprintln!("this agent will stay if the demonstration is killed: {error}");
    }
}

fn now() -> Millis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_millis() as Millis
}
