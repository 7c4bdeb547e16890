//! Every line is numbered; files are rotated in all ways at random while the agent is killed, restarted and reloaded and its endpoint
//! fails: at the end every number has arrived exactly once, after Loki's rule that an equal line with an equal time is one.
//!
//! `ROTATIONS_SEED` repeats a run, as far as the machine does the same; `ROTATIONS_SECONDS` says how long it takes (20).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use alloy_bin::testing::{Answer, Receiver};

const FILES: usize = 5;
/// How many rotated files of each are kept.
const KEPT: u32 = 60;
const TICK: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn every_line_arrives_once_whatever_happens_to_files_agent_and_endpoint() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("ROTATIONS_SEED").unwrap_or_else(|| now().as_nanos() as u64);
    let seconds = number("ROTATIONS_SECONDS").unwrap_or(20);
    println!("seed {seed} (ROTATIONS_SEED repeats it)");
    let mut run = Run::begin(Chance(seed)).await;
    // What was rotated before a file was first seen is not read.
    run.receiver.wait_for(PATIENCE, |counts| counts.lines >= FILES as u64).await.expect("the first lines");
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end || run.is_dead {
        run.step().await;
    }
    run.calm().await;
}

struct Run {
    chance: Chance,
    folder: tempfile::TempDir,
    receiver: Receiver,
    agent: Process,
    files: Vec<Log>,
    is_dead: bool,
    is_away: bool,
    change_agent: Instant,
    change_receiver: Instant,
    /// What was done, for the report.
    done: BTreeMap<&'static str, u64>,
}

impl Run {
    async fn begin(mut chance: Chance) -> Run {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let receiver = Receiver::start().await.expect("a free port");
        let files = (0..FILES).map(|index| Log::create(folder.path(), index)).collect();
        configure(folder.path(), &receiver, 0);
        let config = folder.path().join("config.alloy");
        let address = free_addresses(1).expect("a free port")[0];
        let flags = Flags { config, folder: folder.path().to_owned(), name: "agent", address, join: &[] };
        let agent = Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("starts");
        let (change_agent, change_receiver) = (chance.later(300, 3000), chance.later(100, 1500));
        let (is_dead, is_away, done) = (false, false, BTreeMap::new());
        Run { chance, folder, receiver, agent, files, is_dead, is_away, change_agent, change_receiver, done }
    }

    async fn step(&mut self) {
        for file in &mut self.files {
            file.write(&mut self.chance);
            if self.chance.below(25) == 0 {
                let what = file.rotate(&mut self.chance);
                *self.done.entry(what).or_default() += 1;
            }
        }
        let now = Instant::now();
        if now >= self.change_receiver {
            self.change_receiver().await;
        }
        if now >= self.change_agent {
            self.change_agent();
        }
        tokio::time::sleep(TICK).await;
    }

    async fn change_receiver(&mut self) {
        self.is_away = !self.is_away;
        match self.is_away.then(|| self.chance.below(3)) {
            None => {
                self.receiver.answer(Answer::Accept);
                self.receiver.up().await.expect("its port is its own");
            }
            Some(0) => self.receiver.answer(Answer::Refuse(503)),
            Some(1) => self.receiver.answer(Answer::HangUp),
            Some(_) => self.receiver.down().await,
        }
        self.change_receiver = self.chance.later(100, 1500);
    }

    fn change_agent(&mut self) {
        if self.is_dead {
            self.agent.start_again().expect("starts");
            self.is_dead = false;
            self.change_agent = self.chance.later(300, 3000);
            return;
        }
        let is_running = self.agent.is_running().expect("a child");
        assert!(is_running, "it ended by itself:\n{}", self.agent.last_words(20));
        let what = match self.chance.below(3) {
            0 => {
                configure(self.folder.path(), &self.receiver, self.chance.below(50));
                self.agent.hang_up().expect("a child");
                "reload"
            }
            1 => {
                self.agent.terminate(PATIENCE).expect("it ends when asked to");
                self.is_dead = true;
                "restart"
            }
            _ => {
                self.agent.kill().expect("a child");
                self.is_dead = true;
                "kill"
            }
        };
        *self.done.entry(what).or_default() += 1;
        self.change_agent =
            if self.is_dead { self.chance.later(0, 1500) } else { self.chance.later(300, 3000) };
    }

