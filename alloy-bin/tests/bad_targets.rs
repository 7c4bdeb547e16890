//! Targets that fail in every way, and a cluster that nobody answers in: the agent says so, counts it, and goes on.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use alloy_bin::testing::{Behaviour, Receiver, Recorded, SampleArrival, Targets};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL_MS: i64 = 800;

/// An agent that scrapes these targets and sends what it gets to this receiver.
struct World {
    receiver: Receiver,
    targets: Targets,
    agent: Process,
    _folder: tempfile::TempDir,
}

impl World {
    async fn begin(behaviours: &[Behaviour], more: &str, join: &[SocketAddr]) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let receiver = Receiver::start().await.expect("a free port");
        let targets = Targets::start(behaviours.len(), 3).await.expect("a free port");
        behaviours.iter().enumerate().for_each(|(index, behaviour)| targets.behave(index, *behaviour));
        let config = folder.path().join("main.alloy");
        std::fs::write(&config, configuration(&receiver, &targets, more)).expect("a writable folder");
        let address = free_addresses(1).expect("a free port")[0];
        let flags = Flags { config, folder: folder.path().to_owned(), name: "agent", address, join };
        let program = Path::new(env!("CARGO_BIN_EXE_alloy")).to_owned();
        let agent = Process::start(Start::new(program, &flags)).expect("it starts");
        World { receiver, targets, agent, _folder: folder }
    }

    /// Waits until the receiver has what is looked for.
    async fn until(&self, what: &str, reached: impl Fn(&Recorded) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Before the look, so that nothing can come unseen in between.
            let seen = self.receiver.counts().samples;
            if self.receiver.inspect(&reached) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let more = self.receiver.wait_for(left, |counts| counts.samples > seen).await;
            assert!(more.is_ok(), "not in time: {what}\n{}", self.agent.last_words(30));
        }
    }

    /// Waits until the agent has said it; what it says of itself has no other bell.
    async fn until_said(&self, sentence: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.said(sentence).is_empty() {
            assert!(Instant::now() < deadline, "it does not say {sentence:?}\n{}", self.agent.last_words(30));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn said(&self, sentence: &str) -> Vec<String> {
        let said = self.agent.last_words(usize::MAX);
        said.lines().filter(|line| line.contains(sentence)).map(str::to_owned).collect()
    }

    fn up(&self, target: usize) -> Vec<SampleArrival> {
        self.receiver.inspect(|recorded| up(recorded, target))
    }

    /// The sum of a figure on the agent's own page.
    fn figure(&self, name: &str) -> f64 {
        let page = self.agent.get("/metrics").expect("it answers");
        let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }

    fn end(mut self) {
        let status = self.agent.terminate(PATIENCE).expect("it ends when asked to");
        assert!(status.success(), "{status}\n{}", self.agent.last_words(30));
    }
}

fn up(recorded: &Recorded, target: usize) -> Vec<SampleArrival> {
    let instance = format!("target-{target}");
    let labels = [("__name__", "up"), ("instance", instance.as_str())];
    recorded.series_with(&labels).flat_map(|(_, series)| series.arrivals.clone()).collect()
}

fn configuration(receiver: &Receiver, targets: &Targets, more: &str) -> String {
    format!(
        r#"prometheus.scrape "all" {{
  targets    = {targets}
  forward_to = [prometheus.remote_write.all.receiver]
  {more}
  clustering {{
    enabled = true
  }}
}}

prometheus.remote_write "all" {{
  endpoint {{
    url = {write:?}

    queue_config {{
      batch_send_deadline = "50ms"
    }}
  }}
}}
"#,
        targets = targets.to_configuration(),
        write = receiver.write_url(),
    )
}

