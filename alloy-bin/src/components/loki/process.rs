//! `loki.process`: takes lines through stages, and passes on what they have become.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Decode, Value};
use crate::graph::{
    Component, ConsumeError, Consumer, Context, ExportType, Fanout, LogsReceiver, Unfinished, export,
};
use crate::stages::Pipeline;
use crate::telemetry::{LogBatch, Page};

mod blocks;

/// What the block says.
pub struct Arguments {
    forward_to: Vec<LogsReceiver>,
    pipeline: Pipeline,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let forward_to = body.required("forward_to");
        Arguments { forward_to, pipeline: Pipeline::new(blocks::stages(body)) }
    }
}

/// The component.
pub struct Process {
    receiver: Arc<Receiver>,
}

/// What others send to; it stays the same when the arguments change.
struct Receiver {
    now: Mutex<Arc<Now>>,
    /// Lines that went no further, by reason.
    dropped: Mutex<BTreeMap<String, u64>>,
}

/// What the arguments mean.
struct Now {
    pipeline: Pipeline,
    next: Fanout<LogBatch>,
}

impl Now {
    fn new(arguments: Arguments) -> Arc<Self> {
        Arc::new(Now { pipeline: arguments.pipeline, next: Fanout::new(arguments.forward_to) })
    }
}

impl Receiver {
    fn now(&self) -> Arc<Now> {
        // It is only ever replaced as a whole.
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Component for Process {
    const NAME: &'static str = "loki.process";
    const EXPORTS: &'static [ExportType] = &[("receiver", export::logs_receiver)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let now = Mutex::new(Now::new(arguments));
        let receiver = Arc::new(Receiver { now, dropped: Mutex::default() });
        context.exports.set("receiver", Value::from(receiver.clone() as LogsReceiver));
        Ok(Process { receiver })
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        *self.receiver.now.lock().unwrap_or_else(PoisonError::into_inner) = Now::new(arguments);
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        const DROPPED: &str = "A count of all log lines dropped as a result of a pipeline stage.";
        for (reason, lines) in &*self.receiver.dropped.lock().unwrap_or_else(PoisonError::into_inner) {
            page.counter("loki_process_dropped_lines_total", DROPPED, &[("reason", reason)], *lines);
        }
        for (name, value, lines) in self.receiver.now().pipeline.limited() {
            let labels = [("label_name", name), ("label_value", value.as_str())];
            page.counter("loki_process_dropped_lines_by_label_total", DROPPED, &labels, lines);
        }
    }
}

#[async_trait]
impl Consumer<LogBatch> for Receiver {
    async fn consume(&self, batch: &LogBatch) -> Result<(), ConsumeError> {
        let now = self.now();
        let outcome = now.pipeline.process(batch);
        if !outcome.wait.is_zero() {
            tokio::time::sleep(outcome.wait).await;
        }
        if !outcome.batch.is_empty()
            && let Err(error) = now.next.hand_on(&outcome.batch).await
        {
            now.pipeline.give_back(&outcome);
            return Err(error);
        }
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        for (reason, lines) in outcome.dropped {
            *dropped.entry(reason).or_default() += lines;
        }
        Ok(())
    }

    fn joins(&self) -> bool {
        let now = self.now();
        now.pipeline.joins() || now.next.joins()
    }

    fn unfinished(&self, batch: &LogBatch) -> Option<Unfinished> {
        let now = self.now();
        let own = now.pipeline.unfinished(batch).map(|(from, wait)| Unfinished { from, wait });
        if !now.next.joins() {
            return own;
        }
        let outcome = now.pipeline.process(batch);
        now.pipeline.give_back(&outcome);
        let next = now.next.unfinished(&outcome.batch).and_then(|next| {
            // What comes out may be in another order than what came in.
            let from = outcome.from.get(next.from..)?.iter().min()?;
            Some(Unfinished { from: outcome.whole(*from), ..next })
        });
        Unfinished::both(own, next)
    }

    async fn durable(&self) {
        self.now().next.durable().await;
    }

    async fn flush(&self) {
        self.now().next.flush().await;
    }
}

#[cfg(test)]
mod tests;
