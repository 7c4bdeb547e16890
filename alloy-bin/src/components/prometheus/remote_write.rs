//! `prometheus.remote_write`: encodes each batch once, keeps it in a log for each endpoint, sends it from there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::formats::{REMOTE_WRITE_HEADERS, RemoteWriteEncoder, Sends, compress, join};
use crate::graph::{Component, ConsumeError, Consumer, Context, ExportType, MetricsReceiver, export};
use crate::outbox::{
    self, Batching, EndpointBlock, Group, OnTooManyRequests, Outbox, Piece, Retry, WalBlock,
};
use crate::relabel::{CacheLimit, Relabeler, Rules};
use crate::telemetry::{Labels, Page, Sample, SampleBatch};

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
    queue: Queue,
    rules: Rules,
    sends: Sends,
}

/// A `queue_config` block, as far as it has a meaning with a log in between.
#[derive(Debug, Clone, PartialEq)]
struct Queue {
    max_shards: usize,
    min_shards: usize,
    max_samples_per_send: usize,
    batch_send_deadline: Duration,
    min_backoff: Duration,
    max_backoff: Duration,
    retry_on_http_429: bool,
    sample_age_limit: Duration,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
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
        let first = "remote-write 1.0 (\"prometheus.WriteRequest\") is the only message here; set it, or leave it out";
        outbox::only(body, "protobuf_message", "prometheus.WriteRequest".to_owned(), first);
        let one = "each connection goes to an address that answers, and is kept; leave it out, and put a load \
                   balancer in front of several receivers";
        outbox::only(body, "round_robin_dns", false, one);
        body.block::<Metadata>("metadata_config");
        let sends = Sends::default();
        EndpointArguments {
            common: EndpointBlock::read(body, Duration::from_secs(30), false),
            queue: body.block("queue_config").unwrap_or_default(),
            rules: Rules::read(body, "write_relabel_config"),
            sends: Sends {
                exemplars: body.optional("send_exemplars", sends.exemplars),
                native_histograms: body.optional("send_native_histograms", sends.native_histograms),
            },
        }
    }
}

/// A `metadata_config` block. The only thing that it may say is that nothing is sent.
struct Metadata;

impl Decode for Metadata {
    fn decode(body: &mut Body<'_>) -> Self {
        let _: Duration = body.optional("send_interval", Duration::ZERO);
        let _: usize = body.optional("max_samples_per_send", 0);
        if body.optional("send", true) {
            body.error("metadata is not sent here yet; leave the block out, or set send = false");
        }
        Metadata
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: true,
            sample_age_limit: Duration::ZERO,
        }
    }
}

impl Decode for Queue {
    fn decode(body: &mut Body<'_>) -> Self {
        let log =
            "the queue is the log on disk; leave it out, and limit the log by max_bytes in the block wal";
        outbox::meaningless(body, &[("capacity", log)]);
        let default = Queue::default();
        let queue = Queue {
            max_shards: body.optional("max_shards", default.max_shards),
            min_shards: body.optional("min_shards", default.min_shards),
            max_samples_per_send: body.optional("max_samples_per_send", default.max_samples_per_send),
            batch_send_deadline: body.optional("batch_send_deadline", default.batch_send_deadline),
            min_backoff: body.optional("min_backoff", default.min_backoff),
            max_backoff: body.optional("max_backoff", default.max_backoff),
            retry_on_http_429: body.optional("retry_on_http_429", default.retry_on_http_429),
            sample_age_limit: body.optional("sample_age_limit", default.sample_age_limit),
        };
        outbox::check_backoff(body, ("min_backoff", queue.min_backoff), ("max_backoff", queue.max_backoff));
        if queue.min_shards > queue.max_shards {
            body.error_at("min_shards", "min_shards must not be above max_shards");
        }
        if queue.max_shards > SHARDS_MAX {
            body.error_at("max_shards", format!("max_shards must not be above {SHARDS_MAX}"));
        }
        for (name, value) in
            [("max_shards", queue.max_shards), ("max_samples_per_send", queue.max_samples_per_send)]
        {
            if value == 0 {
                body.error_at(name, "must be at least 1");
            }
        }
        queue
    }
}