/// 8 GiB at a time from two targets, and every other fault: each is said once and counted each time, and neither its
/// neighbours nor the agent's memory notice.
#[tokio::test(flavor = "multi_thread")]
async fn bad_targets_cost_themselves_alone() {
    const GOOD: std::ops::Range<usize> = 0..2;
    let faults = [
        (Behaviour::Status(500), "the target answered with status 500 Internal Server Error"),
        (Behaviour::Hang, "no complete answer within 800ms (scrape_timeout)"),
        (Behaviour::HangUp, "cannot ask the target: "),
        (Behaviour::Garbage, "cannot read the page: "),
        (Behaviour::Endless, "the page is larger than 1048576 bytes (body_size_limit)"),
        (Behaviour::Endless, "the page is larger than 1048576 bytes (body_size_limit)"),
    ];
    let bad = GOOD.end..GOOD.end + faults.len();
    let behaviours: Vec<Behaviour> =
        GOOD.map(|_| Behaviour::Text).chain(faults.iter().map(|(behaviour, _)| *behaviour)).collect();
    let more = r#"scrape_interval = "800ms"
  scrape_timeout  = "800ms"
  body_size_limit = "1MiB""#;
    let world = World::begin(&behaviours, more, &[]).await;
    let all = GOOD.start..bad.end;
    world
        .until("four slots of each", |recorded| all.clone().all(|target| up(recorded, target).len() >= 4))
        .await;

    for target in GOOD {
        assert!(world.up(target).iter().all(|sample| sample.value() == 1.0), "{target} is well");
        let times: Vec<i64> = world.up(target).iter().map(|sample| sample.timestamp_ms).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == INTERVAL_MS), "{target}: {times:?}");
    }
    for target in bad.clone() {
        assert!(world.up(target).iter().all(|sample| sample.value() == 0.0), "{target} is down");
        let times: Vec<i64> = world.up(target).iter().map(|sample| sample.timestamp_ms).collect();
        let in_slots = |pair: &[i64]| pair[1] > pair[0] && (pair[1] - pair[0]) % INTERVAL_MS == 0;
        assert!(times.windows(2).all(in_slots), "{target}: {times:?}");
    }
    assert!(world.figure("alloy_scrape_failures_total") >= 24.0);
    assert!(world.figure("alloy_scrape_pages_total") >= 8.0);
    let said = world.said("a target cannot be scraped");
    for (target, (behaviour, reason)) in bad.clone().zip(faults) {
        let of_target = |line: &&String| line.contains(&format!("/t/{target}/metrics"));
        let lines: Vec<&String> = said.iter().filter(of_target).collect();
        assert!(lines.len() == 1 && lines[0].contains(reason), "{behaviour:?}, {reason}: {lines:#?}");
    }
    let memory = world.agent.memory_bytes_max().unwrap();
    assert!(memory < 150 << 20, "it took {} MiB", memory >> 20);
    assert_eq!(world.agent.get("/-/healthy").unwrap(), "All Alloy components are healthy.\n");

    bad.clone().for_each(|target| world.targets.behave(target, Behaviour::Text));
    let is_well =
        |recorded: &Recorded, target| up(recorded, target).last().is_some_and(|up| up.value() == 1.0);
    world.until("all are well", |recorded| all.clone().all(|target| is_well(recorded, target))).await;
    assert_eq!(world.said("a target can be scraped again").len(), faults.len());
    assert_eq!(world.receiver.counts().conflicting_samples, 0);
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_in_the_configuration_an_endless_page_still_has_one() {
    let more = r#"scrape_interval = "10s""#;
    let world = World::begin(&[Behaviour::Endless], more, &[]).await;
    world.until("its slot", |recorded| !up(recorded, 0).is_empty()).await;
    let said = world.said("a target cannot be scraped");
    let limits = ["larger than 268435456 bytes (body_size_limit)", "within 10s (scrape_timeout)"];
    assert!(said.len() == 1 && limits.iter().any(|limit| said[0].contains(limit)), "{said:?}");
    // The page's 256 MiB, and a half more while the buffer moves to a larger one.
    let memory = world.agent.memory_bytes_max().unwrap();
    assert!(memory < 600 << 20, "it took {} MiB", memory >> 20);
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_nobody_answers_says_so_and_works_alone() {
    let nobody = free_addresses(1).unwrap();
    let more = r#"scrape_interval = "800ms"
  scrape_timeout  = "800ms""#;
    let world = World::begin(&[Behaviour::Text], more, &nobody).await;
    world.until("its target is scraped", |recorded| up(recorded, 0).len() >= 3).await;
    world.until_said("cannot join; trying again").await;
    let said = world.said("cannot join");
    assert!(said[0].contains(&nobody[0].to_string()) && said[0].contains("level=warn"), "{said:?}");
    let seen = world.up(0).len();
    world.until("it goes on", |recorded| up(recorded, 0).len() >= seen + 2).await;
    assert!(world.agent.is_ready());
    let owned = world.agent.get("/api/v0/cluster/ownership").unwrap();
    assert!(owned.contains(r#""owner":"agent""#), "{owned}");
    world.end();
}
