//! Three agents read a hundred growing files on a shared folder. They are killed and come back, with their volume or without,
//! and leave in an orderly way, again and again, while the endpoint fails now and then. At the end every line has arrived, and
//! none with two times: what comes twice with the same time is one line to Loki.
//!
//! One thing happens at a time: the next when every file is read somewhere and its successor has had time to be told.
//! `HANDOVER_SECONDS` makes it longer, `HANDOVER_SEED` repeats one. Meanwhile files are rotated.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_bin::testing::logs::{LogWriter, tail_to_loki};
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use alloy_bin::testing::{Answer, Receiver};

const NAMES: [&str; 3] = ["anna", "bert", "carl"];
const FILES: usize = 100;
const SECONDS: u64 = 45;
const TICK: Duration = Duration::from_millis(20);
/// For agents to find each other, to claim, to end.
const PATIENCE: Duration = Duration::from_secs(40);

struct Run {
    folder: tempfile::TempDir,
    receiver: Receiver,
    files: Vec<LogWriter>,
    may_rotate: bool,
    agents: Vec<Process>,
    chance: Chance,
    endpoint_changes: Instant,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_files_change_hands_and_no_line_is_lost_or_has_two_times() {
    let mut run = Run::begin().await;
    println!("seed {} (HANDOVER_SEED repeats it)", run.chance.0);
    let seconds = number("HANDOVER_SECONDS").unwrap_or(SECONDS);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    run.settle().await;
    // What is rotated before anybody has seen it is nobody's.
    run.may_rotate = true;
    while Instant::now() < end {
        *done.entry(run.trouble().await).or_default() += 1;
        run.settle().await;
    }
    println!("{done:?}");
    run.judge().await;
}

impl Run {
    async fn begin() -> Run {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let receiver = Receiver::start().await.expect("a free port");
        let create = |index| LogWriter::create(folder.path().join(format!("app-{index:03}.log")));
        let files = (0..FILES).map(create).collect::<Result<_, _>>().expect("a writable folder");
        let config = folder.path().join("config.alloy");
        std::fs::write(&config, configuration(&receiver, folder.path())).expect("a writable folder");
        let addresses = free_addresses(NAMES.len()).expect("free ports");
        let agents = NAMES.into_iter().zip(&addresses).map(|(name, address)| {
            let (config, folder) = (config.clone(), folder.path().to_owned());
            let flags = Flags { config, folder, name, address: *address, join: &addresses };
            Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts")
        });
        let agents = agents.collect();
        let seed = number("HANDOVER_SEED").unwrap_or_else(|| {
            let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since_epoch.expect("a clock past 1970").as_millis() as u64
        });
        let (chance, endpoint_changes) = (Chance(seed), Instant::now());
        Run { folder, receiver, files, may_rotate: false, agents, chance, endpoint_changes }
    }

    /// Files grow and are rotated, the endpoint fails and is back.
    async fn live(&mut self) {
        for _ in 0..10 {
            let file = self.chance.below(FILES as u64) as usize;
            let lines = 1 + self.chance.below(4);
            self.files[file].write_lines(lines).expect("a writable folder");
        }
        if self.chance.below(25) == 0 && self.may_rotate {
            let file = self.chance.below(FILES as u64) as usize;
            self.files[file].rotate().expect("a writable folder");
        }
        if Instant::now() >= self.endpoint_changes {
            let answer = match self.chance.below(6) {
                0 => Answer::Refuse(503),
                1 => Answer::AcceptButHangUp,
                2 => Answer::AcceptAfter(Duration::from_millis(150)),
                _ => Answer::Accept,
            };
            self.receiver.answer(answer);
            self.endpoint_changes = Instant::now() + Duration::from_millis(200 + self.chance.below(1500));
        }
        tokio::time::sleep(TICK).await;
    }

    async fn live_for(&mut self, millis: u64) {
        let end = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < end {
            self.live().await;
        }
    }

    /// Until all are at work and every file is read by exactly one, and a little longer.
    async fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_settled() {
            assert!(Instant::now() < deadline, "it does not settle:\n{}", self.last_words());
            self.live_for(200).await;
        }
        let pause = 300 + self.chance.below(1200);
        self.live_for(pause).await;
    }

