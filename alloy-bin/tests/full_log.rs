//! The endpoint is down for longer than the log has room: files are not read on, and that is said; nothing is lost, whether the agent is
//! killed meanwhile or not, and the log stays within its budget.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_bin::testing::Receiver;
use alloy_bin::testing::logs::tail_to_loki;
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};

const FILES: u64 = 3;
/// Of 300 bytes that do not compress to less than half: three times what the log has room for.
const LINES: u64 = 20_000;
const LOG_BYTES: f64 = 5.0 * 1_048_576.0;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_stops_the_files_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receiver = Receiver::start().await.expect("a free port");
    receiver.down().await;
    for file in 0..FILES {
        let text: String = (0..LINES).map(|number| line(file, number) + "\n").collect();
        std::fs::write(folder.path().join(format!("app-{file}.log")), text).expect("writable");
    }
    let config = folder.path().join("config.alloy");
    std::fs::write(&config, configuration(&receiver, folder.path())).expect("writable");
    let address = free_addresses(1).expect("a free port")[0];
    let flags = Flags { config, folder: folder.path().to_owned(), name: "agent", address, join: &[] };
    let mut agent = Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("starts");
    for _ in 0..2 {
        all_wait(&agent);
        assert!(metric(&agent, "alloy_wal_disk_bytes") <= LOG_BYTES);
        assert!(agent.last_words(50).contains("lines wait, the receiver has no room"));
        agent.kill().expect("a child");
        agent.start_again().expect("starts");
    }
    all_wait(&agent);
    assert_eq!(receiver.counts().lines, 0);
    receiver.up().await.expect("its port is its own");
    let all = |counts: &alloy_bin::testing::Counts| counts.lines - counts.doubled_lines >= FILES * LINES;
    let arrived = receiver.wait_for(PATIENCE, all).await;
    assert!(arrived.is_ok(), "only {:?}\n{}", receiver.counts(), agent.last_words(20));
    agent.terminate(PATIENCE).expect("it ends when asked to");
    let mut times: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    receiver.inspect(|recorded| {
        for line in recorded.streams.values().flat_map(|stream| &stream.arrivals) {
            times.entry(line.line.to_string()).or_default().insert(line.timestamp_ns);
        }
    });
    let written = (0..FILES).flat_map(|file| (0..LINES).map(move |number| line(file, number)));
    assert_eq!(written.filter(|line| !times.contains_key(line)).count(), 0, "lost");
    assert_eq!(times.values().filter(|times| times.len() > 1).count(), 0, "with two times");
}

/// Until no file is read on.
fn all_wait(agent: &Process) {
    let deadline = Instant::now() + PATIENCE;
    while metric(agent, "loki_source_file_files_waiting") < FILES as f64 {
        assert!(Instant::now() < deadline, "files are still read:\n{}", agent.last_words(20));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn metric(agent: &Process, name: &str) -> f64 {
    let page = agent.get("/metrics").unwrap_or_default();
    let samples = page
        .lines()
        .filter(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{")));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn line(file: u64, number: u64) -> String {
    let mut line = format!("file={file} number={number}");
    let mut word = file << 32 | number;
    for _ in 0..17 {
        word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x9e37_79b9_7f4a_7c15);
        write!(line, " {word:016x}").expect("memory");
    }
    line
}

fn configuration(receiver: &Receiver, logs: &Path) -> String {
    let endpoint = r#"batch_wait = "10ms"
    min_backoff_period = "50ms"
    max_backoff_period = "200ms""#;
    let wal = r#"wal {
    max_bytes     = "5MiB"
    segment_bytes = "1MiB"
  }"#;
    tail_to_loki(&logs.join("app-*.log"), &receiver.push_url(), ["", endpoint, wal])
}
