//! `otelcol.processor.memory_limiter`: refuses data while the agent has more memory than it should.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, ByteSize, Decode, Value};
use crate::graph::{Component, ConsumeError, Consumer, Context, ExportType, Health, OtelConsumer, export};
use crate::otlp::{DebugMetrics, Output};
use crate::telemetry::{OtlpBatch, Page};

/// What the block says.
pub struct Arguments {
    limits: Limits,
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Limits {
    check_interval: Duration,
    limit: Amount,
    spike: Option<Amount>,
}

/// Bytes, or a part of what the machine or the control group has.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Bytes(u64),
    Percent(u64),
}

impl Amount {
    fn bytes(self, total: u64) -> u64 {
        match self {
            Amount::Bytes(bytes) => bytes,
            Amount::Percent(percent) => (u128::from(total) * u128::from(percent) / 100) as u64,
        }
    }
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        body.block::<DebugMetrics>("debug_metrics");
        let check_interval = body.required("check_interval");
        if check_interval == Duration::ZERO && body.has("check_interval") {
            body.error_at("check_interval", "must be above zero; \"1s\" is a good value");
        }
        let limit = body.optional("limit", ByteSize(0)).0;
        let spike = body.optional("spike_limit", ByteSize(0)).0;
        let percent: u64 = body.optional("limit_percentage", 0);
        let spike_percent: u64 = body.optional("spike_limit_percentage", 0);
        for (name, percent) in [("limit_percentage", percent), ("spike_limit_percentage", spike_percent)] {
            if percent > 100 {
                body.error_at(name, "must be at most 100");
            }
        }
        if (limit == 0) == (percent == 0) {
            body.error("exactly one of limit and limit_percentage must be above zero");
        }
        if limit > 0 && spike >= limit {
            body.error_at("spike_limit", "must be smaller than limit");
        }
        if percent > 0 && spike_percent >= percent {
            body.error_at("spike_limit_percentage", "must be smaller than limit_percentage");
        }
        let some = |bytes: u64, percent: u64| match (bytes, percent) {
            (0, 0) => None,
            (0, percent) => Some(Amount::Percent(percent)),
            (bytes, _) => Some(Amount::Bytes(bytes)),
        };
        let limits = Limits {
            check_interval,
            limit: some(limit, percent).unwrap_or(Amount::Percent(100)),
            spike: some(spike, spike_percent),
        };
        Arguments { limits, output: body.required_block("output") }
    }
}

/// The component.
pub struct ProcessorMemoryLimiter {
    limits: Limits,
    gate: Arc<Gate>,
    health: Health,
}

