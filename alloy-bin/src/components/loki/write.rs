//! `loki.write`: encodes each batch once, keeps it in a log for each endpoint, sends it from there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, ByteSize, Decode, Value};
use crate::formats::{LOKI_PUSH_HEADERS, LokiPushEncoder, compress, decompressed_len, join, split};
use crate::graph::{Component, ConsumeError, Consumer, Context, ExportType, LogsReceiver, export};
use crate::outbox::{
    self, Batching, EndpointBlock, Form, Group, OnTooManyRequests, Outbox, Piece, Rejection, Retry, WalBlock,
};
use crate::telemetry::{Labels, LogBatch, Page, TENANT_LABEL};

mod clearance;

/// What the block says.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    external_labels: BTreeMap<String, String>,
    endpoints: Vec<EndpointArguments>,
    wal: WalBlock,
}

/// An `endpoint` block.
#[derive(Debug, Clone, PartialEq)]
struct EndpointArguments {
    common: EndpointBlock,
    batch_size: ByteSize,
    batch_wait: Duration,
    min_backoff: Duration,
    max_backoff: Duration,
    retry_on_http_429: bool,
    tenant_id: Option<String>,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let streams = "what came for other streams would be lost: leave it out, and limit streams in Loki";
        outbox::only(body, "max_streams", 0, streams);
        let arguments = Arguments {
            external_labels: body.optional("external_labels", BTreeMap::new()),
            endpoints: body.blocks("endpoint"),
            wal: body.block("wal").unwrap_or_default(),
        };
        if arguments.endpoints.is_empty() {
            body.error("missing required block \"endpoint\"");
        }
        EndpointBlock::check_names(body, arguments.endpoints.iter().map(|endpoint| &endpoint.common));
        arguments
    }
}

impl Decode for EndpointArguments {
    fn decode(body: &mut Body<'_>) -> Self {
        if body.raw_block("queue_config").is_some() {
            body.error("the queue is a log on disk: leave queue_config out, and limit the log by max_bytes in the block wal");
        }
        let kept = "lines are tried again until the endpoint has them, as in Alloy with 0; leave it out";
        outbox::only(body, "max_backoff_retries", 0, kept);
        let arguments = EndpointArguments {
            common: EndpointBlock::read(body, Duration::from_secs(10), true),
            batch_size: body.optional("batch_size", ByteSize(1 << 20)),
            batch_wait: body.optional("batch_wait", Duration::from_secs(1)),
            min_backoff: body.optional("min_backoff_period", Duration::from_millis(500)),
            max_backoff: body.optional("max_backoff_period", MAX_BACKOFF),
            retry_on_http_429: body.optional("retry_on_http_429", true),
            tenant_id: body.optional("tenant_id", None),
        };
        outbox::check_backoff(
            body,
            ("min_backoff_period", arguments.min_backoff),
            ("max_backoff_period", arguments.max_backoff),
        );
        if arguments.batch_size.0 == 0 {
            body.error_at("batch_size", "must be above zero");
        }
        arguments
    }
}

/// Requests in flight for each endpoint.
const LANES: usize = 4;
/// The longest wait between two tries. Alloy's is five minutes, which would be as long until an endpoint that is back is
/// noticed; one small request in half a minute does no harm to one that is not.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// While an endpoint's log has no room, it is offered the batch again this often.
const FULL_WAIT: Duration = Duration::from_millis(250);

/// What a request is measured by, as Promtail and Alloy do it: Loki passes it on inside uncompressed, in messages of 4 MiB at most.
fn plain_bytes(body: &Bytes) -> usize {
    decompressed_len(body).unwrap_or(body.len())
}

/// The component.
pub struct Write {
    arguments: Arguments,
    endpoints: Arc<Endpoints>,
}

/// What the receiver holds.
struct Endpoints {
    id: Arc<str>,
    encoder: LokiPushEncoder,
    /// Each with its tenant.
    all: Group<String>,
}

