//! The in-memory model: what travels between components.
//!
//! | file | what |
//! | --- | --- |
//! | `labels.rs` | a label set as one packed, sorted allocation |
//! | `target.rs` | what discovery finds: labels of something to scrape or to read, and its sharding key |
//! | `samples.rs` | a batch of samples, one scrape of one target, with exemplars where there are some |
//! | `native_histogram.rs` | a sample that is a whole histogram |
//! | `metadata.rs` | type, help and unit of a family of metrics |
//! | `logs.rs` | a batch of log lines, grouped by stream |
//! | `otlp.rs` | a message of OTLP as it came |
//! | `work.rs` | pieces of the agent's own work, for traces |
//! | `metrics.rs` | the agent's own figures, collected when asked for |
//!
//! Invariant: knows no wire format, no file, no async runtime.

mod labels;
mod logs;
mod metadata;
mod metrics;
mod native_histogram;
mod otlp;
mod samples;
mod target;
mod work;

pub use labels::{LabelName, Labels, LabelsRef};
pub use logs::{LogBatch, LogEntry, LogStream, Origin, TENANT_LABEL};
pub use metadata::{Metadata, MetricType};
pub use metrics::{Collect, Histogram, Page};
pub use native_histogram::{CUSTOM_BUCKETS_SCHEMA, HistogramCounts, NativeHistogram, ResetHint, Span};
pub use otlp::{Dropped, OtlpBatch, Signal};
pub use samples::{Exemplar, Extras, STALE_NAN, Sample, SampleBatch};
pub use target::Target;
pub use work::{Work, WorkDone, note_work, random, take_work};
