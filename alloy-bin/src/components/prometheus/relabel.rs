//! `prometheus.relabel`: rewrites the labels of series, or drops them, and passes the rest on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Capsule, Decode, Value};
use crate::graph::{
    Component, ConsumeError, Consumer, Context, ExportType, Exports, Fanout, MetricsReceiver, export,
};
use crate::relabel::{CacheLimit, Relabeler, Rules};
use crate::telemetry::{Labels, Page, SampleBatch};

/// What the block says.
pub struct Arguments {
    forward_to: Vec<MetricsReceiver>,
    rules: Rules,
    limit: CacheLimit,
}

/// A shorter life of what is remembered would only cost work.
const CACHE_TTL_MIN: Duration = Duration::from_secs(5);

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let forward_to = body.required("forward_to");
        let max = body.optional("max_cache_size", 100_000);
        let ttl = body.optional("cache_ttl", Duration::ZERO);
        if (max == 0) == ttl.is_zero() {
            body.error("exactly one of max_cache_size & cache_ttl must be above zero");
        } else if !ttl.is_zero() && ttl < CACHE_TTL_MIN {
            body.error_at("cache_ttl", "must be at least 5s");
        }
        let limit = if ttl.is_zero() { CacheLimit::Entries(max) } else { CacheLimit::Age(ttl) };
        Arguments { forward_to, rules: Rules::read(body, "rule"), limit }
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
}

/// What the arguments mean.
struct Now {
    relabeler: Arc<Relabeler>,
    limit: CacheLimit,
    next: Fanout<SampleBatch>,
}

impl Now {
    /// What is known of series stays as long as the rules do.
    fn new(arguments: Arguments, before: Option<&Now>) -> Self {
        let Arguments { forward_to, rules, limit } = arguments;
        let same = before.filter(|before| before.limit == limit && before.relabeler.rules() == &rules);
        let relabeler = same.map_or_else(
            || Arc::new(Relabeler::new(rules, Labels::new::<&str, &str>([]), limit)),
            |before| before.relabeler.clone(),
        );
        Now { relabeler, limit, next: Fanout::new(forward_to) }
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
    const NAME: &'static str = "prometheus.relabel";
    const EXPORTS: &'static [ExportType] =
        &[("receiver", export::metrics_receiver), ("rules", Rules::placeholder)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let now = Now::new(arguments, None);
        let rules = Value::from(Capsule::new(Arc::new(now.relabeler.rules().clone())));
        let receiver = Arc::new(Receiver { now: Mutex::new(Arc::new(now)) });
        context.exports.set("receiver", Value::from(receiver.clone() as MetricsReceiver));
        context.exports.set("rules", rules);
        Ok(Relabel { receiver, exports: context.exports })
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        let before = self.receiver.now();
        let now = Now::new(arguments, Some(&before));
        if now.relabeler.rules() != before.relabeler.rules() {
            self.exports.set("rules", Capsule::new(Arc::new(now.relabeler.rules().clone())).into());
        }
        *self.receiver.now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let now = self.receiver.now();
        let figures = &now.relabeler.figures;
        let mut counter =
            |name: &str, help, value: &AtomicU64| page.counter(name, help, &[], value.load(Relaxed));
        counter(
            "prometheus_relabel_metrics_processed",
            "Total number of metrics processed.",
            &figures.processed,
        );
        counter("prometheus_relabel_metrics_written", "Total number of metrics written.", &figures.written);
        counter("prometheus_relabel_cache_hits", "Total number of cache hits.", &figures.hits);
        counter("prometheus_relabel_cache_misses", "Total number of cache misses.", &figures.misses);
        counter(
            "prometheus_relabel_cache_ttl_evictions_total",
            "Series forgotten because they were not seen for cache_ttl.",
            &figures.expired,
        );
        let size = now.relabeler.remembered() as f64;
        page.gauge("prometheus_relabel_cache_size", "Total size of relabel cache.", &[], size);
    }
}

#[async_trait]
impl Consumer<SampleBatch> for Receiver {
    async fn consume(&self, batch: &SampleBatch) -> Result<(), ConsumeError> {
        let now = self.now();
        let kept = now.relabeler.relabel(batch, Instant::now());
        if kept.is_empty() { Ok(()) } else { now.next.offer(&kept).await }
    }

    async fn durable(&self) {
        self.now().next.durable().await;
    }

    async fn flush(&self) {
        self.now().next.flush().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Scope, decode_block};
    use crate::syntax::{Sources, ast::Statement, parse};

    fn arguments(inside: &str) -> Result<Arguments, String> {
        let mut sources = Sources::default();
        let id =
            sources.add("main.alloy", format!("prometheus.relabel \"a\" {{\nforward_to = []\n{inside}\n}}"));
        let (file, _) = parse(&sources, id);
        let Statement::Block(block) = &file.statements[0] else { panic!("it is a block") };
        decode_block(block, &Scope::default()).map_err(|diagnostics| diagnostics.render(&sources))
    }

    #[test]
    fn series_are_remembered_by_number_or_by_age() {
        let limit = |inside: &str| arguments(inside).map(|arguments| arguments.limit);
        assert_eq!(limit(""), Ok(CacheLimit::Entries(100_000)));
        let age = CacheLimit::Age(Duration::from_secs(60));
        assert_eq!(limit("max_cache_size = 0\ncache_ttl = \"1m\""), Ok(age));
        let one = "exactly one of max_cache_size & cache_ttl must be above zero";
        for (inside, expected) in [
            ("cache_ttl = \"1m\"", one),
            ("max_cache_size = 0", one),
            ("max_cache_size = 0\ncache_ttl = \"1s\"", "must be at least 5s"),
        ] {
            assert!(limit(inside).unwrap_err().contains(expected), "{inside}");
        }
    }

    #[test]
    fn what_is_known_of_series_stays_as_long_as_the_rules_do() {
        let drop_all = "rule {\naction = \"drop\"\n}";
        let first = Now::new(arguments(drop_all).unwrap(), None);
        let same = Now::new(arguments(drop_all).unwrap(), Some(&first));
        assert!(Arc::ptr_eq(&first.relabeler, &same.relabeler));
        let other = Now::new(arguments("").unwrap(), Some(&same));
        assert!(!Arc::ptr_eq(&same.relabeler, &other.relabeler));
    }
}