impl Write {
    fn endpoint(
        arguments: &EndpointArguments,
        wal: &WalBlock,
        context: &Context,
    ) -> anyhow::Result<(Outbox, String)> {
        let tenant = arguments.tenant_id.clone().unwrap_or_default();
        let mut fixed = LOKI_PUSH_HEADERS.to_vec();
        if !tenant.is_empty() {
            fixed.push(("x-scope-orgid", &tenant));
        }
        let retry = Retry {
            min_backoff: arguments.min_backoff,
            max_backoff: arguments.max_backoff,
            on_too_many_requests: OnTooManyRequests::from_flag(arguments.retry_on_http_429),
            age_limit: None,
        };
        let batching = Batching {
            lanes: LANES,
            max_items: usize::MAX,
            max_bytes: arguments.batch_size.0 as usize,
            in_flight_bytes: (2 * LANES).saturating_mul(arguments.batch_size.0 as usize),
            deadline: arguments.batch_wait,
            form: Form { splice: join, split, newer: None, weigh: plain_bytes },
        };
        let options = outbox::Options {
            clearance: Some(Arc::new(context.ownership.tenures())),
            ..arguments.common.options(&fixed, retry, batching, wal, &context.storage)?
        };
        Ok((Outbox::open(options)?, tenant))
    }
}

#[async_trait]
impl Component for Write {
    const NAME: &'static str = "loki.write";
    const EXPORTS: &'static [ExportType] = &[("receiver", export::logs_receiver)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let all =
            arguments.endpoints.iter().map(|endpoint| Write::endpoint(endpoint, &arguments.wal, &context));
        let all = Group::new(all.collect::<anyhow::Result<_>>()?);
        let encoder = LokiPushEncoder::new(&Labels::new(&arguments.external_labels));
        let endpoints = Arc::new(Endpoints { id: context.id.clone(), encoder, all });
        context.exports.set("receiver", Value::from(endpoints.clone() as LogsReceiver));
        Ok(Write { arguments, endpoints })
    }

    async fn run(&self, stop: CancellationToken) {
        self.endpoints.all.run(stop).await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        anyhow::ensure!(
            arguments == self.arguments,
            "its arguments can only be changed by a restart of the agent"
        );
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        for (outbox, tenant) in self.endpoints.all.iter() {
            let (figures, log) = (outbox.figures(), outbox.log());
            let labels = [("host", outbox.name()), ("tenant", tenant.as_str())];
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let mut counter = |name: &str, help, value| page.counter(name, help, &labels, value);
            counter(
                "loki_write_sent_entries_total",
                "Lines that the endpoint has acknowledged.",
                count(&figures.sent_items),
            );
            counter(
                "loki_write_sent_bytes_total",
                "Bytes of acknowledged requests.",
                count(&figures.sent_bytes),
            );
            counter(
                "loki_write_dropped_entries_total",
                "Lines that the endpoint refused for good.",
                count(&figures.rejected_items),
            );
            figures.collect_rejected(page, "alloy_loki_write_rejected_entries_total", &labels);
            let mut counter = |name: &str, help, value| page.counter(name, help, &labels, value);
            counter(
                "loki_write_batch_retries_total",
                "Lines sent again after an error that may pass.",
                count(&figures.retried_items),
            );
            counter(
                "alloy_loki_write_accepted_entries_total",
                "Lines taken into the log.",
                count(&figures.accepted_items),
            );
            page.histogram(
                "loki_write_request_duration_seconds",
                "Time of one request.",
                &labels,
                &figures.request_seconds,
            );
            log.collect(page, &labels);
        }
    }
}

impl Endpoints {
    /// One piece for each tenant, and the number of lines whose tenant has a name that no header can carry: they are nobody's.
    fn pieces(&self, batch: &LogBatch) -> (Vec<Piece>, u64) {
        if batch.streams.iter().all(|stream| stream.labels.get(TENANT_LABEL).is_none()) {
            return (self.piece(batch, None).into_iter().collect(), 0);
        }
        let mut tenants: BTreeMap<Option<&str>, LogBatch> = BTreeMap::new();
        for stream in &batch.streams {
            let own = || batch.with_streams(Vec::new());
            let tenant = tenants.entry(stream.labels.get(TENANT_LABEL)).or_insert_with(own);
            tenant.streams.push(stream.clone());
        }
        let (mut pieces, mut homeless) = (Vec::new(), 0);
        for (tenant, batch) in tenants {
            let is_name = |tenant: &str| {
                tenant.len() <= Piece::TENANT_BYTES_MAX && http::HeaderValue::from_str(tenant).is_ok()
            };
            if tenant.is_none_or(is_name) {
                pieces.extend(self.piece(&batch, tenant));
            } else {
                homeless += batch.len() as u64;
            }
        }
        (pieces, homeless)
    }