/// Requests in flight for each endpoint, unless `queue_config` wants more or less. Four keep a link of 100 ms busy with
/// 80,000 samples a second.
const LANES: usize = 4;
/// Each lane is a task and up to one connection.
const SHARDS_MAX: usize = 1000;
/// Of one request's body, compressed: what receivers take without a special configuration.
const REQUEST_BYTES: usize = 1 << 20;

/// The component.
pub struct RemoteWrite {
    arguments: Arguments,
    endpoints: Arc<Endpoints>,
}

/// What the receiver holds.
struct Endpoints {
    id: Arc<str>,
    all: Group<Shaping>,
}

/// What an endpoint makes of a batch.
struct Shaping {
    /// `max_samples_per_send`.
    max_samples: usize,
    sends: Sends,
    /// `write_relabel_config`; its rules see the external labels, so what it gives has them.
    relabeler: Option<Relabeler>,
    /// Adds the external labels where no rules have seen them.
    encoder: RemoteWriteEncoder,
}

/// How long series are remembered that end without a marker. One that comes back later is worked out anew.
const RELABEL_MEMORY: CacheLimit = CacheLimit::Age(Duration::from_secs(600));

impl Shaping {
    fn new(arguments: &EndpointArguments, external: &Labels) -> Self {
        let relabeler = (!arguments.rules.is_empty())
            .then(|| Relabeler::new(arguments.rules.clone(), external.clone(), RELABEL_MEMORY));
        let none = Labels::new::<&str, &str>([]);
        let encoder = RemoteWriteEncoder::new(if relabeler.is_some() { &none } else { external });
        let (max_samples, sends) = (arguments.queue.max_samples_per_send, arguments.sends);
        Shaping { max_samples, sends, relabeler, encoder: encoder.sending(sends) }
    }

    /// Encodes the batch as pieces of at most `max_samples` samples.
    fn pieces(&self, batch: &SampleBatch) -> Vec<Piece> {
        let relabeled;
        let batch = match &self.relabeler {
            Some(relabeler) => {
                relabeled = relabeler.relabel(batch, Instant::now());
                &relabeled
            }
            None => batch,
        };
        let samples: Vec<Sample<'_>> = batch.iter().collect();
        let mut plain = Vec::new();
        let pieces = samples.chunks(self.max_samples).map(|chunk| {
            plain.clear();
            self.encoder.encode(chunk.iter().copied(), &mut plain);
            Piece {
                lane: batch.lane(),
                items: chunk.len() as u32,
                newest_ms: chunk.iter().map(|sample| sample.timestamp_ms).max().unwrap_or(i64::MIN),
                body: Bytes::from(compress(&plain)),
            }
        });
        pieces.collect()
    }
}

impl RemoteWrite {
    fn endpoint(
        arguments: &EndpointArguments,
        wal: &WalBlock,
        external: &Labels,
        context: &Context,
    ) -> anyhow::Result<(Outbox, Shaping)> {
        let queue = &arguments.queue;
        let retry = Retry {
            min_backoff: queue.min_backoff,
            max_backoff: queue.max_backoff,
            on_too_many_requests: OnTooManyRequests::from_flag(queue.retry_on_http_429),
            age_limit: (!queue.sample_age_limit.is_zero()).then_some(queue.sample_age_limit),
        };
        let batching = Batching {
            lanes: LANES.max(queue.min_shards).min(queue.max_shards),
            max_items: queue.max_samples_per_send,
            max_bytes: REQUEST_BYTES,
            deadline: queue.batch_send_deadline,
            weigh: Bytes::len,
            splice: join,
        };
        let options =
            arguments.common.options(&REMOTE_WRITE_HEADERS, retry, batching, wal, &context.storage)?;
        Ok((Outbox::open(options)?, Shaping::new(arguments, external)))
    }
}