    /// What was written has time to arrive; then all is counted.
    async fn calm(&mut self) {
        self.receiver.answer(Answer::Accept);
        self.receiver.up().await.expect("its port is its own");
        let deadline = Instant::now() + PATIENCE;
        while !self.count().0.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let status = self.agent.terminate(PATIENCE).expect("it ends when asked to");
        assert!(status.success(), "it ends with {status}:\n{}", self.agent.last_words(20));
        let (lost, doubled) = self.count();
        let written: u64 = self.files.iter().map(|file| file.next).sum();
        println!("{written} lines, {} lost, {} doubled; {:?}", lost.len(), doubled.len(), self.done);
        let first = |lines: &[String]| lines.iter().take(5).cloned().collect::<Vec<_>>();
        assert!(
            lost.is_empty() && doubled.is_empty(),
            "lost {:?}, doubled {:?}",
            first(&lost),
            first(&doubled)
        );
        assert!(written > 1000 && self.done.len() >= 6, "hardly anything happened: {:?}", self.done);
    }

    /// Lines that are missing, and lines that came with two times.
    fn count(&self) -> (Vec<String>, Vec<String>) {
        let mut arrived: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        self.receiver.inspect(|recorded| {
            for line in recorded.streams.values().flat_map(|stream| &stream.arrivals) {
                arrived.entry(line.line.to_string()).or_default().insert(line.timestamp_ns);
            }
        });
        let written = self.files.iter().flat_map(|file| (0..file.next).map(|number| file.line(number)));
        let lost = written.filter(|line| !arrived.contains_key(line)).collect();
        let doubled = arrived.into_iter().filter(|(_, times)| times.len() > 1).map(|(line, _)| line);
        (lost, doubled.collect())
    }
}

/// A file that is written and rotated.
struct Log {
    path: PathBuf,
    index: usize,
    file: File,
    next: u64,
}

impl Log {
    fn create(folder: &Path, index: usize) -> Log {
        let path = folder.join(format!("app-{index}.log"));
        let mut log = Log { file: open(&path), path, index, next: 1 };
        let first = log.text(0, "\n", &mut Chance(0));
        log.file.write_all(first.as_bytes()).expect("writable");
        log
    }

    /// Two files have entries of two lines.
    fn line(&self, number: u64) -> String {
        let more = if self.index % 2 == 1 { "\n  and more of it" } else { "" };
        format!("file={} number={number}{more}", self.index)
    }

    /// The entry as it is in the file: in some as a container runtime writes it, in up to three parts.
    fn text(&self, number: u64, end: &str, chance: &mut Chance) -> String {
        let line = self.line(number);
        if !self.is_of_container() {
            return line + end;
        }
        let (mut rest, mut text) = (line.as_str(), String::new());
        for _ in 0..chance.below(3) {
            let (part, behind) = rest.split_at(chance.below(rest.len() as u64) as usize);
            rest = behind;
            text += &format!("2026-01-01T00:00:00.{number:09}Z stdout P {part}{end}");
        }
        text + &format!("2026-01-01T00:00:00.{number:09}Z stdout F {rest}{end}")
    }

    fn is_of_container(&self) -> bool {
        self.index.is_multiple_of(2) && self.index > 0
    }

    fn write(&mut self, chance: &mut Chance) {
        let count = chance.below(6);
        let end = if chance.below(2) == 0 { "\r\n" } else { "\n" };
        let text: String =
            (self.next..self.next + count).map(|number| self.text(number, end, chance)).collect();
        self.next += count;
        let (head, tail) = text.as_bytes().split_at(chance.below(text.len() as u64 + 1) as usize);
        self.file.write_all(head).expect("writable");
        if chance.below(10) == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.file.write_all(tail).expect("writable");
    }

