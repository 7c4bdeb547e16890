//! An agent is killed twenty times at random moments while its endpoint is away half of the time: nothing is lost.
//!
//! What must arrive, counted at both ends:
//! 1. every line that was written to a file, whenever it was written;
//! 2. the sample of every scrape that a target was asked for more than [`CUSTODY`] before a kill, or after it. What was
//!    asked for later may have died with the agent before it was in the log: nobody had said that it was accepted.
//!
//! Lines may arrive twice: what was read since the position in the file was last saved is read again, and a request
//! that was taken but not yet acknowledged is sent again. How many is printed. The moments come from a seed, which is printed, too; `KILL_LOOP_SEED` repeats one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_bin::testing::logs::{LogWriter, tail_to_loki};
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use alloy_bin::testing::{Answer, Receiver, Targets};

const KILLS: usize = 20;
const TARGETS: usize = 12;
const FILES: usize = 6;
const CUSTODY: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(20);
/// For what is still in the log, or not yet read, when the killing ends.
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_again_and_again_loses_nothing() {
    let mut chance = Chance::from_environment();
    println!("seed {} (KILL_LOOP_SEED repeats it)", chance.0);
    let mut run = Run::begin().await;
    run.chaos(&mut chance).await;
    run.calm().await;
    run.judge();
}

/// The world, and what happened to it.
struct Run {
    _folder: tempfile::TempDir,
    receiver: Receiver,
    targets: Targets,
    files: Vec<LogWriter>,
    agent: Process,
    kills_unix_ms: Vec<i64>,
    /// When the last scrape was asked for that is judged.
    end_unix_ms: i64,
}

/// Both ends compared.
#[derive(Debug, Default)]
struct Verdict {
    scrapes: usize,
    scrapes_in_flight: usize,
    scrapes_lost: Vec<String>,
    lines: u64,
    lines_lost: Vec<String>,
    lines_doubled: u64,
}

impl Run {
    async fn begin() -> Run {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let receiver = Receiver::start().await.expect("a free port");
        let targets = Targets::start(TARGETS, 5).await.expect("a free port");
        let logs: Vec<PathBuf> =
            (0..FILES).map(|index| folder.path().join(format!("app-{index}.log"))).collect();
        let files = logs.iter().map(LogWriter::create).collect::<Result<_, _>>().expect("a writable folder");
        let config = folder.path().join("config.alloy");
        std::fs::write(&config, configuration(&receiver, &targets, folder.path()))
            .expect("a writable folder");
        let address: SocketAddr = free_addresses(1).expect("a free port")[0];
        let flags = Flags { config, folder: folder.path().to_owned(), name: "agent", address, join: &[] };
        let agent =
            Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts");
        Run {
            _folder: folder,
            receiver,
            targets,
            files,
            agent,
            kills_unix_ms: Vec::new(),
            end_unix_ms: i64::MAX,
        }
    }

