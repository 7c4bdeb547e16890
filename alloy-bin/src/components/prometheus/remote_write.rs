//! `prometheus.remote_write`: encodes each batch once, keeps it in a log for each endpoint, sends it from there.

mod arguments;
mod families;
mod shaping;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use http::HeaderValue;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::config::Value;
use crate::formats::{
    REMOTE_WRITE_2_HEADERS, REMOTE_WRITE_HEADERS, is_remote_write_2, join, join_remote_write_2,
    older_remote_write, split,
};
use crate::graph::{Component, ConsumeError, Consumer, Context, ExportType, MetricsReceiver, export};
use crate::outbox::{Batching, Form, Group, NewerForm, OnTooManyRequests, Outbox, Retry, WalBlock};
use crate::telemetry::{Labels, Page, SampleBatch};
pub use arguments::Arguments;
use arguments::{EndpointArguments, Message, MetadataConfig};
use families::Families;
use shaping::{Made, Shaping};

/// Requests in flight for each endpoint, unless `queue_config` wants more or less. Four keep a link of 100 ms busy with
/// 80,000 samples a second.
const LANES: usize = 4;
/// Of one request's body, compressed: what receivers take without a special configuration.
const REQUEST_BYTES: usize = 1 << 20;
/// Records of both messages can be in one log: the configuration has changed, or the endpoint has refused 2.0.
const FORM: Form = Form {
    splice: join,
    split,
    newer: Some(NewerForm {
        is: is_remote_write_2,
        splice: join_remote_write_2,
        older: older_remote_write,
        written_headers: &[
            "x-prometheus-remote-write-samples-written",
            "x-prometheus-remote-write-histograms-written",
        ],
    }),
    weigh: bytes::Bytes::len,
};

/// The component.
pub struct RemoteWrite {
    arguments: Arguments,
    endpoints: Arc<Endpoints>,
}

/// What the receiver holds.
struct Endpoints {
    id: Arc<str>,
    all: Group<Known>,
    families: Families,
}

/// What is known of an endpoint.
struct Known {
    shaping: Shaping,
    message: Message,
    metadata: MetadataConfig,
    sent_metadata: AtomicU64,
}

impl RemoteWrite {
    fn endpoint(
        arguments: &EndpointArguments,
        wal: &WalBlock,
        external: &Labels,
        storage: &Path,
    ) -> anyhow::Result<(Outbox, Known)> {
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
            in_flight_bytes: 8 * REQUEST_BYTES,
            deadline: queue.batch_send_deadline,
            form: FORM,
        };
        let mut options = arguments.common.options(&REMOTE_WRITE_HEADERS, retry, batching, wal, storage)?;
        if arguments.message == Message::Second {
            let mut headers = options.endpoint.headers.clone();
            for (name, value) in REMOTE_WRITE_2_HEADERS {
                headers.insert(name, HeaderValue::from_static(value));
            }
            options.endpoint.newer_headers = Some(headers);
        }
        let known = Known {
            shaping: Shaping::new(arguments, external),
            message: arguments.message,
            metadata: arguments.metadata,
            sent_metadata: AtomicU64::new(0),
        };
        Ok((Outbox::open(options)?, known))
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
            .map(|endpoint| RemoteWrite::endpoint(endpoint, &arguments.wal, &external, &context.storage));
        let all = Group::new(all.collect::<anyhow::Result<_>>()?);
        let endpoints = Arc::new(Endpoints { id: context.id.clone(), all, families: Families::default() });
        context.exports.set("receiver", Value::from(endpoints.clone() as MetricsReceiver));
        Ok(RemoteWrite { arguments, endpoints })
    }

    async fn run(&self, stop: CancellationToken) {
        let mut telling = JoinSet::new();
        for index in 0..self.endpoints.all.iter().len() {
            let endpoints = self.endpoints.clone();
            telling.spawn(async move { endpoints.tell(index).await });
        }
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
        for (outbox, known) in self.endpoints.all.iter() {
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
            page.counter(
                "prometheus_remote_storage_metadata_total",
                "Families that were described to the endpoint apart from samples.",
                &labels,
                count(&known.sent_metadata),
            );
            if known.message == Message::Second {
                page.gauge(
                    "alloy_remote_write_protocol_fallback",
                    "1: the endpoint does not take remote-write 2.0 and gets 1.0.",
                    &labels,
                    if outbox.wants_newer() { 0.0 } else { 1.0 },
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

impl Endpoints {
    /// Describes the families to one endpoint, again and again. It goes through the log as samples do, so it comes to an endpoint
    /// that was away.
    async fn tell(&self, index: usize) {
        let Some((outbox, known)) = self.all.iter().nth(index).filter(|(_, known)| known.metadata.send)
        else {
            return;
        };
        let interval = known.metadata.send_interval;
        let mut turn = interval_at(tokio::time::Instant::now() + interval, interval);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            // In 2.0 it goes with each series. Behind what waits since the last turn, another copy would say nothing new.
            if outbox.wants_newer() || outbox.log().lag >= interval {
                continue;
            }
            let (pieces, families) =
                self.families.pieces(known.metadata.max_samples_per_send, Instant::now());
            // What the log refuses is said again in the next turn.
            if outbox.accept(&pieces).await.is_ok() {
                known.sent_metadata.fetch_add(families as u64, Ordering::Relaxed);
            }
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
        let mut made = Made::default();
        self.families.note(batch.metadata(), Instant::now());
        for (outbox, known) in self.all.iter() {
            let message = if outbox.wants_newer() { Message::Second } else { Message::First };
            let pieces = known.shaping.pieces(batch, message, &mut made);
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
