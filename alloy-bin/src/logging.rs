//! The `logging` block, and the subscriber that writes what the agent says of itself to standard error.

mod repeats;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{LazyLock, Mutex};

use anyhow::Context;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use self::repeats::Repeats;
use crate::config::{Body, ConversionError, Decode, FromValue, Value};

/// What is kept of the log, for support bundles.
const RECENT_BYTES: usize = 256 << 10;

/// What the block says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logging {
    level: Level,
    levels: BTreeMap<String, Level>,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Format {
    #[default]
    Logfmt,
    Json,
}

impl FromValue for Level {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let choices =
            [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];
        ConversionError::one_of(value, &choices)
    }
}

impl FromValue for Format {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(value, &[("logfmt", Format::Logfmt), ("json", Format::Json)])
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
        }
    }
}

impl Decode for Logging {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["destination", "write_to"]);
        let levels: BTreeMap<String, Level> = body.optional("levels", BTreeMap::new());
        let is_module = |name: &str| {
            name.split("::")
                .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        };
        if let Some(name) = levels.keys().find(|name| !is_module(name)) {
            body.error_at("levels", format!("{name:?} is not a module, such as \"alloy_bin::outbox\""));
        }
        Logging {
            level: body.optional("level", Level::default()),
            levels,
            format: body.optional("format", Format::default()),
        }
    }
}

/// What the agent says of itself, once in a process.
pub struct Logs {
    change: Box<dyn Fn(&Logging) + Send + Sync>,
}

static REPEATS: LazyLock<Repeats> = LazyLock::new(Repeats::default);
static RECENT: Mutex<VecDeque<u8>> = Mutex::new(VecDeque::new());

impl Logs {
    /// Starts writing.
    pub fn start(logging: &Logging) -> anyhow::Result<Logs> {
        // Both formats are always there, and one of them lets nothing through.
        let (logfmt, change_logfmt) = reload::Layer::new(filter(logging, Format::Logfmt));
        let (json, change_json) = reload::Layer::new(filter(logging, Format::Json));
        let logfmt_layer = tracing_logfmt::builder().with_target(false).layer().with_writer(|| Writer);
        let json_layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false);
        let subscriber = Registry::default()
            .with(logfmt_layer.with_filter(logfmt.and(&*REPEATS)))
            .with(json_layer.with_writer(|| Writer).with_filter(json.and(&*REPEATS)));
        tracing::subscriber::set_global_default(subscriber).context("the log is started already")?;
        let change = move |logging: &Logging| {
            // An error would mean that the subscriber is gone, and it is there for good.
            let _ = change_logfmt.reload(filter(logging, Format::Logfmt));
            let _ = change_json.reload(filter(logging, Format::Json));
        };
        Ok(Logs { change: Box::new(change) })
    }

    /// Changes what is written, and how.
    pub fn change(&self, logging: &Logging) {
        (self.change)(logging);
    }

    /// Says what was left out because it was said too often. To be called every few seconds.
    pub fn tell_repeats(&self) {
        REPEATS.tell();
    }

    /// What was written last, in whole lines.
    pub fn recent() -> String {
        let recent = RECENT.lock().expect("no code panics while holding it");
        let bytes: Vec<u8> = recent.iter().copied().collect();
        let is_cut = bytes.len() >= RECENT_BYTES;
        let begin =
            if is_cut { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) } else { 0 };
        String::from_utf8_lossy(&bytes[begin..]).into_owned()
    }
}

/// What is written in this format.
fn filter(logging: &Logging, format: Format) -> Targets {
    if logging.format != format {
        return Targets::new();
    }
    let level = LevelFilter::from(logging.level);
    // Libraries are heard only when something is wrong: at debug, the HTTP client alone writes three lines a request.
    let targets = Targets::new().with_target("alloy_bin", level).with_default(level.min(LevelFilter::WARN));
    targets.with_targets(
        logging.levels.iter().map(|(module, level)| (module.as_str(), LevelFilter::from(*level))),
    )
}

/// Standard error, and what is kept of it.
struct Writer;

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        {
            let mut recent = RECENT.lock().expect("no code panics while holding it");
            recent.extend(bytes);
            let excess = recent.len().saturating_sub(RECENT_BYTES);
            recent.drain(..excess);
        }
        std::io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
