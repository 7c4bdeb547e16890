//! The `logging` block, and the subscriber that writes what the agent says of itself to standard error.

use anyhow::Context;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Body, ConversionError, Decode, FromValue, Value};

/// What the block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Logging {
    level: Level,
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

impl Decode for Logging {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["destination", "write_to"]);
        Logging {
            level: body.optional("level", Level::default()),
            format: body.optional("format", Format::default()),
        }
    }
}

/// Starts writing. Once in a process. What it returns changes what is written, and how.
pub fn start(logging: Logging) -> anyhow::Result<impl Fn(Logging) + Send + Sync + 'static> {
    // Both formats are always there, and one of them lets nothing through.
    let (logfmt, change_logfmt) = reload::Layer::new(filter(logging, Format::Logfmt));
    let (json, change_json) = reload::Layer::new(filter(logging, Format::Json));
    let logfmt_layer = tracing_logfmt::builder().with_target(false).layer().with_writer(std::io::stderr);
    let json_layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false);
    let subscriber = Registry::default()
        .with(logfmt_layer.with_filter(logfmt))
        .with(json_layer.with_writer(std::io::stderr).with_filter(json));
    tracing::subscriber::set_global_default(subscriber).context("the log is started already")?;
    Ok(move |logging| {
        // An error would mean that the subscriber is gone, and it is there for good.
        let _ = change_logfmt.reload(filter(logging, Format::Logfmt));
        let _ = change_json.reload(filter(logging, Format::Json));
    })
}

/// What is written in this format.
fn filter(logging: Logging, format: Format) -> Targets {
    let level = match logging.level {
        _ if logging.format != format => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    // Libraries are heard only when something is wrong: at debug, the HTTP client alone writes three lines a request.
    Targets::new().with_target("alloy_bin", level).with_default(level.min(LevelFilter::WARN))
}
