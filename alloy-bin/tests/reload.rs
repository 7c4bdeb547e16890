//! An agent loads a hundred configurations while it scrapes and tails: nothing is lost, nothing is doubled.
//!
//! What scrapes and tails is in every configuration. Around it other components come, go and change; the rules that targets
//! and samples pass through change in place; the endpoints' own blocks change now and then, so that their logs are closed and
//! opened again under load; and every third configuration is wrong in one of many ways. Counted at both ends:
//! 1. every line that was written arrives once;
//! 2. every page that a target has served arrives once, with the labels that the rules give it, and no slot is missed;
//! 3. a wrong configuration is refused with a message, a right one is taken.
//!
//! The seed is printed; `RELOAD_SEED` repeats it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy_bin::testing::logs::LogWriter;
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use alloy_bin::testing::{Receiver, Targets};

const RELOADS: usize = 100;
const TARGETS: usize = 24;
const FILES: usize = 4;
/// For what is still on its way at the end; a debug build on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_lose_and_double_nothing() {
    let mut chance = Chance::from_environment();
    println!("seed {} (RELOAD_SEED repeats it)", chance.0);
    let mut run = Run::begin().await;
    let (mut taken, mut refused) = (0, 0);
    for number in 0..RELOADS {
        run.write(&mut chance);
        let is_wrong = number % 3 == 2;
        run.configure(&chance.configuration(&run, is_wrong));
        let answer = run.agent.get("/-/reload");
        match (&answer, is_wrong) {
            (Ok(text), false) => {
                assert_eq!(text, "config reloaded\n");
                taken += 1;
            }
            (Err(error), true) => {
                assert!(error.to_string().contains("status 400: "), "{error}");
                refused += 1;
            }
            _ => panic!("reload {number}: {answer:?}\n{}", run.agent.last_words(40)),
        }
        tokio::time::sleep(Duration::from_millis(chance.below(40))).await;
    }
    run.judge(refused).await;
    run.end_with_other_settings().await;
    run.judge_deliveries(taken, refused);
}

