//! An agent that sends a backlog of lines as fast as it can is killed in the middle, four times: nothing is lost, and of what the endpoint
//! had acknowledged no more is sent again than what was in flight.

use std::path::Path;
use std::time::Duration;

use alloy_bin::testing::Receiver;
use alloy_bin::testing::logs::{LogWriter, tail_to_loki};
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};

const FILES: u64 = 4;
const LINES: u64 = 60_000;
const KILLS: u64 = 4;
/// Requests that are under way at once; and each file may have a batch that was just being handed over.
const IN_FLIGHT: u64 = 4 + FILES;
/// Lines of a batch: 256 KiB of a file, or a little more. A request of 64 KiB holds one.
const BATCH_LINES: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_under_load_costs_no_more_than_what_was_in_flight() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receiver = Receiver::start().await.expect("a free port");
    for index in 0..FILES {
        let mut file = LogWriter::create(folder.path().join(format!("app-{index}.log"))).expect("writable");
        file.write_lines(LINES).expect("writable");
    }
    let config = folder.path().join("config.alloy");
    std::fs::write(&config, configuration(&receiver, folder.path())).expect("writable");
    let address = free_addresses(1).expect("a free port")[0];
    let flags = Flags { config, folder: folder.path().to_owned(), name: "agent", address, join: &[] };
    let mut agent = Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("starts");
    for kill in 1..=KILLS {
        let reached = FILES * LINES * kill / (KILLS + 1);
        let arrived =
            receiver.wait_for(PATIENCE, |counts| counts.lines - counts.doubled_lines >= reached).await;
        arrived.expect("it arrives");
        agent.kill().expect("a child");
        agent.start_again().expect("starts");
    }
    let all = |counts: &alloy_bin::testing::Counts| counts.lines - counts.doubled_lines == FILES * LINES;
    let counts = receiver.wait_for(PATIENCE, all).await.expect("nothing is lost");
    println!(
        "{KILLS} kills, {} lines, {} doubled, {} requests",
        FILES * LINES,
        counts.doubled_lines,
        counts.requests
    );
    assert!(counts.doubled_lines <= KILLS * IN_FLIGHT * BATCH_LINES, "{}", agent.last_words(20));
    agent.terminate(PATIENCE).expect("it ends when asked to");
}

fn configuration(receiver: &Receiver, logs: &Path) -> String {
    let endpoint = r#"batch_size = "64KiB"
    batch_wait = "10ms""#;
    tail_to_loki(&logs.join("app-*.log"), &receiver.push_url(), ["", endpoint, ""])
}