#[async_trait]
impl Component for RemoteWrite {
    const NAME: &'static str = "prometheus.remote_write";
    const EXPORTS: &'static [ExportType] = &[("receiver", export::metrics_receiver)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let external = Labels::new(&arguments.external_labels);
        let all = arguments
            .endpoints
            .iter()
            .map(|endpoint| RemoteWrite::endpoint(endpoint, &arguments.wal, &external, &context));
        let all = Group::new(all.collect::<anyhow::Result<_>>()?);
        let endpoints = Arc::new(Endpoints { id: context.id.clone(), all });
        context.exports.set("receiver", Value::from(endpoints.clone() as MetricsReceiver));
        Ok(RemoteWrite { arguments, endpoints })
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
        for (outbox, _) in self.endpoints.all.iter() {
            let (figures, log) = (outbox.figures(), outbox.log());
            let labels = [("remote_name", outbox.name()), ("url", outbox.url())];
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let seconds = |newest: &AtomicI64| newest.load(Ordering::Relaxed).max(0) as f64 / 1e3;
            let mut counter = |name: &str, help, value| page.counter(name, help, &labels, value);
            counter(
                "prometheus_remote_storage_samples_in_total",
                "Samples taken into the log.",
                count(&figures.accepted_items),
            );
            counter(
                "prometheus_remote_storage_samples_total",
                "Samples that the endpoint has acknowledged.",
                count(&figures.sent_items),
            );
            counter(
                "prometheus_remote_storage_samples_failed_total",
                "Samples that the endpoint refused for good.",
                count(&figures.rejected_items),
            );
            counter(
                "prometheus_remote_storage_samples_retried_total",
                "Samples sent again after an error that may pass.",
                count(&figures.retried_items),
            );
            for (reason, dropped) in
                [("log_full", &figures.refused_items), ("too_old", &figures.expired_items)]
            {
                page.counter(
                    "prometheus_remote_storage_samples_dropped_total",
                    "Samples not taken because the log had no room, or not sent because of sample_age_limit.",
                    &[labels[0], labels[1], ("reason", reason)],
                    count(dropped),
                );
            }
            figures.collect_rejected(page, "alloy_remote_write_samples_rejected_total", &labels);
            let mut counter = |name: &str, help, value| page.counter(name, help, &labels, value);
            counter(
                "prometheus_remote_storage_bytes_total",
                "Bytes of acknowledged requests.",
                count(&figures.sent_bytes),
            );
            let mut gauge = |name: &str, help, value| page.gauge(name, help, &labels, value);
            gauge(
                "prometheus_remote_storage_highest_timestamp_in_seconds",
                "Newest timestamp taken into the log.",
                seconds(&figures.newest_accepted_ms),
            );
            gauge(
                "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
                "Newest timestamp that the endpoint has acknowledged.",
                seconds(&figures.newest_sent_ms),
            );
            page.histogram(
                "prometheus_remote_storage_sent_batch_duration_seconds",
                "Time of one request.",
                &labels,
                &figures.request_seconds,
            );
            log.collect(page, &labels);
        }
    }
}

#[async_trait]
impl Consumer<SampleBatch> for Endpoints {
    /// Each endpoint has its own log and its own limit: one that is full loses the batch (and counts it) without
    /// holding up the others. Only if all are full nothing is taken.
    async fn consume(&self, batch: &SampleBatch) -> Result<(), ConsumeError> {
        let mut refused = None;
        let mut taken = false;
        let mut encoded: Option<((usize, Sends), Vec<Piece>)> = None;
        for (outbox, shaping) in self.all.iter() {
            let own;
            let pieces = if shaping.relabeler.is_some() {
                own = shaping.pieces(batch);
                &own
            } else {
                let wanted = (shaping.max_samples, shaping.sends);
                let reusable = encoded.take().filter(|(encoded_for, _)| *encoded_for == wanted);
                &encoded.insert(reusable.unwrap_or_else(|| (wanted, shaping.pieces(batch)))).1
            };
            match outbox.accept(pieces).await {
                Ok(()) => taken = true,
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if !taken => Err(error.refusal(&self.id)),
            _ => Ok(()),
        }
    }

    async fn durable(&self) {
        self.all.durable().await;
    }

    async fn flush(&self) {
        self.all.flush().await;
    }
}

#[cfg(test)]
mod tests;
