//! `loki.relabel`: rewrites the labels of streams, or drops them, and passes the rest on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Capsule, Decode, Value};
use crate::graph::{
    Component, ConsumeError, Consumer, Context, ExportType, Exports, Fanout, LogsReceiver, Unfinished, export,
};
use crate::relabel::{LabelSet, Rules};
use crate::telemetry::{Labels, LogBatch, LogStream, Page};

/// What the block says.
pub struct Arguments {
    forward_to: Vec<LogsReceiver>,
    rules: Rules,
    max_cache_size: usize,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        Arguments {
            forward_to: body.required("forward_to"),
            rules: Rules::read(body, "rule"),
            max_cache_size: body.optional("max_cache_size", 10_000),
        }
    }
}

/// The component.
pub struct Relabel {
    receiver: Arc<Receiver>,
    exports: Exports,
}

/// What others send to; it stays the same when the arguments change.
struct Receiver {
    now: Mutex<Arc<Now>>,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    processed: AtomicU64,
    written: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What the arguments mean.
struct Now {
    rules: Rules,
    max_cache_size: usize,
    next: Fanout<LogBatch>,
    /// What became of each stream; `None`: it is dropped.
    known: Mutex<HashMap<Labels, Option<Labels>>>,
}

impl Now {
    fn new(arguments: Arguments) -> Arc<Self> {
        let Arguments { forward_to, rules, max_cache_size } = arguments;
        Arc::new(Now { rules, max_cache_size, next: Fanout::new(forward_to), known: Mutex::default() })
    }

    /// The streams that are left, and of each the place of its first entry in the old batch.
    fn relabel(&self, batch: &LogBatch, figures: &Figures) -> (LogBatch, Vec<usize>) {
        let mut kept = batch.with_streams(Vec::new());
        let (mut places, mut place) = (Vec::new(), 0);
        for stream in &batch.streams {
            if let Some(labels) = self.outcome(&stream.labels, figures) {
                kept.streams.push(LogStream { labels, entries: stream.entries.clone() });
                places.push(place);
            }
            place += stream.entries.len();
        }
        (kept, places)
    }

    fn outcome(&self, labels: &Labels, figures: &Figures) -> Option<Labels> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = known.get(labels) {
            figures.hits.fetch_add(1, Relaxed);
            return outcome.clone();
        }
        figures.misses.fetch_add(1, Relaxed);
        let mut set = LabelSet::new(labels.iter());
        let outcome = self.rules.apply(&mut set).then(|| Labels::new(set.into_pairs()));
        // A stream without any label left cannot be sent.
        let outcome = outcome.filter(|labels| labels.iter().next().is_some());
        if known.len() >= self.max_cache_size {
            // Rules are cheap, and streams are few: beginning anew costs less than knowing which went unseen.
            known.clear();
        }
        if self.max_cache_size > 0 {
            known.insert(labels.clone(), outcome.clone());
        }
        outcome
    }
}

impl Receiver {
    fn now(&self) -> Arc<Now> {
        // It is only ever replaced as a whole.
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Component for Relabel {
    const NAME: &'static str = "loki.relabel";
    const EXPORTS: &'static [ExportType] =
        &[("receiver", export::logs_receiver), ("rules", Rules::placeholder)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let now = Now::new(arguments);
        let rules = Value::from(Capsule::new(Arc::new(now.rules.clone())));
        let receiver = Arc::new(Receiver { now: Mutex::new(now), figures: Figures::default() });
        context.exports.set("receiver", Value::from(receiver.clone() as LogsReceiver));
        context.exports.set("rules", rules);
        Ok(Relabel { receiver, exports: context.exports })
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        let (before, now) = (self.receiver.now(), Now::new(arguments));
        if now.rules != before.rules {
            self.exports.set("rules", Capsule::new(Arc::new(now.rules.clone())).into());
        }
        *self.receiver.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let figures = &self.receiver.figures;
        let mut counter =
            |name: &str, help, value: &AtomicU64| page.counter(name, help, &[], value.load(Relaxed));
        counter(
            "loki_relabel_entries_processed",
            "Total number of log entries processed.",
            &figures.processed,
        );
        counter("loki_relabel_entries_written", "Total number of log entries forwarded.", &figures.written);
        counter("loki_relabel_cache_hits", "Total number of cache hits.", &figures.hits);
        counter("loki_relabel_cache_misses", "Total number of cache misses.", &figures.misses);
        let size = self.receiver.now().known.lock().unwrap_or_else(PoisonError::into_inner).len();
        page.gauge("loki_relabel_cache_size", "Total size of relabel cache.", &[], size as f64);
    }
}

#[async_trait]
impl Consumer<LogBatch> for Receiver {
    async fn consume(&self, batch: &LogBatch) -> Result<(), ConsumeError> {
        let now = self.now();
        let (kept, _) = now.relabel(batch, &self.figures);
        if !kept.is_empty() {
            now.next.hand_on(&kept).await?;
        }
        self.figures.processed.fetch_add(batch.len() as u64, Relaxed);
        self.figures.written.fetch_add(kept.len() as u64, Relaxed);
        Ok(())
    }

    fn joins(&self) -> bool {
        self.now().next.joins()
    }

    fn unfinished(&self, batch: &LogBatch) -> Option<Unfinished> {
        let now = self.now();
        let (kept, places) = now.relabel(batch, &Figures::default());
        let next = now.next.unfinished(&kept)?;
        let mut from = next.from;
        for (stream, place) in kept.streams.iter().zip(places) {
            if from < stream.entries.len() {
                return Some(Unfinished { from: place + from, ..next });
            }
            from -= stream.entries.len();
        }
        None
    }

    async fn durable(&self) {
        self.now().next.durable().await;
    }

    async fn flush(&self) {
        self.now().next.flush().await;
    }
}
