//! Exporters against receivers: what goes in at one end comes out at the other.

use super::*;
use crate::http_client::parse_url;
use crate::outbox::Dialect;

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(30);

struct Blocks {
    client: ClientBlock,
    common: Common,
}

impl crate::config::Decode for Blocks {
    fn decode(body: &mut crate::config::Body<'_>) -> Self {
        let client = body.required_block::<Client>("client").0;
        Blocks { client, common: Common::read(body) }
    }
}

struct Client(ClientBlock);

impl crate::config::Decode for Client {
    fn decode(body: &mut crate::config::Body<'_>) -> Self {
        Client(ClientBlock::read(body))
    }
}

struct Running {
    exporter: Arc<Exporter>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// An exporter to that receiver, whose log is in that folder.
fn exporter(receiver: &Receiver, dialect: Dialect, client: &str, folder: &std::path::Path) -> Running {
    let text = format!(
        "client {{\nendpoint = \"x\"\n{client}\n}}\nretry_on_failure {{\ninitial_interval = \"20ms\"\nmax_interval = \"40ms\"\n}}\n\
         sending_queue {{\nnum_consumers = 1\nbatch {{\nflush_timeout = \"20ms\"\nmax_size = 100\n}}\n}}\nwal {{\nsegment_bytes = \"1MiB\"\nmax_bytes = \"8MiB\"\n}}"
    );
    let blocks: Blocks = decode(&text).expect("valid");
    let url = |signal: Signal| {
        let url = match dialect {
            Dialect::OtlpGrpc => {
                let service = ["metrics.v1.MetricsService", "logs.v1.LogsService", "trace.v1.TraceService"];
                format!("{}/opentelemetry.proto.collector.{}/Export", receiver.grpc, service[signal as usize])
            }
            _ => format!("{}/v1/{}", receiver.http, signal.name()),
        };
        parse_url(&url).expect("a URL")
    };
    let destination =
        Destination { client: &blocks.client, urls: Signal::ALL.map(url), dialect, timeout: PATIENCE };
    let exporter = Exporter::open(&blocks.common, &destination, "exporter".into(), folder).expect("a log");
    let (exporter, stop) = (Arc::new(exporter), CancellationToken::new());
    let task = tokio::spawn({
        let (exporter, stop) = (exporter.clone(), stop.clone());
        async move { exporter.run(stop).await }
    });
    Running { exporter, stop, task }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("it ends");
    }

    fn page(&self) -> String {
        let mut page = crate::telemetry::Page::default();
        self.exporter.collect(&mut page);
        page.render()
    }
}