    /// Kills and starts the agent, takes the endpoint away and brings it back, and writes lines all the time.
    async fn chaos(&mut self, chance: &mut Chance) {
        let mut change_agent = Instant::now() + chance.millis(300..3000);
        let mut change_receiver = Instant::now() + chance.millis(100..1500);
        let mut is_dead = false;
        let mut is_away = false;
        while self.kills_unix_ms.len() < KILLS || is_dead {
            self.write(chance);
            let now = Instant::now();
            if now >= change_receiver {
                is_away = !is_away;
                self.change_receiver(is_away, chance).await;
                change_receiver = now + chance.millis(100..1500);
            }
            if now >= change_agent && is_dead {
                self.agent.start_again().expect("it starts");
                change_agent = now + chance.millis(300..3000);
                is_dead = false;
            } else if now >= change_agent {
                assert!(
                    self.agent.is_running().expect("a child"),
                    "it ended by itself:\n{}",
                    self.agent.last_words(20)
                );
                self.agent.kill().expect("a child");
                // Taken when it is dead: nothing that it asked for is later than this.
                self.kills_unix_ms.push(now_unix_ms());
                change_agent = now + chance.millis(0..300);
                is_dead = true;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn write(&mut self, chance: &mut Chance) {
        for file in &mut self.files {
            match chance.below(8) {
                0 => file
                    .write_line_in_halves(|| std::thread::sleep(Duration::from_millis(1)))
                    .expect("a writable folder"),
                count => drop(file.write_lines(count / 2).expect("a writable folder")),
            }
        }
    }

    /// Away means: the port is closed, or each request is refused or cut off. None is taken without saying so, so that
    /// the lines that come twice are what the kills cost.
    async fn change_receiver(&self, is_away: bool, chance: &mut Chance) {
        if !is_away {
            self.receiver.answer(Answer::Accept);
            return self.receiver.up().await.expect("its port is its own");
        }
        match chance.below(3) {
            0 => self.receiver.answer(Answer::Refuse(503)),
            1 => self.receiver.answer(Answer::HangUp),
            _ => self.receiver.down().await,
        }
    }

    /// No more kills: what is in the log or not yet read has time to arrive, then the agent ends in an orderly way.
    async fn calm(&mut self) {
        self.receiver.answer(Answer::Accept);
        self.receiver.up().await.expect("its port is its own");
        self.end_unix_ms = now_unix_ms();
        let deadline = Instant::now() + PATIENCE;
        while !self.verdict().is_good() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let status = self.agent.terminate(PATIENCE).expect("it ends when asked to");
        assert!(status.success(), "it ends with {status}:\n{}", self.agent.last_words(20));
    }

    fn judge(&self) {
        let verdict = self.verdict();
        let counts = self.receiver.counts();
        println!(
            "{KILLS} kills: {} scrapes, {} lost, {} died with the agent before they were accepted; \
             {} lines, {} lost, {} doubled; {} requests of which {} were recorded",
            verdict.scrapes,
            verdict.scrapes_lost.len(),
            verdict.scrapes_in_flight,
            verdict.lines,
            verdict.lines_lost.len(),
            verdict.lines_doubled,
            counts.requests,
            counts.recorded_requests,
        );
        let complaints = self.receiver.inspect(|recorded| recorded.complaints.clone());
        assert!(complaints.is_empty(), "requests that break their protocol: {complaints:?}");
        assert!(verdict.is_good(), "{verdict:#?}\n{}", self.agent.last_words(20));
        assert!(
            verdict.scrapes > TARGETS * KILLS / 2 && verdict.lines > 1000,
            "hardly anything happened: {verdict:?}"
        );
    }

    fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for index in 0..TARGETS {
            self.judge_target(index, &mut verdict);
        }
        let mut received: BTreeMap<String, u64> = BTreeMap::new();
        self.receiver.inspect(|recorded| {
            for line in recorded.streams.values().flat_map(|stream| &stream.arrivals) {
                *received.entry(line.line.to_string()).or_default() += 1;
            }
        });
        for file in &self.files {
            let lines = (0..file.written()).map(|number| file.line(number));
            verdict.lines_lost.extend(lines.filter(|line| !received.contains_key(line)));
            verdict.lines += file.written();
        }
        verdict.lines_doubled = received.values().filter(|count| **count > 1).count() as u64;
        verdict
    }

    fn judge_target(&self, index: usize, verdict: &mut Verdict) {
        let instance = format!("target-{index}");
        let labels = [("__name__", "test_scrapes_total"), ("instance", instance.as_str())];
        let arrived: BTreeSet<u64> = self.receiver.inspect(|recorded| {
            let arrivals = recorded.series_with(&labels).flat_map(|(_, series)| &series.arrivals);
            arrivals.map(|arrival| arrival.value() as u64).collect()
        });
        let asked = self.targets.scrapes(index);
        for (number, scrape) in
            (1..).zip(&asked).filter(|(_, scrape)| scrape.arrived_unix_ms < self.end_unix_ms)
        {
            verdict.scrapes += 1;
            if arrived.contains(&number) {
                continue;
            }
            let died_within =
                |kill: &i64| (0..=CUSTODY.as_millis() as i64).contains(&(kill - scrape.arrived_unix_ms));
            if self.kills_unix_ms.iter().any(died_within) {
                verdict.scrapes_in_flight += 1;
            } else {
                verdict.scrapes_lost.push(format!("{instance} scrape {number}"));
            }
        }
    }
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.scrapes_lost.is_empty() && self.lines_lost.is_empty()
    }
}

fn configuration(receiver: &Receiver, targets: &Targets, logs: &Path) -> String {
    let endpoint = "min_backoff_period = \"50ms\"\n    max_backoff_period = \"200ms\"";
    format!(
        r#"prometheus.scrape "all" {{
  targets         = {targets}
  forward_to      = [prometheus.remote_write.all.receiver]
  scrape_interval = "500ms"
  scrape_timeout  = "500ms"
}}

prometheus.remote_write "all" {{
  endpoint {{
    url = {write:?}

    queue_config {{
      max_backoff = "200ms"
    }}
  }}
}}

{logs}"#,
        targets = targets.to_configuration(),
        write = receiver.write_url(),
        logs = tail_to_loki(&logs.join("app-*.log"), &receiver.push_url(), ["", endpoint, ""]),
    )
}

/// SplitMix64: enough chance for a test, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn from_environment() -> Chance {
        let given = std::env::var("KILL_LOOP_SEED").ok().and_then(|text| text.parse().ok());
        Chance(given.unwrap_or(now_unix_ms() as u64))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }
}

fn now_unix_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
    since_epoch.as_millis() as i64
}
