//! `loki.source.journal`: entries of systemd's journal, each once, read by `journalctl`.
//!
//! The files of the journal are read by the program that comes with the system: it knows their newest format, its indexes and
//! compressions, and follows them over rotations. What it writes, the export format, is stable and documented.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::child::Journalctl;
use self::entries::Entry;
use self::lines::Shape;
use crate::config::{Body, Decode};
use crate::graph::{Component, Context, ExportType, Fanout, Health, LogsReceiver};
use crate::relabel::Rules;
use crate::tailing::legacy_entries;
use crate::telemetry::{LogBatch, Page};

mod child;
mod cursor;
mod entries;
mod lines;

/// How often the cursor is saved if it has changed.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How long the last save waits for the receivers to be durable. Without it some entries are sent again, which are the same then.
const LAST_SAVE_MAX: Duration = Duration::from_secs(10);

/// How long to wait before `journalctl` is started again: it doubles from the first to the last of these.
const RESTART: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(30);

/// The decoded block.
#[derive(Clone)]
pub struct Arguments {
    /// Who gets the lines.
    pub forward_to: Vec<LogsReceiver>,
    /// What is read.
    pub selection: Selection,
    /// What becomes of it.
    pub shape: Shape,
    /// Where another program has kept its cursor: a file, and the name of its job.
    pub legacy_position: Option<LegacyPosition>,
}

/// Which entries are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The folder of the journal; `None`: the system's own.
    pub path: Option<PathBuf>,
    /// All of these must be so: `FIELD=value`.
    pub matches: Vec<String>,
    /// Without a cursor, entries that are older are left out.
    pub max_age: Duration,
}

/// Where another program has kept its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyPosition {
    /// Its file of positions.
    pub file: PathBuf,
    /// The name of its job.
    pub name: String,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let path: String = body.optional("path", String::new());
        let matches: String = body.optional("matches", String::new());
        let matches: Vec<String> = matches.split_whitespace().map(str::to_owned).collect();
        let is_field = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
        };
        for one in &matches {
            if !one.split_once('=').is_some_and(|(name, _)| is_field(name)) {
                body.error_at(
                    "matches",
                    format!("{one:?} is no FIELD=value; all of them must be so, there is no \"or\""),
                );
            }
        }
        let max_age = body.optional("max_age", Duration::from_secs(7 * 3600));
        let rules: Option<Arc<Rules>> = body.optional("relabel_rules", None);
        Arguments {
            forward_to: body.required("forward_to"),
            selection: Selection { path: (!path.is_empty()).then(|| path.into()), matches, max_age },
            shape: Shape {
                is_json: body.optional("format_as_json", false),
                labels: body.optional("labels", BTreeMap::new()),
                rules: rules.map(|rules| Rules::clone(&rules)).unwrap_or_default(),
            },
            legacy_position: body.block("legacy_position"),
        }
    }
}

impl Decode for LegacyPosition {
    fn decode(body: &mut Body<'_>) -> Self {
        LegacyPosition { file: body.required::<String>("file").into(), name: body.required("name") }
    }
}

/// The component.
pub struct SourceJournal {
    base: Base,
    arguments: watch::Sender<Arc<Arguments>>,
}

#[derive(Clone)]
struct Base {
    id: Arc<str>,
    storage: PathBuf,
    health: Health,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Metrics {
    lines: AtomicU64,
    without_message: AtomicU64,
    restarts: AtomicU64,
    cursor_errors: AtomicU64,
}

#[async_trait]
impl Component for SourceJournal {
    const NAME: &'static str = "loki.source.journal";
    const EXPORTS: &'static [ExportType] = &[];

    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let Context { id, storage, health, .. } = context;
        let base = Base { id, storage, health, metrics: Arc::default() };
        Ok(SourceJournal { base, arguments: watch::Sender::new(Arc::new(arguments)) })
    }

    async fn run(&self, stop: CancellationToken) {
        let mut arguments = self.arguments.subscribe();
        let mut wait = RESTART.start;
        while !stop.is_cancelled() {
            let now = arguments.borrow_and_update().clone();
            let mut reading = Reading::new(self.base.clone(), now).await;
            let begun = Instant::now();
            let end = tokio::select! {
                () = stop.cancelled() => End::Asked,
                _ = arguments.changed() => End::Asked,
                error = reading.read() => End::Failed(error),
            };
            reading.finish().await;
            let End::Failed(error) = end else { continue };
            self.base.metrics.restarts.fetch_add(1, Relaxed);
            self.base.health.unhealthy(format!("cannot read the journal: {error}"));
            tracing::warn!(component = %self.base.id, %error, "cannot read the journal, trying again");
            wait = if begun.elapsed() > RESTART.end { RESTART.start } else { (wait * 2).min(RESTART.end) };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        self.arguments.send_replace(Arc::new(arguments));
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        let Metrics { lines, without_message, restarts, cursor_errors } = &*self.base.metrics;
        let counters = [
            ("loki_source_journal_target_lines_total", "Entries that were forwarded.", lines),
            (
                "loki_source_journal_target_parsing_errors_total",
                "Entries without a message.",
                without_message,
            ),
            ("loki_source_journal_restarts_total", "How often journalctl was started again.", restarts),
            (
                "loki_source_journal_cursor_errors_total",
                "Cursors that could not be saved or read.",
                cursor_errors,
            ),
        ];
        for (name, help, value) in counters {
            page.counter(name, help, &[], value.load(Relaxed));
        }
    }
}

enum End {
    /// The component stops, or has new arguments.
    Asked,
    Failed(io::Error),
}

/// One run of `journalctl`.
struct Reading {
    base: Base,
    arguments: Arc<Arguments>,
    fanout: Fanout<LogBatch>,
    /// All up to this entry is in custody.
    cursor: Option<String>,
    /// The last one that was saved.
    saved: Option<String>,
    save: Option<JoinHandle<io::Result<()>>>,
}

impl Reading {
    async fn new(base: Base, arguments: Arc<Arguments>) -> Self {
        let (folder, legacy) = (base.storage.clone(), arguments.legacy_position.clone());
        let known = tokio::task::spawn_blocking(move || match cursor::load(&folder)? {
            None => legacy.map_or(Ok(None), |legacy| legacy_cursor(&legacy)),
            saved => Ok(saved),
        });
        let cursor = match known.await.map_err(io::Error::other).and_then(|known| known) {
            Ok(cursor) => cursor,
            Err(error) => {
                base.metrics.cursor_errors.fetch_add(1, Relaxed);
                tracing::error!(component = %base.id, %error, "the cursor is lost, beginning at max_age");
                None
            }
        };
        let fanout = Fanout::new(arguments.forward_to.clone());
        Reading { base, arguments, fanout, saved: cursor.clone(), cursor, save: None }
    }