struct Gate {
    id: Arc<str>,
    output: Mutex<Output>,
    /// Bytes that the agent has.
    used: AtomicU64,
    /// Bytes from which on nothing is taken.
    soft: u64,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Gate {
    fn output(&self) -> Output {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Component for ProcessorMemoryLimiter {
    const NAME: &'static str = "otelcol.processor.memory_limiter";
    const EXPORTS: &'static [ExportType] = &[("input", export::otel_consumer)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let Arguments { limits, output } = arguments;
        let total = total_bytes();
        let limit = limits.limit.bytes(total);
        // A fifth of the limit is for what comes between two looks, as in the Collector.
        let spike = limits.spike.map_or(limit / 5, |spike| spike.bytes(total));
        let gate = Arc::new(Gate {
            id: context.id.clone(),
            output: Mutex::new(output),
            used: AtomicU64::new(used_bytes().unwrap_or(0)),
            soft: limit.saturating_sub(spike),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        context.exports.set("input", Value::from(gate.clone() as OtelConsumer));
        Ok(ProcessorMemoryLimiter { limits, gate, health: context.health })
    }

    async fn run(&self, stop: CancellationToken) {
        let mut was_over = false;
        let mut look = tokio::time::interval(self.limits.check_interval);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(look.tick()).await.is_some() {
            // The kernel answers from memory: nothing waits for a disk.
            let Some(used) = used_bytes() else {
                self.health.unhealthy("cannot read how much memory the agent has");
                continue;
            };
            self.gate.used.store(used, Ordering::Relaxed);
            let is_over = used >= self.gate.soft;
            if is_over != was_over {
                let (used, soft) = (ByteSize(used).to_string(), ByteSize(self.gate.soft).to_string());
                let id = &*self.gate.id;
                if is_over {
                    tracing::warn!(
                        component_id = id,
                        used,
                        soft,
                        "memory is above the soft limit; data is refused"
                    );
                } else {
                    tracing::info!(component_id = id, used, soft, "memory is below the soft limit again");
                }
                was_over = is_over;
            }
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        anyhow::ensure!(arguments.limits == self.limits, "other limits need it to be built anew");
        *self.gate.output.lock().unwrap_or_else(PoisonError::into_inner) = arguments.output;
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let gate = &self.gate;
        for (name, help, value) in [
            ("otelcol_processor_memory_limiter_accepted_items_total", "Items passed on.", &gate.accepted),
            (
                "otelcol_processor_memory_limiter_refused_items_total",
                "Items refused for lack of memory.",
                &gate.refused,
            ),
        ] {
            page.counter(name, help, &[], value.load(Ordering::Relaxed));
        }
        let used = gate.used.load(Ordering::Relaxed) as f64;
        page.gauge(
            "alloy_otelcol_memory_limiter_used_bytes",
            "Memory of the agent at the last look.",
            &[],
            used,
        );
        let soft = gate.soft as f64;
        page.gauge(
            "alloy_otelcol_memory_limiter_soft_limit_bytes",
            "From here on data is refused.",
            &[],
            soft,
        );
    }
}

#[async_trait]
impl Consumer<OtlpBatch> for Gate {
    async fn consume(&self, batch: &OtlpBatch) -> Result<(), ConsumeError> {
        let used = self.used.load(Ordering::Relaxed);
        if used >= self.soft {
            self.refused.fetch_add(batch.items.into(), Ordering::Relaxed);
            let reason = format!(
                "the agent has {} MiB of memory, and {} MiB are the soft limit",
                used >> 20,
                self.soft >> 20
            );
            return Err(ConsumeError::Full { by: self.id.to_string(), reason });
        }
        self.output().offer(batch).await?;
        self.accepted.fetch_add(batch.items.into(), Ordering::Relaxed);
        Ok(())
    }

    async fn durable(&self) {
        self.output().durable().await;
    }

    async fn flush(&self) {
        self.output().flush().await;
    }
}

/// Memory of this process that is in the machine and no copy of a file.
fn used_bytes() -> Option<u64> {
    kib("/proc/self/status", "RssAnon:").map(|kib| kib << 10)
}

/// A line of one of the kernel's tables.
fn kib(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// What this process may have: the limit of its control group if it has one, or what the machine has.
fn total_bytes() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let group = read("/proc/self/cgroup");
    let path = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let limits =
        [format!("/sys/fs/cgroup{}/memory.max", path.trim_end()), "/sys/fs/cgroup/memory.max".to_owned()];
    let limits = limits.iter().filter_map(|path| read(path).trim().parse::<u64>().ok());
    let machine = kib("/proc/meminfo", "MemTotal:");
    limits.chain(machine.map(|kib| kib << 10)).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::telemetry::Signal;

    #[test]
    fn the_kernel_says_how_much_memory_there_is_and_is_used() {
        let used = used_bytes().expect("a Linux");
        let hoard = vec![1_u8; 64 << 20];
        let more = used_bytes().expect("a Linux");
        assert!(more > used + (48 << 20), "{used} {more} {}", hoard.len());
        assert!(total_bytes() > more && total_bytes() < 1 << 60);
        assert_eq!(Amount::Percent(80).bytes(1000), 800);
    }

    #[tokio::test]
    async fn from_the_soft_limit_on_nothing_is_taken() {
        let gate = Gate {
            id: "limiter".into(),
            output: Mutex::new(Output::all(Arc::new(Taker))),
            used: AtomicU64::new(99),
            soft: 100,
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        let batch = OtlpBatch::new(Signal::Logs, Bytes::new(), 3);
        assert!(gate.consume(&batch).await.is_ok());
        gate.used.store(100, Ordering::Relaxed);
        assert!(matches!(gate.consume(&batch).await, Err(ConsumeError::Full { .. })));
        let counted = (gate.accepted.load(Ordering::Relaxed), gate.refused.load(Ordering::Relaxed));
        assert_eq!(counted, (3, 3));
    }

    struct Taker;

    #[async_trait]
    impl Consumer<OtlpBatch> for Taker {
        async fn consume(&self, _batch: &OtlpBatch) -> Result<(), ConsumeError> {
            Ok(())
        }
    }
}
