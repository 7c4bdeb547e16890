//! The messages of OTLP as tables: what the check of the wire format, the reader of JSON and the printer go by.
//!
//! Source: `opentelemetry/proto/{collector,common,resource,metrics,logs,trace}` of
//! <https://github.com/open-telemetry/opentelemetry-proto>, 1.9. A field that is not here is skipped, as protobuf has it.

use crate::telemetry::Signal;

/// A message.
pub(super) struct Message {
    pub(super) name: &'static str,
    /// What is counted: a data point, a log record or a span.
    pub(super) is_item: bool,
    pub(super) fields: &'static [Field],
}

/// A field of a message.
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_repeated: bool,
}

/// The type of a field.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bool,
    /// `int32`, `int64`.
    Int,
    /// `uint32`, `uint64`.
    Uint,
    /// `sint32`.
    Sint,
    /// The prefix of the values' names, and the names from 0 on.
    Enum(&'static str, &'static [&'static str]),
    /// `fixed32`.
    Fixed32,
    /// `fixed64`.
    Fixed64,
    /// `sfixed64`.
    Sfixed64,
    Double,
    Text,
    /// Base64 in JSON.
    Bytes,
    /// Hexadecimal in JSON.
    Id,
    Message(&'static Message),
}

impl Message {
    /// The field of that number; `near` is where the one before was found, and fields mostly follow in order.
    pub(super) fn field(&self, number: u64, near: &mut usize) -> Option<&'static Field> {
        let count = self.fields.len();
        for step in 0..count {
            let index = (*near + step) % count;
            if u64::from(self.fields[index].number) == number {
                *near = index;
                return Some(&self.fields[index]);
            }
        }
        None
    }

    /// The field of that name, in lowerCamelCase as the specification wants it, or in snake_case as it is defined.
    pub(super) fn named(&self, name: &str) -> Option<&'static Field> {
        let is = |field: &&Field| {
            let mut is_high = false;
            let camel = field.name.chars().filter_map(|character| {
                let high = std::mem::replace(&mut is_high, character == '_');
                (character != '_').then(|| if high { character.to_ascii_uppercase() } else { character })
            });
            field.name == name || camel.eq(name.chars())
        };
        self.fields.iter().find(is)
    }
}

/// The message that a request of the signal is.
pub(super) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Metrics => &METRICS_REQUEST,
        Signal::Logs => &LOGS_REQUEST,
        Signal::Traces => &TRACES_REQUEST,
    }
}

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, is_repeated: false }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, is_repeated: true }
}

macro_rules! messages {
    ($($id:ident $name:literal $is_item:literal { $($field:expr),* $(,)? })*) => {
        $(static $id: Message = Message { name: $name, is_item: $is_item, fields: &[$($field),*] };)*
    };
}

use Kind::{Bool, Bytes, Double, Enum, Fixed32, Fixed64, Id, Int, Message as Of, Sfixed64, Sint, Text, Uint};