/// The world around the agent.
struct Run {
    folder: tempfile::TempDir,
    receiver: Receiver,
    targets: Targets,
    files: Vec<LogWriter>,
    agent: Process,
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
        std::fs::write(&config, steady(&receiver, &targets, folder.path(), 0, 0)).expect("a writable folder");
        let address = free_addresses(1).expect("a free port")[0];
        let flags = Flags { config, folder: folder.path().to_owned(), name: "agent", address, join: &[] };
        let agent =
            Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts");
        let deadline = Instant::now() + PATIENCE;
        while !agent.is_ready() {
            assert!(Instant::now() < deadline, "it is not ready:\n{}", agent.last_words(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Run { folder, receiver, targets, files, agent }
    }

    fn write(&mut self, chance: &mut Chance) {
        for file in &mut self.files {
            file.write_lines(chance.below(6)).expect("a writable folder");
        }
    }

    /// As editors do: a new file over the old one. The agent may see it by itself before it is asked to; that is as well.
    fn configure(&self, text: &str) {
        let new = self.folder.path().join("config.alloy.new");
        std::fs::write(&new, text).expect("a writable folder");
        std::fs::rename(&new, self.folder.path().join("config.alloy")).expect("a writable folder");
    }

    fn metric(&self, name: &str) -> f64 {
        let page = self.agent.get("/metrics").expect("it answers");
        let line = page
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} is not in {page}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }

    async fn judge(&mut self, refused: usize) {
        let deadline = Instant::now() + PATIENCE;
        while !self.lost_lines().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let failures = self.metric("alloy_config_load_failures_total");
        assert!(failures >= refused as f64, "{failures} of {refused}");
        assert_eq!(
            self.metric("alloy_scrape_slots_missed_total{component_id=\"prometheus.scrape.steady\""),
            0.0
        );
        assert_eq!(
            self.metric("alloy_config_last_load_successful"),
            f64::from(u8::from(!RELOADS.is_multiple_of(3)))
        );
    }

    /// SIGHUP has the same configuration loaded again, and what it says to the agent itself takes effect without a restart.
    async fn end_with_other_settings(&mut self) {
        let folder = self.folder.path();
        let text =
            steady(&self.receiver, &self.targets, folder, 0, 0) + "logging {\n  format = \"json\"\n}\n";
        self.configure(&text);
        self.agent.get("/-/reload").expect("it is right");

        let json = |agent: &Process| {
            let said = agent.last_words(usize::MAX);
            said.lines()
                .filter(|line| line.starts_with('{') && line.contains("the configuration is loaded"))
                .count()
        };
        assert!(json(&self.agent) > 0, "{}", self.agent.last_words(5));
        // The file does not change any more, so that whatever is loaded now is loaded for the signal.
        let before = self.metric("alloy_config_last_load_success_timestamp_seconds");
        self.agent.hang_up().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        while self.metric("alloy_config_last_load_success_timestamp_seconds") == before {
            assert!(Instant::now() < deadline, "SIGHUP is not heard:\n{}", self.agent.last_words(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let status = self.agent.terminate(PATIENCE).expect("it ends when asked to");
        assert!(status.success(), "it ends with {status}:\n{}", self.agent.last_words(20));
    }

    fn judge_deliveries(&self, taken: usize, refused: usize) {
        let made_anew = self.agent.last_words(usize::MAX).matches("a component is made anew").count();
        let counts = self.receiver.counts();
        let lines: u64 = self.files.iter().map(LogWriter::written).sum();
        let scrapes: usize = self.targets.scrape_counts().iter().sum();
        println!(
            "{taken} taken, {refused} refused; {made_anew} components made anew; {scrapes} pages, {lines} lines; {counts:?}"
        );
        assert_eq!(self.lost_lines(), Vec::<String>::new());
        assert_eq!(counts.doubled_lines, 0);
        assert_eq!(
            (counts.duplicate_samples, counts.conflicting_samples, counts.out_of_order_samples),
            (0, 0, 0)
        );
        for index in 0..TARGETS {
            let asked = self.targets.scrapes(index).len() as u64;
            let pages = self.pages(index);
            let expected: BTreeMap<u64, usize> = (1..=asked).map(|number| (number, 1)).collect();
            assert_eq!(pages, expected, "target {index}");
        }
        assert!(lines > 500 && scrapes >= TARGETS * 3, "hardly anything happened");
        assert!(made_anew >= 3, "the endpoints hardly changed: {made_anew}");
        let complaints = self.receiver.inspect(|recorded| recorded.complaints.clone());
        assert_eq!(complaints, Vec::<String>::new());
    }

    fn lost_lines(&self) -> Vec<String> {
        let lines = self.files.iter().flat_map(|file| (0..file.written()).map(|number| file.line(number)));
        self.receiver.inspect(|recorded| {
            let arrivals = recorded.streams.values().flat_map(|stream| &stream.arrivals);
            let arrived: std::collections::HashSet<&str> = arrivals.map(|arrival| &*arrival.line).collect();
            lines.filter(|line| !arrived.contains(line.as_str())).collect()
        })
    }

    /// How often the page of each number has arrived.
    fn pages(&self, target: usize) -> BTreeMap<u64, usize> {
        let instance = format!("target-{target}");
        let labels = [
            ("__name__", "test_scrapes_total"),
            ("instance", instance.as_str()),
            ("cluster", "steady"),
            ("rewritten", "yes"),
        ];
        self.receiver.inspect(|recorded| {
            let mut pages = BTreeMap::new();
            // A series that ends has a mark that is no number.
            let arrivals = recorded.series_with(&labels).flat_map(|(_, series)| &series.arrivals);
            for value in arrivals.map(|arrival| arrival.value()).filter(|value| !value.is_nan()) {
                *pages.entry(value as u64).or_default() += 1;
            }
            pages
        })
    }
}

/// What works all the time. `variant` changes what makes the logs close and open again, `unused` a rule that nothing falls
/// under.
fn steady(receiver: &Receiver, targets: &Targets, folder: &Path, variant: u64, unused: u64) -> String {
    format!(
        r#"discovery.relabel "steady" {{
  targets = {targets}

  rule {{
    target_label = "cluster"
    replacement  = "steady"
  }}
  rule {{
    source_labels = ["cluster"]
    regex         = "unused-{unused}"
    action        = "drop"
  }}
}}

prometheus.scrape "steady" {{
  targets         = discovery.relabel.steady.output
  forward_to      = [prometheus.relabel.steady.receiver]
  scrape_interval = "1s"
  scrape_timeout  = "1s"
}}

prometheus.relabel "steady" {{
  forward_to = [prometheus.remote_write.steady.receiver]

  rule {{
    target_label = "rewritten"
    replacement  = "yes"
  }}
  rule {{
    source_labels = ["__name__"]
    regex         = "unused_{unused}"
    action        = "drop"
  }}
}}

prometheus.remote_write "steady" {{
  endpoint {{
    name = "steady"
    url  = {write:?}

    queue_config {{
      batch_send_deadline = "{deadline}ms"
    }}
  }}
}}

local.file_match "steady" {{
  path_targets = [{{ "__path__" = {logs:?} }}]
}}

loki.source.file "steady" {{
  targets    = local.file_match.steady.targets
  forward_to = [loki.write.steady.receiver]

  file_watch {{
    min_poll_frequency = "20ms"
    max_poll_frequency = "50ms"
  }}
}}

loki.write "steady" {{
  endpoint {{
    name       = "steady"
    url        = {push:?}
    batch_wait = "{deadline}ms"
  }}
}}
"#,
        targets = targets.to_configuration(),
        write = receiver.write_url(),
        push = receiver.push_url(),
        logs = folder.join("app-*.log"),
        deadline = 50 + variant,
    )
}

/// SplitMix64: enough chance for a test, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn from_environment() -> Chance {
        let given = std::env::var("RELOAD_SEED").ok().and_then(|text| text.parse().ok());
        Chance(given.unwrap_or_else(|| u64::from(std::process::id())))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn configuration(&mut self, run: &Run, is_wrong: bool) -> String {
        let folder = run.folder.path();
        // One in eight changes the endpoints themselves.
        let variant = if self.below(8) == 0 { self.below(5) } else { 0 };
        let mut text = steady(&run.receiver, &run.targets, folder, variant, self.below(3));
        for number in 0..self.below(4) {
            let period = 1 + self.below(3);
            text += &match self.below(4) {
                0 => format!(
                    "local.file_match \"o{number}\" {{\n path_targets = []\n sync_period = \"{period}s\"\n}}\n"
                ),
                1 => format!(
                    "discovery.file \"o{number}\" {{\n files = []\n refresh_interval = \"{period}s\"\n}}\n\
                     prometheus.scrape \"o{number}\" {{\n targets = discovery.file.o{number}.targets\n \
                     forward_to = [prometheus.remote_write.steady.receiver]\n}}\n"
                ),
                2 => format!(
                    "declare \"m{number}\" {{\n argument \"to\" {{ }}\n loki.source.file \"f\" {{\n targets = []\n \
                     forward_to = argument.to.value\n}}\n}}\nm{number} \"x\" {{\n to = [loki.write.steady.receiver]\n}}\n"
                ),
                _ => format!(
                    "loki.write \"o{number}\" {{\n endpoint {{\n url = {:?}\n batch_wait = \"{period}s\"\n }}\n}}\n",
                    run.receiver.push_url()
                ),
            };
        }
        if is_wrong {
            text += [
                "prometheus.scrape \"wrong\" {",
                "prometheus.scrap \"wrong\" { }",
                "prometheus.scrape \"wrong\" { targets = [] }",
                "prometheus.scrape \"wrong\" {\n targets = []\n forward_to = [loki.write.steady.receiver]\n}",
                "loki.source.file \"wrong\" {\n targets = local.file_match.nowhere.targets\n forward_to = []\n}",
                "local.file_match \"steady\" { path_targets = [] }",
                "import.file \"wrong\" { filename = \"/nowhere.alloy\" }",
                "local.file_match \"x\" { path_targets = local.file_match.x.targets }",
            ][self.below(8) as usize];
        }
        text
    }
}