    fn piece(&self, batch: &LogBatch, tenant: Option<&str>) -> Option<Piece> {
        if batch.is_empty() {
            return None;
        }
        let mut plain = Vec::new();
        self.encoder.encode(batch, &mut plain);
        let times = batch.streams.iter().flat_map(|stream| &stream.entries).map(|entry| entry.timestamp_ns);
        Some(Piece {
            lane: batch.lane,
            items: batch.len() as u32,
            newest_ms: times.max().map_or(i64::MIN, |newest| newest / 1_000_000),
            tenant: tenant.map(Into::into),
            origin: batch.origin.clone(),
            body: Bytes::from(compress(&plain)),
        })
    }
}

#[async_trait]
impl Consumer<LogBatch> for Endpoints {
    /// Lines are not dropped because one endpoint's log is full: the batch waits for it, and so does its source.
    async fn consume(&self, batch: &LogBatch) -> Result<(), ConsumeError> {
        let (pieces, homeless) = self.pieces(batch);
        for (taken, (outbox, _)) in self.all.iter().enumerate() {
            while let Err(error) = outbox.accept(&pieces).await {
                if taken == 0 {
                    return Err(error.refusal(&self.id));
                }
                // Another endpoint has the batch already: giving it back would double it there.
                tokio::time::sleep(FULL_WAIT).await;
            }
            outbox.figures().rejected(homeless, Rejection::Invalid);
        }
        Ok(())
    }

    async fn durable(&self) {
        self.all.durable().await;
    }

    async fn flush(&self) {
        self.all.flush().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{LogEntry, LogStream};

    fn stream(tenant: &str, lines: &[&'static str]) -> LogStream {
        let entries = lines.iter().map(|line| LogEntry::new(5_000_000, *line)).collect();
        LogStream { labels: Labels::new([("a", "b"), (TENANT_LABEL, tenant)]), entries }
    }

    #[test]
    fn what_has_no_meaning_here_is_an_error_that_says_what_to_do() {
        use crate::config::{Scope, decode_block};
        use crate::syntax::{Sources, ast::Statement, parse};
        let said = |text: &str| {
            let mut sources = Sources::default();
            let id = sources.add("test.alloy", format!("loki.write \"a\" {{\n{text}\n}}\n"));
            let (file, _) = parse(&sources, id);
            let Statement::Block(block) = &file.statements[0] else { panic!("a block") };
            let decoded = decode_block::<Arguments>(block, &Scope::default());
            decoded.err().map(|errors| errors.render(&sources)).unwrap_or_default()
        };
        let url = "url = \"http://x/y\"";
        let check = |endpoint: &str, more: &str, expected: &str| {
            let said = said(&format!("endpoint {{\n{url}\n{endpoint}\n}}\n{more}"));
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        };
        check("", "max_streams = 0", "");
        check("", "max_streams = 5", "limit streams in Loki");
        check("queue_config { }", "", "max_bytes in the block wal");
        check("max_backoff_retries = 3", "", "tried again until");
    }

    #[test]
    fn a_request_is_as_large_as_what_loki_makes_of_it() {
        let body = Bytes::from(compress(&[b'x'; 100_000]));
        assert!(body.len() < 10_000);
        assert_eq!(plain_bytes(&body), 100_000);
    }

    #[test]
    fn each_tenant_has_a_piece_of_its_own_and_a_name_that_is_none_costs_its_lines_alone() {
        let endpoints = Endpoints {
            id: "loki.write.a".into(),
            encoder: LokiPushEncoder::new(&Labels::new::<&str, &str>([])),
            all: Group::new(Vec::new()),
        };
        let long = "x".repeat(Piece::TENANT_BYTES_MAX + 1);
        let all =
            [("", ["1"]), ("t", ["2"]), ("u", ["3"]), ("t", ["4"]), ("line\nend", ["5"]), (&long, ["6"])];
        let streams = all.iter().map(|(tenant, lines)| stream(tenant, lines)).collect();
        let (pieces, homeless) = endpoints.pieces(&LogBatch { streams, lane: 9, ..LogBatch::default() });
        let seen: Vec<_> =
            pieces.iter().map(|piece| (piece.tenant.as_deref(), piece.items, piece.lane)).collect();
        assert_eq!(seen, [(None, 1, 9), (Some("t"), 2, 9), (Some("u"), 1, 9)]);
        assert_eq!(homeless, 2);
        assert_eq!(pieces[0].newest_ms, 5);
    }
}
