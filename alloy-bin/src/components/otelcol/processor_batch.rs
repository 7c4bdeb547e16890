//! `otelcol.processor.batch`: makes few large messages of many small ones. Who sent them is answered when the large one is in
//! custody, so nothing is acknowledged that a crash could lose.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::formats::{join_otlp, otlp_part};
use crate::graph::{Component, ConsumeError, Consumer, Context, ExportType, OtelConsumer, export};
use crate::otlp::{DebugMetrics, Output};
use crate::outbox;
use crate::telemetry::{OtlpBatch, Page};

/// What the block says.
pub struct Arguments {
    sizes: Sizes,
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sizes {
    timeout: Duration,
    send: u32,
    /// Zero: there is no limit.
    max: u32,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        body.block::<DebugMetrics>("debug_metrics");
        let headers = "receivers pass no headers of requests on; leave it out";
        outbox::meaningless(body, &[("metadata_cardinality_limit", headers), ("metadata_keys", headers)]);
        let sizes = Sizes {
            timeout: body.optional("timeout", Duration::from_millis(200)),
            send: body.optional("send_batch_size", 2000),
            max: body.optional("send_batch_max_size", 3000),
        };
        if sizes.max != 0 && sizes.max < sizes.send {
            body.error_at("send_batch_max_size", "must be zero or at least send_batch_size");
        }
        Arguments { sizes, output: body.required_block("output") }
    }
}

/// Messages that wait for the one that is being filled; each is in the memory of its receiver.
const WAITING_MAX: usize = 1024;
/// Bytes of one message, whatever is in it: what takes 16 MiB is no longer small.
const BYTES_MAX: usize = 16 << 20;

/// A message, and who waits for it.
struct Waiting {
    batch: OtlpBatch,
    answer: oneshot::Sender<Result<(), ConsumeError>>,
}

/// The component.
pub struct ProcessorBatch {
    sizes: Sizes,
    shared: Arc<Shared>,
    inboxes: Mutex<Option<[mpsc::Receiver<Waiting>; 3]>>,
}

struct Shared {
    id: Arc<str>,
    doors: [mpsc::Sender<Waiting>; 3],
    output: Mutex<Output>,
    /// Messages that were sent because of their size, and because of their time.
    sent: [AtomicU64; 2],
}

impl Shared {
    fn output(&self) -> Output {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Component for ProcessorBatch {
    const NAME: &'static str = "otelcol.processor.batch";
    const EXPORTS: &'static [ExportType] = &[("input", export::otel_consumer)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let (metrics, logs, traces) =
            (mpsc::channel(WAITING_MAX), mpsc::channel(WAITING_MAX), mpsc::channel(WAITING_MAX));
        let shared = Arc::new(Shared {
            id: context.id.clone(),
            doors: [metrics.0, logs.0, traces.0],
            output: Mutex::new(arguments.output),
            sent: Default::default(),
        });
        context.exports.set("input", Value::from(shared.clone() as OtelConsumer));
        let inboxes = Mutex::new(Some([metrics.1, logs.1, traces.1]));
        Ok(ProcessorBatch { sizes: arguments.sizes, shared, inboxes })
    }

    async fn run(&self, stop: CancellationToken) {
        let inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some([metrics, logs, traces]) = inboxes else { return };
        let fill = |inbox| fill(self.sizes, &self.shared, inbox, stop.clone());
        tokio::join!(fill(metrics), fill(logs), fill(traces));
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        anyhow::ensure!(arguments.sizes == self.sizes, "other sizes need it to be built anew");
        *self.shared.output.lock().unwrap_or_else(PoisonError::into_inner) = arguments.output;
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        for (name, sent) in [
            ("otelcol_processor_batch_batch_size_trigger_send_total", &self.shared.sent[0]),
            ("otelcol_processor_batch_timeout_trigger_send_total", &self.shared.sent[1]),
        ] {
            page.counter(
                name,
                "Messages sent, by what made them be sent.",
                &[],
                sent.load(Ordering::Relaxed),
            );
        }
    }
}

#[async_trait]
impl Consumer<OtlpBatch> for Shared {
    async fn consume(&self, batch: &OtlpBatch) -> Result<(), ConsumeError> {
        if self.output().of(batch.signal).is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let closed = || ConsumeError::Closed { by: self.id.to_string(), reason: "it is stopping".to_owned() };
        let waiting = Waiting { batch: batch.clone(), answer };
        self.doors[batch.signal as usize].send(waiting).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn durable(&self) {
        self.output().durable().await;
    }

    async fn flush(&self) {
        self.output().flush().await;
    }
}

/// Collects messages of one signal and sends them on, until `stop`; then what has come so far.
async fn fill(sizes: Sizes, shared: &Shared, mut inbox: mpsc::Receiver<Waiting>, stop: CancellationToken) {
    loop {
        let first = tokio::select! {
            first = inbox.recv() => first,
            () = stop.cancelled(), if !inbox.is_closed() => {
                inbox.close();
                continue;
            }
        };
        let Some(first) = first else { return };
        let deadline = Instant::now() + sizes.timeout;
        let (mut items, mut bytes) = (first.batch.items, first.batch.body.len());
        let mut all = vec![first];
        let is_full = loop {
            // A timeout of zero: nothing waits for more.
            if (sizes.timeout.is_zero() || items >= sizes.send) || bytes >= BYTES_MAX {
                break true;
            }
            tokio::select! {
                biased;
                next = inbox.recv() => match next {
                    Some(next) => {
                        items = items.saturating_add(next.batch.items);
                        bytes += next.batch.body.len();
                        all.push(next);
                    }
                    None => break false,
                },
                () = tokio::time::sleep_until(deadline) => break false,
                () = stop.cancelled(), if !inbox.is_closed() => inbox.close(),
            }
        };
        shared.sent[usize::from(!is_full)].fetch_add(1, Ordering::Relaxed);
        send(sizes, shared, all).await;
    }
}

async fn send(sizes: Sizes, shared: &Shared, all: Vec<Waiting>) {
    let batches: Vec<OtlpBatch> = all.iter().map(|waiting| waiting.batch.clone()).collect();
    let Some(joined) = join_otlp(&batches) else { return };
    let output = shared.output();
    let mut result = Ok(());
    let max = if sizes.max == 0 { u32::MAX } else { sizes.max };
    let mut from = 0;
    while result.is_ok() && (from < joined.items || from == 0) {
        let to = from.saturating_add(max).min(joined.items);
        let part = if to - from == joined.items { joined.clone() } else { otlp_part(&joined, from, to) };
        result = output.offer(&part).await;
        if batches.len() > 1 || to - from < joined.items {
            tell(&batches, &part);
        }
        from = to.max(1);
    }
    for waiting in all {
        // Who no longer waits has given up and will send it again.
        let _ = waiting.answer.send(result.clone());
    }
}

/// What was dropped of a part is told to the senders, the first of them first: whose it was is no longer known.
fn tell(batches: &[OtlpBatch], part: &OtlpBatch) {
    let (mut dropped, reason) = part.dropped.so_far();
    for batch in batches {
        let share = dropped.min(u64::from(batch.items).saturating_sub(batch.dropped.so_far().0));
        if share > 0 {
            batch.dropped.note(share, &reason);
        }
        dropped -= share;
    }
}

#[cfg(test)]
mod tests;