    /// In one of the ways that programs have. Between two calls each line is complete.
    fn rotate(&mut self, chance: &mut Chance) -> &'static str {
        self.shift();
        let rotated = self.rotated(1, "");
        match chance.below(5) {
            0 => {
                fs::rename(&self.path, &rotated).expect("there");
                // Until it is told to open the new one, the program writes on.
                self.write(chance);
                self.file = open(&self.path);
                "renamed"
            }
            1 => {
                fs::copy(&self.path, &rotated).expect("there");
                self.file.set_len(0).expect("writable");
                "copied and truncated"
            }
            2 => {
                fs::rename(&self.path, &rotated).expect("there");
                self.file = open(&self.path);
                compress(&rotated, chance);
                "renamed and compressed"
            }
            3 => {
                fs::copy(&self.path, &rotated).expect("there");
                self.file.set_len(0).expect("writable");
                compress(&rotated, chance);
                "copied, truncated and compressed"
            }
            _ => {
                fs::rename(&self.path, &rotated).expect("there");
                self.file = open(&self.path);
                let before = self.rotated(2, "");
                if before.exists() {
                    compress(&before, chance);
                }
                "renamed, the one before compressed"
            }
        }
    }

    /// `app.log.1` becomes `app.log.2`, and so on; the oldest is removed.
    fn shift(&self) {
        for number in (1..KEPT).rev() {
            for suffix in ["", ".gz", ".bz2", ".zst"] {
                let from = self.rotated(number, suffix);
                if from.exists() {
                    fs::rename(from, self.rotated(number + 1, suffix)).expect("there");
                }
            }
        }
    }

    fn rotated(&self, number: u32, suffix: &str) -> PathBuf {
        format!("{}.{number}{suffix}", self.path.display()).into()
    }
}

/// As compressors do it: the result grows under its name, then the original goes.
fn compress(path: &Path, chance: &mut Chance) {
    let mut content = Vec::new();
    File::open(path).expect("there").read_to_end(&mut content).expect("readable");
    let create = |suffix: &str| File::create(format!("{}{suffix}", path.display())).expect("writable");
    match chance.below(3) {
        0 => {
            let mut packed = flate2::write::GzEncoder::new(create(".gz"), flate2::Compression::fast());
            packed.write_all(&content).expect("writable");
            packed.finish().expect("writable");
        }
        1 => {
            let mut packed = bzip2::write::BzEncoder::new(create(".bz2"), bzip2::Compression::fast());
            packed.write_all(&content).expect("writable");
            packed.finish().expect("writable");
        }
        _ => {
            zstd::stream::copy_encode(content.as_slice(), create(".zst"), 1).expect("writable");
        }
    }
    fs::remove_file(path).expect("there");
}

fn open(path: &Path) -> File {
    File::options().create(true).append(true).open(path).expect("writable")
}

fn configure(folder: &Path, receiver: &Receiver, wait_ms: u64) {
    let text = format!(
        r#"local.file_match "all" {{
  path_targets = [{{ "__path__" = {logs:?} }}]
  sync_period  = "1s"
}}

loki.source.file "all" {{
  targets    = local.file_match.all.targets
  forward_to = [loki.process.all.receiver]
}}

loki.process "all" {{
  forward_to = [loki.write.all.receiver]

  stage.match {{
    selector = "{{filename=~\".*[24].log\"}}"

    stage.cri {{ }}
  }}

  stage.match {{
    selector = "{{filename=~\".*[13].log\"}}"

    stage.multiline {{
      firstline     = "^file="
      max_wait_time = "500ms"
    }}
  }}
}}

loki.write "all" {{
  endpoint {{
    url                = {push:?}
    batch_wait         = "{wait_ms}ms"
    min_backoff_period = "50ms"
    max_backoff_period = "200ms"
  }}
}}
"#,
        push = receiver.push_url(),
        logs = folder.join("app-?.log"),
    );
    // Whole at any moment, as those who change it under a running agent do.
    let temporary = folder.join("config.alloy.new");
    fs::write(&temporary, text).expect("writable");
    fs::rename(temporary, folder.join("config.alloy")).expect("writable");
}

/// SplitMix64: enough chance for a test, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn later(&mut self, from_ms: u64, to_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(from_ms + self.below(to_ms - from_ms))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970")
}
