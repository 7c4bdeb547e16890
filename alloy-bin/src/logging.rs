//! The `logging` block, and the subscriber that writes what the agent says of itself to standard error.

use anyhow::Context;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

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

/// Starts writing. Once in a process.
pub fn start(logging: Logging) -> anyhow::Result<()> {
    let level = match logging.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    // Libraries are heard only when something is wrong: at debug, the HTTP client alone writes three lines a request.
    let filter = Targets::new().with_target("alloy_bin", level).with_default(level.min(LevelFilter::WARN));
    let subscriber: Box<dyn Subscriber + Send + Sync> = match logging.format {
        Format::Logfmt => {
            let layer = tracing_logfmt::builder().with_target(false).layer().with_writer(std::io::stderr);
            Box::new(Registry::default().with(layer.with_filter(filter)))
        }
        Format::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false);
            Box::new(Registry::default().with(layer.with_writer(std::io::stderr).with_filter(filter)))
        }
    };
    tracing::subscriber::set_global_default(subscriber).context("the log is started already")
}