    fn is_settled(&self) -> bool {
        let mut acting = 0;
        for agent in &self.agents {
            if !agent.is_ready() {
                return false;
            }
            let peers = agent.get("/api/v0/web/peers").unwrap_or_default();
            let owned = agent.get("/api/v0/cluster/ownership").unwrap_or_default();
            if peers.matches("participant").count() != NAMES.len() {
                return false;
            }
            acting += owned.matches("\"here\":\"acting\"").count();
        }
        acting == FILES
    }

    /// Something happens to one agent, and it comes back.
    async fn trouble(&mut self) -> &'static str {
        let index = self.chance.below(NAMES.len() as u64) as usize;
        let has_volume = self.chance.below(2) == 0;
        let is_killed = self.chance.below(3) > 0;
        if is_killed {
            self.agents[index].kill().expect("a child");
            let away = self.chance.below(6000);
            self.live_for(away).await;
        } else {
            self.agents[index].ask_to_end().expect("a child");
            let deadline = Instant::now() + PATIENCE;
            while self.agents[index].is_running().expect("a child") {
                assert!(Instant::now() < deadline, "it does not end:\n{}", self.last_words());
                self.live().await;
            }
        }
        if !has_volume {
            std::fs::remove_dir_all(self.folder.path().join(NAMES[index])).expect("its storage");
        }
        self.agents[index].start_again().expect("it starts");
        match (is_killed, has_volume) {
            (true, true) => "killed",
            (true, false) => "killed, volume lost",
            (false, true) => "left",
            (false, false) => "left, volume lost",
        }
    }

    async fn judge(&mut self) {
        self.receiver.answer(Answer::Accept);
        let deadline = Instant::now() + PATIENCE;
        let mut verdict = self.verdict();
        while !verdict.lost.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
            verdict = self.verdict();
        }
        // What is still in a log would come late.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let verdict = self.verdict();
        let written: u64 = self.files.iter().map(LogWriter::written).sum();
        println!(
            "{written} lines: {} lost, {} with two times, {} came more than once with one time",
            verdict.lost.len(),
            verdict.doubled.len(),
            verdict.repeated,
        );
        for agent in &self.agents {
            let page = agent.get("/metrics").unwrap_or_default();
            let figures = page.lines().filter(|line| {
                line.starts_with("alloy_ownership_intents") || line.starts_with("alloy_ownership_records")
            });
            println!("{}", figures.collect::<Vec<_>>().join("\n"));
        }
        assert!(
            verdict.lost.is_empty() && verdict.doubled.is_empty(),
            "lost {:?}, with two times {:?}\n{}",
            &verdict.lost[..verdict.lost.len().min(20)],
            &verdict.doubled[..verdict.doubled.len().min(20)],
            self.last_words()
        );
        assert!(written > 5000, "hardly anything happened: {written} lines");
    }

    fn verdict(&self) -> Verdict {
        let mut times: BTreeMap<String, (BTreeSet<i64>, u64)> = BTreeMap::new();
        self.receiver.inspect(|recorded| {
            for line in recorded.streams.values().flat_map(|stream| &stream.arrivals) {
                let entry = times.entry(line.line.to_string()).or_default();
                entry.0.insert(line.timestamp_ns);
                entry.1 += 1;
            }
        });
        let lines = self.files.iter().flat_map(|file| (0..file.written()).map(|number| file.line(number)));
        let lost = lines.filter(|line| !times.contains_key(line)).collect();
        let doubled = times.iter().filter(|(_, (times, _))| times.len() > 1);
        let doubled = doubled.map(|(line, (times, _))| format!("{line} at {times:?}")).collect();
        let repeated = times.values().filter(|(times, count)| *count > times.len() as u64).count();
        Verdict { lost, doubled, repeated }
    }

    fn last_words(&self) -> String {
        let words =
            NAMES.iter().zip(&self.agents).map(|(name, agent)| format!("{name}: {}", agent.last_words(15)));
        words.collect::<Vec<_>>().join("\n")
    }
}

struct Verdict {
    lost: Vec<String>,
    doubled: Vec<String>,
    repeated: usize,
}

fn configuration(receiver: &Receiver, logs: &Path) -> String {
    let clustering = "clustering {\n    enabled = true\n  }";
    let endpoint = r#"batch_wait = "200ms"
    min_backoff_period = "50ms"
    max_backoff_period = "200ms""#;
    tail_to_loki(&logs.join("app-*.log"), &receiver.push_url(), [clustering, endpoint, ""])
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
