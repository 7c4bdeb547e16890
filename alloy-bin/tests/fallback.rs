//! A target that its owner cannot reach and others can: `clustering { fallback = true }` between real agents.
//!
//! The target hangs up on one of three agents, which it knows by a header, as a partition between the two would. Whatever happens,
//! every slot is taken once, and with the slot's time.

use std::time::{Duration, Instant};

use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use alloy_bin::testing::{Behaviour, Receiver, Recorded, Targets};

const NAMES: [&str; 3] = ["anna", "bert", "carl"];
const INTERVAL_MS: i64 = 1000;
/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);

async fn until(what: &str, agents: &[Process], is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        let words = || agents.iter().map(|agent| agent.last_words(8)).collect::<Vec<_>>().join("\n---\n");
        assert!(Instant::now() < deadline, "not in time: {what}:\n{}", words());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Which agent acts on the target, and for whom, by what all say.
fn actor(agents: &[Process], target: usize) -> Option<(usize, Option<String>)> {
    agents.iter().enumerate().find_map(|(index, agent)| {
        let answer = agent.get("/api/v0/cluster/ownership").ok()?;
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("it is JSON");
        let name = format!("/t/{target}/metrics");
        let mut keys = answer["keys"].as_array()?.iter();
        let key = keys.find(|key| key["name"].as_str().is_some_and(|url| url.ends_with(&name)))?;
        (key["here"] == "acting").then(|| (index, key["stands_in_for"].as_str().map(str::to_owned)))
    })
}

/// The samples of the target's `up`, by time.
fn up(recorded: &Recorded, target: usize) -> Vec<(i64, f64)> {
    let instance = format!("target-{target}");
    let labels = [("__name__", "up"), ("instance", instance.as_str())];
    let mut samples: Vec<(i64, f64)> = recorded
        .series_with(&labels)
        .flat_map(|(_, series)| series.arrivals.iter().map(|sample| (sample.timestamp_ms, sample.value())))
        .collect();
    samples.sort_by_key(|(time, _)| *time);
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_only_its_owner_cannot_reach_is_scraped_by_another_until_it_can() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (receiver, targets) =
        (Receiver::start().await.expect("a port"), Targets::start(4, 1).await.expect("a port"));
    let addresses = free_addresses(3).expect("free ports");
    let agents: Vec<Process> = NAMES
        .iter()
        .zip(&addresses)
        .map(|(name, address)| {
            let config = folder.path().join(format!("{name}.alloy"));
            let text = format!(
                r#"prometheus.scrape "a" {{
                    targets         = {}
                    forward_to      = [prometheus.remote_write.a.receiver]
                    scrape_interval = "{INTERVAL_MS}ms"
                    scrape_timeout  = "{INTERVAL_MS}ms"
                    http_headers    = {{ "x-agent" = ["{name}"] }}
                    clustering {{
                        enabled  = true
                        fallback = true
                    }}
                }}
                prometheus.remote_write "a" {{
                    endpoint {{
                        url = "{}"
                    }}
                }}"#,
                targets.to_configuration(),
                receiver.write_url()
            );
            std::fs::write(&config, text).expect("a writable folder");
            let flags =
                Flags { config, folder: folder.path().to_owned(), name, address: *address, join: &addresses };
            Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts")
        })
        .collect();
    let latest =
        |target: usize| receiver.inspect(|recorded| up(recorded, target).last().map(|(_, value)| *value));
    until("all targets are up", &agents, || (0..4).all(|target| latest(target) == Some(1.0))).await;
    let (owner, dead_owner) = (actor(&agents, 0), actor(&agents, 1));
    let (owner, None) = owner.expect("somebody acts") else { panic!("nobody stands in yet") };

    // One is away for all of them, the other one for its owner alone.
    targets.behave(1, Behaviour::Status(503));
    targets.behave(0, Behaviour::HangUpOn(NAMES[owner]));
    let stands_in =
        || actor(&agents, 0).is_some_and(|(_, stands_for)| stands_for.as_deref() == Some(NAMES[owner]));
    until("another one stands in", &agents, stands_in).await;
    until("it is up again", &agents, || latest(0) == Some(1.0)).await;
    let page = agents[owner].get("/metrics").expect("it answers");
    let lent = page
        .lines()
        .find(|line| line.starts_with("alloy_ownership_lent{component_id=\"prometheus.scrape.a\"}"));
    assert!(lent.is_some_and(|line| line.ends_with(" 1")), "{lent:?}");
    until("the other one has failed for long", &agents, || {
        receiver.inspect(|recorded| up(recorded, 1).iter().filter(|(_, value)| *value == 0.0).count() >= 8)
    })
    .await;
    assert_eq!(actor(&agents, 1), dead_owner, "what nobody can reach stays where it is");

    targets.behave(0, Behaviour::Text);
    until("its owner has it back", &agents, || actor(&agents, 0) == Some((owner, None))).await;
    let before = receiver.inspect(|recorded| up(recorded, 0).len());
    until("it goes on", &agents, || receiver.inspect(|recorded| up(recorded, 0).len() >= before + 3)).await;

    receiver.inspect(|recorded| {
        let samples = up(recorded, 0);
        let steps: Vec<i64> = samples.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(steps.iter().all(|step| *step == INTERVAL_MS), "each slot once: {samples:?}");
        let down = samples.iter().filter(|(_, value)| *value == 0.0).count();
        assert!((3..=6).contains(&down), "three failures, and what the move takes: {samples:?}");
        let counts = recorded.counts();
        assert_eq!((counts.duplicate_samples, counts.conflicting_samples), (0, 0), "{counts:?}");
    });
}
