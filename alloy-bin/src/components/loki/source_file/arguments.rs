//! What the block of `loki.source.file` says.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Body, ConversionError, Decode, FromValue, Value};
use crate::graph::{LogsReceiver, SharedTarget};
use crate::ownership::Sharing;
use crate::tailing::{Encoding, Format, Limits, PoolOptions, Reading};

/// The decoded block.
#[derive(Clone)]
pub struct Arguments {
    /// The files: each target's label `__path__` names one.
    pub targets: Vec<SharedTarget>,
    /// Who gets the lines.
    pub forward_to: Vec<LogsReceiver>,
    /// Begin files that have no position at their end.
    pub tail_from_end: bool,
    /// Where to begin when the saved positions can't be read.
    pub on_positions_file_error: OnPositionsFileError,
    /// Where Promtail or the static mode of Grafana's agent kept positions: for files of which none is known in the first life.
    pub legacy_positions_file: Option<PathBuf>,
    /// How text is written.
    pub encoding: Encoding,
    /// How files are compressed, if they are.
    pub decompression: Option<Decompression>,
    /// Whether targets are globs.
    pub file_match: Option<FileMatch>,
    /// How often files are looked at.
    pub file_watch: FileWatch,
    /// Whether the cluster's members split the files.
    pub sharing: Sharing,
}

/// Where to begin when the saved positions can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnPositionsFileError {
    /// With the first line: lines may be sent again, none is lost.
    #[default]
    RestartFromBeginning,
    /// With the next line: lines may be lost, none is sent again.
    RestartFromEnd,
    /// Not at all, until the agent is restarted.
    Skip,
}

/// How often files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileWatch {
    /// The wait after something was read.
    pub poll_min: Duration,
    /// The longest wait: it doubles while nothing changes.
    pub poll_max: Duration,
}

impl Default for FileWatch {
    /// A quarter of a second; a whole one when idle, so that ten thousand idle files cost little.
    fn default() -> Self {
        FileWatch { poll_min: Duration::from_millis(250), poll_max: Duration::from_secs(1) }
    }
}

/// Files that are compressed, each read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decompression {
    /// How.
    pub format: Format,
    /// How long after it was found a file is read.
    pub initial_delay: Duration,
}

/// Targets are globs, as in `local.file_match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMatch {
    /// How often to look for files.
    pub sync_period: Duration,
    /// Files that were not changed for so long are left out; zero: none is.
    pub ignore_older_than: Duration,
}

impl Arguments {
    pub(super) fn pool_options(&self) -> PoolOptions {
        let FileWatch { poll_min, poll_max } = self.file_watch;
        let (format, initial_delay) = match self.decompression {
            Some(Decompression { format, initial_delay }) => (Some(format), initial_delay),
            None => (None, Duration::ZERO),
        };
        let reading = Reading { limits: Limits::default(), encoding: self.encoding, format };
        PoolOptions { poll_min, poll_max, initial_delay, reading }
    }
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let legacy: String = body.optional("legacy_positions_file", String::new());
        let name: String = body.optional("encoding", String::new());
        let encoding = Encoding::by_name(&name).unwrap_or_else(|| {
            body.error_at("encoding", format!("there is no encoding {name:?}; UTF-32 is not supported"));
            Encoding::default()
        });
        Arguments {
            targets: body.required("targets"),
            forward_to: body.required("forward_to"),
            tail_from_end: body.optional("tail_from_end", false),
            on_positions_file_error: body
                .optional("on_positions_file_error", OnPositionsFileError::default()),
            legacy_positions_file: (!legacy.is_empty()).then(|| legacy.into()),
            encoding,
            decompression: body.block::<Option<Decompression>>("decompression").flatten(),
            file_match: body.block::<Option<FileMatch>>("file_match").flatten(),
            file_watch: body.block("file_watch").unwrap_or_default(),
            sharing: body.block("clustering").unwrap_or_default(),
        }
    }
}

impl Decode for Option<Decompression> {
    fn decode(body: &mut Body<'_>) -> Self {
        let is_enabled: bool = body.required("enabled");
        let name: String = body.required("format");
        let initial_delay = body.optional("initial_delay", Duration::ZERO);
        let format = match name.as_str() {
            "gz" => Format::Gzip,
            "z" => Format::Zlib,
            "bz2" => Format::Bzip2,
            "zst" => Format::Zstd,
            _ if !body.has("format") => return None,
            _ => {
                body.error_at("format", "must be \"gz\", \"z\", \"bz2\" or \"zst\"");
                return None;
            }
        };
        is_enabled.then_some(Decompression { format, initial_delay })
    }
}

impl Decode for Option<FileMatch> {
    fn decode(body: &mut Body<'_>) -> Self {
        let is_enabled = body.optional("enabled", false);
        let sync_period = body.optional("sync_period", Duration::from_secs(10));
        if sync_period.is_zero() {
            body.error_at("sync_period", "must be longer than nothing");
        }
        let ignore_older_than = body.optional("ignore_older_than", Duration::ZERO);
        is_enabled.then_some(FileMatch { sync_period, ignore_older_than })
    }
}

impl FromValue for OnPositionsFileError {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let choices = [
            ("restart_from_beginning", OnPositionsFileError::RestartFromBeginning),
            ("restart_from_end", OnPositionsFileError::RestartFromEnd),
            ("skip", OnPositionsFileError::Skip),
        ];
        ConversionError::one_of(value, &choices)
    }
}

impl Decode for FileWatch {
    fn decode(body: &mut Body<'_>) -> Self {
        let default = FileWatch::default();
        let poll_min = body.optional("min_poll_frequency", default.poll_min);
        let poll_max = body.optional("max_poll_frequency", default.poll_max.max(poll_min));
        if poll_min.is_zero() {
            body.error_at("min_poll_frequency", "must be longer than nothing");
        }
        if poll_max < poll_min {
            body.error_at("max_poll_frequency", "must not be shorter than min_poll_frequency");
        }
        FileWatch { poll_min, poll_max }
    }
}