fn logs(lines: std::ops::Range<usize>) -> OtlpBatch {
    let records: Vec<String> =
        lines.map(|line| format!(r#"{{"body":{{"stringValue":"line {line} of all"}}}}"#)).collect();
    let text = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#, records.join(","));
    crate::formats::otlp_from_json(Signal::Logs, text.as_bytes(), 64 << 20).expect("valid")
}

/// The lines that have arrived.
fn arrived(receiver: &Receiver) -> Vec<String> {
    let taken = receiver.script.taken.lock().unwrap();
    let printed: String = taken.iter().map(print_otlp).collect();
    let mut lines: Vec<String> = printed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("string_value: "))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

/// A counter of the logs' exporter.
fn count(page: &str, name: &str) -> u64 {
    let line = page.lines().find(|line| line.starts_with(name) && line.contains("signal=\"logs\""));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn expected(lines: std::ops::Range<usize>) -> Vec<String> {
    let mut all: Vec<String> = lines.map(|line| format!("\"line {line} of all\"")).collect();
    all.sort();
    all
}

#[tokio::test]
async fn every_compression_arrives_over_both_protocols() {
    for dialect in [Dialect::OtlpHttp, Dialect::OtlpGrpc] {
        for compression in ["gzip", "zstd", "snappy", "none"] {
            let (receiver, folder) = (receiver("", "").await, tempfile::tempdir().expect("a folder"));
            let running =
                exporter(&receiver, dialect, &format!("compression = \"{compression}\""), folder.path());
            for start in [0, 10, 20] {
                running.exporter.consume(&logs(start..start + 10)).await.expect("room");
            }
            // More than a request may have: it is taken apart.
            running.exporter.consume(&logs(30..330)).await.expect("room");
            until(compression, || arrived(&receiver).len() >= 330).await;
            assert_eq!(arrived(&receiver), expected(0..330), "{dialect:?} {compression}");
            assert!(receiver.script.taken.lock().unwrap().iter().all(|batch| batch.items <= 100));
            running.end().await;
        }
    }
}

#[tokio::test]
async fn what_is_refused_for_now_is_sent_again_and_what_is_left_after_a_restart() {
    for dialect in [Dialect::OtlpHttp, Dialect::OtlpGrpc] {
        let (receiver, folder) = (receiver("", "").await, tempfile::tempdir().expect("a folder"));
        *receiver.script.refusal.lock().unwrap() =
            Some(ConsumeError::Closed { by: "a".into(), reason: "b".into() });
        let running = exporter(&receiver, dialect, "", folder.path());
        running.exporter.consume(&logs(0..10)).await.expect("room");
        until("a try", || count(&running.page(), "alloy_otelcol_exporter_retried_items_total") > 0).await;
        // It tries until its patience is over, and leaves the rest in the log.
        running.end().await;
        *receiver.script.refusal.lock().unwrap() = None;
        let again = exporter(&receiver, dialect, "", folder.path());
        until("the lines", || arrived(&receiver).len() >= 10).await;
        assert_eq!(arrived(&receiver), expected(0..10), "{dialect:?}");
        again.end().await;
    }
}

#[tokio::test]
async fn what_an_endpoint_will_never_take_is_counted() {
    for dialect in [Dialect::OtlpHttp, Dialect::OtlpGrpc] {
        let (receiver, folder) = (receiver("", "").await, tempfile::tempdir().expect("a folder"));
        *receiver.script.drops.lock().unwrap() = 3;
        let running = exporter(&receiver, dialect, "", folder.path());
        running.exporter.consume(&logs(0..10)).await.expect("room");
        until("an answer", || count(&running.page(), "otelcol_exporter_sent_log_records_total") > 0).await;
        let page = running.page();
        assert_eq!(count(&page, "otelcol_exporter_sent_log_records_total"), 7, "{page}");
        assert_eq!(count(&page, "otelcol_exporter_send_failed_log_records_total"), 3, "{page}");
        running.end().await;
    }
}

/// An authority, and a certificate for 127.0.0.1 that it has signed, with its key: of a server or of a client.
fn identity() -> [String; 3] {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let certificate = parameters.signed_by(&key, &authority).expect("a certificate");
    [authority.pem(), certificate.pem(), key.serialize_pem()]
}

#[tokio::test]
async fn both_ends_know_each_other_by_their_certificates() {
    let (server, client, stranger) = (identity(), identity(), identity());
    let tls = format!(
        "tls {{\ncert_pem = {:?}\nkey_pem = {:?}\nclient_ca_pem = {:?}\n}}",
        server[1], server[2], client[0]
    );
    let of = |[_, certificate, key]: &[String; 3]| {
        format!("tls {{\nca_pem = {:?}\ncert_pem = {certificate:?}\nkey_pem = {key:?}\n}}", server[0])
    };
    for dialect in [Dialect::OtlpHttp, Dialect::OtlpGrpc] {
        let receiver = receiver(&tls, &tls).await;
        let (folder, other) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let unknown = exporter(&receiver, dialect, &of(&stranger), other.path());
        unknown.exporter.consume(&logs(10..20)).await.expect("room");
        until("the stranger is turned away", || {
            count(&unknown.page(), "alloy_otelcol_exporter_retried_items_total") > 0
        })
        .await;
        let known = exporter(&receiver, dialect, &of(&client), folder.path());
        known.exporter.consume(&logs(0..10)).await.expect("room");
        until("the lines", || arrived(&receiver).len() >= 10).await;
        assert_eq!(arrived(&receiver), expected(0..10), "{dialect:?}");
        known.end().await;
        unknown.task.abort();
    }
}
