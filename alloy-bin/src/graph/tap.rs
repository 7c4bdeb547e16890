//! Where a receiver can be watched: everything that is sent to a component passes here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

#[cfg(feature = "otelcol")]
use crate::formats::print_start_of_otlp;
#[cfg(feature = "otelcol")]
use crate::server::TEXT_MAX;
use crate::server::{Item, Watcher};
use crate::telemetry::{LogBatch, OtlpBatch, SampleBatch};

/// Of one receiver. It costs one load of a flag as long as nobody watches.
#[derive(Default)]
pub(super) struct Tap {
    is_watched: AtomicBool,
    watchers: Mutex<Vec<Watcher>>,
}

impl Tap {
    /// Somebody wants to see what passes, until they go.
    pub(super) fn add(&self, watcher: Watcher) {
        let mut watchers = self.watchers();
        watchers.retain(|watcher| !watcher.is_gone());
        watchers.push(watcher);
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// A batch passes.
    pub(super) fn pass(&self, batch: &impl Shown) {
        if !self.is_watched.load(Ordering::Relaxed) {
            return;
        }
        let mut watchers = self.watchers();
        watchers.retain(|watcher| !watcher.is_gone());
        self.is_watched.store(!watchers.is_empty(), Ordering::Relaxed);
        watchers.iter().for_each(|watcher| batch.show(watcher));
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().expect("no code panics while holding it")
    }
}

/// A batch whose content can be shown to people.
pub(super) trait Shown {
    /// Offers each of its items.
    fn show(&self, watcher: &Watcher);
}

impl Shown for LogBatch {
    fn show(&self, watcher: &Watcher) {
        for stream in &self.streams {
            for entry in &stream.entries {
                watcher.offer(|| {
                    let labels = match &entry.metadata {
                        Some(metadata) => format!("{} {}", stream.labels.as_ref(), metadata.as_ref()),
                        None => stream.labels.as_ref().to_string(),
                    };
                    let line = String::from_utf8_lossy(&entry.line).into_owned();
                    Item::new("line", Some(entry.timestamp_ns / 1_000_000), labels, line)
                });
            }
        }
    }
}

impl Shown for SampleBatch {
    fn show(&self, watcher: &Watcher) {
        for sample in self.iter() {
            watcher.offer(|| {
                let text = match sample.histogram() {
                    Some(histogram) => format!("{histogram:?}"),
                    None => sample.value.to_string(),
                };
                Item::new("sample", Some(sample.timestamp_ms), sample.labels.to_string(), text)
            });
        }
    }
}

impl Shown for OtlpBatch {
    fn show(&self, watcher: &Watcher) {
        // Without the feature nobody makes such batches.
        #[cfg(feature = "otelcol")]
        watcher.offer(|| {
            let labels = format!("{} items, {} bytes", self.items, self.body.len());
            Item::new(self.signal.name(), None, labels, print_start_of_otlp(self, TEXT_MAX))
        });
        #[cfg(not(feature = "otelcol"))]
        let _ = watcher;
    }
}