    /// Reads until that is not possible any more. Cancelling it is safe: what was not taken is read again.
    async fn read(&mut self) -> io::Error {
        let started = Journalctl::start(&self.arguments.selection, self.cursor.as_deref());
        let mut journalctl = match started {
            Ok(journalctl) => journalctl,
            Err(error) => return error,
        };
        let mut save_at = Instant::now() + SAVE_EVERY;
        loop {
            let entries = tokio::select! {
                entries = journalctl.entries.recv() => entries,
                () = tokio::time::sleep_until(save_at) => {
                    self.base.health.ok();
                    self.start_save().await;
                    save_at = Instant::now() + SAVE_EVERY;
                    continue;
                }
            };
            match entries {
                Some(Ok(entries)) => self.deliver(&entries).await,
                Some(Err(error)) => return error,
                None => return io::Error::other("journalctl has ended"),
            }
            if Instant::now() >= save_at {
                self.start_save().await;
                save_at = Instant::now() + SAVE_EVERY;
            }
        }
    }

    async fn deliver(&mut self, entries: &[Entry]) {
        let Base { id, metrics, health, .. } = &self.base;
        let batch = lines::batch(&self.arguments.shape, id, entries);
        let without_message = entries.iter().filter(|entry| entry.message().is_none()).count();
        if !self.arguments.shape.is_json {
            metrics.without_message.fetch_add(without_message as u64, Relaxed);
        }
        let refused = |error: &crate::graph::ConsumeError| {
            health.unhealthy(format!("the journal is not read on: {error}"));
        };
        if !batch.is_empty() {
            self.fanout.deliver(&batch, refused).await;
        }
        metrics.lines.fetch_add(batch.len() as u64, Relaxed);
        self.cursor = entries.last().and_then(Entry::cursor).or(self.cursor.take());
    }

    /// Saves the cursor once it is durable, unless a save is under way.
    async fn start_save(&mut self) {
        if self.save.as_ref().is_some_and(|save| !save.is_finished()) {
            return;
        }
        self.end_save().await;
        if self.cursor == self.saved {
            return;
        }
        let (fanout, folder, cursor) = (self.fanout.clone(), self.base.storage.clone(), self.cursor.clone());
        self.saved.clone_from(&cursor);
        self.save = cursor.map(|cursor| {
            tokio::spawn(async move {
                // IMPORTANT: what is saved must not be ahead of the receivers' logs after a power loss.
                fanout.durable().await;
                let save = tokio::task::spawn_blocking(move || cursor::save(&folder, &cursor));
                save.await.map_err(io::Error::other).and_then(|saved| saved)
            })
        });
    }

    async fn end_save(&mut self) {
        let Some(save) = self.save.take() else { return };
        if let Err(error) = save.await.map_err(io::Error::other).and_then(|saved| saved) {
            self.saved = None;
            if self.base.metrics.cursor_errors.fetch_add(1, Relaxed) == 0 {
                tracing::error!(component = %self.base.id, %error, "cannot save the cursor, trying again");
            }
            self.base.health.unhealthy(format!("cannot save the cursor: {error}"));
        }
    }

    async fn finish(mut self) {
        let last_save = async {
            self.end_save().await;
            self.start_save().await;
            self.end_save().await;
        };
        if tokio::time::timeout(LAST_SAVE_MAX, last_save).await.is_err() {
            // It could save over what the next life has saved.
            if let Some(save) = self.save.take() {
                save.abort();
            }
        }
    }
}

fn legacy_cursor(legacy: &LegacyPosition) -> io::Result<Option<String>> {
    let mut entries = legacy_entries(&legacy.file)?;
    let own = format!("cursor-{}", legacy.name);
    Ok(entries.remove(&own).or_else(|| entries.remove(&legacy.name)))
}

/// What a child gives: entries that came together, or why there are no more.
type Entries = mpsc::Receiver<io::Result<Vec<Entry>>>;

#[cfg(test)]
mod tests;
