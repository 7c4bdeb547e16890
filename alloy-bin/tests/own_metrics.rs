//! An agent that scrapes itself, delivers what it finds and prints it, while its server wants TLS and a password of everybody.

use std::time::{Duration, Instant};

use alloy_bin::testing::Receiver;
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(30);

fn configuration(receiver: &Receiver, certificate: &str, key: &str) -> String {
    format!(
        r#"
http {{
  tls {{
    cert_pem = {certificate:?}
    key_pem  = {key:?}
  }}
  auth {{
    basic {{
      username = "me"
      password = "pass"
    }}
  }}
}}

prometheus.exporter.self "default" {{ }}

prometheus.scrape "self" {{
  targets         = prometheus.exporter.self.default.targets
  forward_to      = [prometheus.remote_write.default.receiver, prometheus.echo.default.receiver]
  scrape_interval = "200ms"
  scrape_timeout  = "200ms"
  proxy_url       = "http://127.0.0.1:1"
}}

prometheus.echo "default" {{
  format = "openmetrics"
}}

prometheus.remote_write "default" {{
  endpoint {{
    url = {url:?}
    queue_config {{
      batch_send_deadline = "50ms"
    }}
  }}
}}
"#,
        url = receiver.write_url(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_itself_whatever_protects_its_server() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receiver = Receiver::start().await.expect("a free port");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let text = configuration(&receiver, &made.cert.pem(), &made.signing_key.serialize_pem());
    let config = folder.path().join("main.alloy");
    std::fs::write(&config, text).expect("a writable folder");
    let address = free_addresses(1).expect("a free port")[0];
    let flags = Flags { config, folder: folder.path().to_owned(), name: "agent", address, join: &[] };
    let mut agent =
        Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts");

    let of_self = |name: &'static str| [("__name__", name), ("job", "integrations/self")];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = receiver.counts().samples;
        let values = |name| {
            receiver.inspect(|recorded| {
                let labels = of_self(name);
                let series = recorded.series_with(&labels).flat_map(|(_, series)| &series.arrivals);
                series.map(|arrival| arrival.value()).collect::<Vec<_>>()
            })
        };
        let own = values("prometheus_remote_storage_samples_total");
        if own.iter().any(|count| *count > 0.0) {
            assert!(values("up").iter().all(|up| *up == 1.0), "{:?}", values("up"));
            assert!(!values("alloy_build_info").is_empty());
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let more = receiver.wait_for(left, |counts| counts.samples > seen).await;
        assert!(more.is_ok(), "nothing of itself\n{}", agent.last_words(30));
    }
    receiver.inspect(|recorded| {
        let up = of_self("up");
        let (labels, _) = recorded.series_with(&up).next().expect("it is there");
        assert!(labels.get("instance").is_some_and(|instance| !instance.is_empty()), "{labels:?}");
    });
    assert!(agent.get("/metrics").is_err(), "the port is protected");
    agent.terminate(PATIENCE).expect("it ends when asked to");
    let said = agent.last_words(usize::MAX);
    assert!(said.contains("received metrics") && said.contains("# TYPE up unknown"), "{said}");
}
