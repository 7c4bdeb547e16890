//! One agent follows a file and pushes to another, which is killed meanwhile: every line arrives, and those that were pushed twice
//! are the same twice, which Loki keeps once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_bin::testing::logs::LogWriter;
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use alloy_bin::testing::{Receiver, Recorded};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);
const LINES: u64 = 120_000;

fn sender(log: &Path, port: u16) -> String {
    format!(
        r#"
loki.source.file "all" {{
  targets    = [{{__path__ = "{}", app = "a"}}]
  forward_to = [loki.write.gateway.receiver]
}}
loki.write "gateway" {{
  endpoint {{
    url                = "http://127.0.0.1:{port}/loki/api/v1/push"
    tenant_id          = "team-a"
    batch_size         = "8KiB"
    batch_wait         = "20ms"
    min_backoff_period = "20ms"
    max_backoff_period = "200ms"
    basic_auth {{
      username = "me"
      password = "pass"
    }}
  }}
}}
"#,
        log.display()
    )
}

fn gateway(receiver: &Receiver, port: u16) -> String {
    format!(
        r#"
loki.source.api "all" {{
  http {{
    listen_port = {port}
    auth {{
      basic {{
        username = "me"
        password = "pass"
      }}
    }}
  }}
  labels                 = {{gateway = "g"}}
  use_incoming_timestamp = true
  forward_to             = [loki.write.all.receiver]
}}
loki.write "all" {{
  endpoint {{
    url        = "{}"
    batch_wait = "20ms"
  }}
}}
"#,
        receiver.push_url()
    )
}

fn start(folder: &Path, name: &str, config: String, address: std::net::SocketAddr) -> Process {
    let path: PathBuf = folder.join(format!("{name}.alloy"));
    std::fs::write(&path, config).expect("a writable folder");
    let flags = Flags { config: path, folder: folder.to_owned(), name, address, join: &[] };
    Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts")
}

/// How often each line has come, and with which times.
fn arrived(recorded: &Recorded) -> BTreeMap<String, Vec<i64>> {
    let mut lines: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (labels, stream) in &recorded.streams {
        assert!(labels.contains("app=\"a\"") && labels.contains("gateway=\"g\""), "{labels}");
        for arrival in &stream.arrivals {
            lines.entry(arrival.line.to_string()).or_default().push(arrival.timestamp_ns);
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_agent_pushes_to_another_that_is_killed_arrives_once_by_lokis_rule() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receiver = Receiver::start().await.expect("a free port");
    let mut log = LogWriter::create(folder.path().join("app.log")).expect("writable");
    let addresses = free_addresses(3).expect("free ports");
    let port = addresses[2].port();
    let mut gateway = start(folder.path(), "gateway", gateway(&receiver, port), addresses[0]);
    let sender = start(folder.path(), "sender", sender(log.path(), port), addresses[1]);

    let (step, mut written) = (LINES / 4, 0);
    for round in 1..=4 {
        log.write_lines(step).expect("a disk with room");
        written += step;
        if round < 4 {
            // While pushes are on their way: a batch has a small part of what was just written.
            let some = written - step + 1;
            let arrived =
                receiver.wait_for(PATIENCE, |counts| counts.lines >= counts.doubled_lines + some).await;
            arrived.unwrap_or_else(|counts| {
                panic!("{counts:?}\n{}\n{}", sender.last_words(9), gateway.last_words(9))
            });
            gateway.kill().expect("it runs");
            gateway.start_again().expect("it has ended");
        }
    }
    let all = |counts: &alloy_bin::testing::Counts| counts.lines >= counts.doubled_lines + LINES;
    let arrived_all = receiver.wait_for(PATIENCE, all).await;
    arrived_all
        .unwrap_or_else(|counts| panic!("{counts:?}\n{}\n{}", sender.last_words(9), gateway.last_words(9)));
    let lines = receiver.inspect(arrived);
    assert_eq!(lines.len() as u64, LINES);
    for (line, times) in &lines {
        assert!(times.iter().all(|time| *time == times[0]), "{line}: {times:?}");
    }
    println!("{:?}", receiver.counts());
}