const TEMPORALITY: Kind = Enum("AGGREGATION_TEMPORALITY_", &["UNSPECIFIED", "DELTA", "CUMULATIVE"]);
/// The names of severities, by their numbers.
pub(super) const SEVERITIES: &[&str] = &[
    "UNSPECIFIED",
    "TRACE",
    "TRACE2",
    "TRACE3",
    "TRACE4",
    "DEBUG",
    "DEBUG2",
    "DEBUG3",
    "DEBUG4",
    "INFO",
    "INFO2",
    "INFO3",
    "INFO4",
    "WARN",
    "WARN2",
    "WARN3",
    "WARN4",
    "ERROR",
    "ERROR2",
    "ERROR3",
    "ERROR4",
    "FATAL",
    "FATAL2",
    "FATAL3",
    "FATAL4",
];
const SEVERITY: Kind = Enum("SEVERITY_NUMBER_", SEVERITIES);
const SPAN_KIND: Kind =
    Enum("SPAN_KIND_", &["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]);
const STATUS_CODE: Kind = Enum("STATUS_CODE_", &["UNSET", "OK", "ERROR"]);

messages! {
    METRICS_REQUEST "ExportMetricsServiceRequest" false {
        many(1, "resource_metrics", Of(&RESOURCE_METRICS)),
    }
    LOGS_REQUEST "ExportLogsServiceRequest" false {
        many(1, "resource_logs", Of(&RESOURCE_LOGS)),
    }
    TRACES_REQUEST "ExportTraceServiceRequest" false {
        many(1, "resource_spans", Of(&RESOURCE_SPANS)),
    }
    RESOURCE_METRICS "ResourceMetrics" false {
        one(1, "resource", Of(&RESOURCE)),
        many(2, "scope_metrics", Of(&SCOPE_METRICS)),
        one(3, "schema_url", Text),
    }
    RESOURCE_LOGS "ResourceLogs" false {
        one(1, "resource", Of(&RESOURCE)),
        many(2, "scope_logs", Of(&SCOPE_LOGS)),
        one(3, "schema_url", Text),
    }
    RESOURCE_SPANS "ResourceSpans" false {
        one(1, "resource", Of(&RESOURCE)),
        many(2, "scope_spans", Of(&SCOPE_SPANS)),
        one(3, "schema_url", Text),
    }
    RESOURCE "Resource" false {
        many(1, "attributes", Of(&KEY_VALUE)),
        one(2, "dropped_attributes_count", Uint),
        many(3, "entity_refs", Of(&ENTITY_REF)),
    }
    ENTITY_REF "EntityRef" false {
        one(1, "schema_url", Text),
        one(2, "type", Text),
        many(3, "id_keys", Text),
        many(4, "description_keys", Text),
    }
    SCOPE "InstrumentationScope" false {
        one(1, "name", Text),
        one(2, "version", Text),
        many(3, "attributes", Of(&KEY_VALUE)),
        one(4, "dropped_attributes_count", Uint),
    }
    KEY_VALUE "KeyValue" false {
        one(1, "key", Text),
        one(2, "value", Of(&ANY_VALUE)),
    }
    ANY_VALUE "AnyValue" false {
        one(1, "string_value", Text),
        one(2, "bool_value", Bool),
        one(3, "int_value", Int),
        one(4, "double_value", Double),
        one(5, "array_value", Of(&ARRAY_VALUE)),
        one(6, "kvlist_value", Of(&KEY_VALUE_LIST)),
        one(7, "bytes_value", Bytes),
    }
    ARRAY_VALUE "ArrayValue" false {
        many(1, "values", Of(&ANY_VALUE)),
    }
    KEY_VALUE_LIST "KeyValueList" false {
        many(1, "values", Of(&KEY_VALUE)),
    }
    SCOPE_METRICS "ScopeMetrics" false {
        one(1, "scope", Of(&SCOPE)),
        many(2, "metrics", Of(&METRIC)),
        one(3, "schema_url", Text),
    }
    METRIC "Metric" false {
        one(1, "name", Text),
        one(2, "description", Text),
        one(3, "unit", Text),
        one(5, "gauge", Of(&GAUGE)),
        one(7, "sum", Of(&SUM)),
        one(9, "histogram", Of(&HISTOGRAM)),
        one(10, "exponential_histogram", Of(&EXPONENTIAL_HISTOGRAM)),
        one(11, "summary", Of(&SUMMARY)),
        many(12, "metadata", Of(&KEY_VALUE)),
    }
    GAUGE "Gauge" false {
        many(1, "data_points", Of(&NUMBER_POINT)),
    }
    SUM "Sum" false {
        many(1, "data_points", Of(&NUMBER_POINT)),
        one(2, "aggregation_temporality", TEMPORALITY),
        one(3, "is_monotonic", Bool),
    }
    HISTOGRAM "Histogram" false {
        many(1, "data_points", Of(&HISTOGRAM_POINT)),
        one(2, "aggregation_temporality", TEMPORALITY),
    }
    EXPONENTIAL_HISTOGRAM "ExponentialHistogram" false {
        many(1, "data_points", Of(&EXPONENTIAL_POINT)),
        one(2, "aggregation_temporality", TEMPORALITY),
    }
    SUMMARY "Summary" false {
        many(1, "data_points", Of(&SUMMARY_POINT)),
    }
    NUMBER_POINT "NumberDataPoint" true {
        one(2, "start_time_unix_nano", Fixed64),
        one(3, "time_unix_nano", Fixed64),
        one(4, "as_double", Double),
        one(6, "as_int", Sfixed64),
        many(7, "attributes", Of(&KEY_VALUE)),
        many(5, "exemplars", Of(&EXEMPLAR)),
        one(8, "flags", Uint),
    }
    HISTOGRAM_POINT "HistogramDataPoint" true {
        one(2, "start_time_unix_nano", Fixed64),
        one(3, "time_unix_nano", Fixed64),
        one(4, "count", Fixed64),
        one(5, "sum", Double),
        many(6, "bucket_counts", Fixed64),
        many(7, "explicit_bounds", Double),
        many(8, "exemplars", Of(&EXEMPLAR)),
        many(9, "attributes", Of(&KEY_VALUE)),
        one(10, "flags", Uint),
        one(11, "min", Double),
        one(12, "max", Double),
    }
    EXPONENTIAL_POINT "ExponentialHistogramDataPoint" true {
        many(1, "attributes", Of(&KEY_VALUE)),
        one(2, "start_time_unix_nano", Fixed64),
        one(3, "time_unix_nano", Fixed64),
        one(4, "count", Fixed64),
        one(5, "sum", Double),
        one(6, "scale", Sint),
        one(7, "zero_count", Fixed64),
        one(8, "positive", Of(&BUCKETS)),
        one(9, "negative", Of(&BUCKETS)),
        one(10, "flags", Uint),
        many(11, "exemplars", Of(&EXEMPLAR)),
        one(12, "min", Double),
        one(13, "max", Double),
        one(14, "zero_threshold", Double),
    }
    BUCKETS "Buckets" false {
        one(1, "offset", Sint),
        many(2, "bucket_counts", Uint),
    }
    SUMMARY_POINT "SummaryDataPoint" true {
        one(2, "start_time_unix_nano", Fixed64),
        one(3, "time_unix_nano", Fixed64),
        one(4, "count", Fixed64),
        one(5, "sum", Double),
        many(6, "quantile_values", Of(&QUANTILE)),
        many(7, "attributes", Of(&KEY_VALUE)),
        one(8, "flags", Uint),
    }
    QUANTILE "ValueAtQuantile" false {
        one(1, "quantile", Double),
        one(2, "value", Double),
    }
    EXEMPLAR "Exemplar" false {
        one(2, "time_unix_nano", Fixed64),
        one(3, "as_double", Double),
        one(4, "span_id", Id),
        one(5, "trace_id", Id),
        one(6, "as_int", Sfixed64),
        many(7, "filtered_attributes", Of(&KEY_VALUE)),
    }
    SCOPE_LOGS "ScopeLogs" false {
        one(1, "scope", Of(&SCOPE)),
        many(2, "log_records", Of(&LOG_RECORD)),
        one(3, "schema_url", Text),
    }
    LOG_RECORD "LogRecord" true {
        one(1, "time_unix_nano", Fixed64),
        one(2, "severity_number", SEVERITY),
        one(3, "severity_text", Text),
        one(5, "body", Of(&ANY_VALUE)),
        many(6, "attributes", Of(&KEY_VALUE)),
        one(7, "dropped_attributes_count", Uint),
        one(8, "flags", Fixed32),
        one(9, "trace_id", Id),
        one(10, "span_id", Id),
        one(11, "observed_time_unix_nano", Fixed64),
        one(12, "event_name", Text),
    }
    SCOPE_SPANS "ScopeSpans" false {
        one(1, "scope", Of(&SCOPE)),
        many(2, "spans", Of(&SPAN)),
        one(3, "schema_url", Text),
    }
    SPAN "Span" true {
        one(1, "trace_id", Id),
        one(2, "span_id", Id),
        one(3, "trace_state", Text),
        one(4, "parent_span_id", Id),
        one(5, "name", Text),
        one(6, "kind", SPAN_KIND),
        one(7, "start_time_unix_nano", Fixed64),
        one(8, "end_time_unix_nano", Fixed64),
        many(9, "attributes", Of(&KEY_VALUE)),
        one(10, "dropped_attributes_count", Uint),
        many(11, "events", Of(&EVENT)),
        one(12, "dropped_events_count", Uint),
        many(13, "links", Of(&LINK)),
        one(14, "dropped_links_count", Uint),
        one(15, "status", Of(&STATUS)),
        one(16, "flags", Fixed32),
    }
    EVENT "Event" false {
        one(1, "time_unix_nano", Fixed64),
        one(2, "name", Text),
        many(3, "attributes", Of(&KEY_VALUE)),
        one(4, "dropped_attributes_count", Uint),
    }
    LINK "Link" false {
        one(1, "trace_id", Id),
        one(2, "span_id", Id),
        one(3, "trace_state", Text),
        many(4, "attributes", Of(&KEY_VALUE)),
        one(5, "dropped_attributes_count", Uint),
        one(6, "flags", Fixed32),
    }
    STATUS "Status" false {
        one(2, "message", Text),
        one(3, "code", STATUS_CODE),
    }
}
