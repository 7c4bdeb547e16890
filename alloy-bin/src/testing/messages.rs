//! What endpoints receive, as messages that decode themselves.
//!
//! Field numbers: `prompb/remote.proto` and `prompb/types.proto` of Prometheus, `logproto` `push.proto` of Loki. Written apart
//! from the encoders, so that a test compares two readings of the specification.

/// Prometheus `prometheus.WriteRequest`, remote-write 1.0.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteRequest {
    /// The series, each with its samples.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    /// What is said of families.
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<MetricMetadata>,
}

/// Prometheus `io.prometheus.write.v2.Request`, remote-write 2.0.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteRequest2 {
    /// All texts, the empty one first.
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    /// The series, each with its samples.
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<TimeSeries2>,
}

/// Prometheus `io.prometheus.write.v2.TimeSeries`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries2 {
    /// Name, value, name, value: places in the table of symbols.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// Sorted by time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Instead of samples.
    #[prost(message, repeated, tag = "3")]
    pub histograms: Vec<Histogram>,
    /// Single observations behind them.
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<Exemplar2>,
    /// Of its family.
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata2>,
    /// Milliseconds since the Unix epoch; 0 is unknown.
    #[prost(int64, tag = "6")]
    pub created_timestamp: i64,
}

/// Prometheus `io.prometheus.write.v2.Exemplar`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exemplar2 {
    /// What leads to the observation.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// What was observed.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// Prometheus `io.prometheus.write.v2.Metadata`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata2 {
    /// What kind of samples.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// What it measures.
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
    /// Of its values.
    #[prost(uint32, tag = "4")]
    pub unit_ref: u32,
}

impl WriteRequest2 {
    /// The same with texts instead of references, as 1.0 has it; what is said of families is left out. `Err` names a rule that the
    /// request breaks.
    pub fn resolved(&self) -> Result<WriteRequest, String> {
        if self.symbols.first().is_none_or(|first| !first.is_empty()) {
            return Err("the first symbol is not the empty text".to_owned());
        }
        let text = |reference: &u32| {
            let text = self.symbols.get(*reference as usize);
            text.cloned().ok_or_else(|| format!("there is no symbol {reference}"))
        };
        let labels = |references: &[u32]| -> Result<Vec<Label>, String> {
            let pairs = references.chunks(2).map(|pair| match pair {
                [name, value] => Ok(Label { name: text(name)?, value: text(value)? }),
                _ => Err("a label has no value".to_owned()),
            });
            pairs.collect()
        };
        let series = self.timeseries.iter().map(|series| {
            if let Some(metadata) = &series.metadata {
                text(&metadata.help_ref)?;
                text(&metadata.unit_ref)?;
            }
            let exemplars = series.exemplars.iter().map(|exemplar| {
                let Exemplar2 { labels_refs, value, timestamp } = exemplar;
                Ok(Exemplar { labels: labels(labels_refs)?, value: *value, timestamp: *timestamp })
            });
            Ok(TimeSeries {
                labels: labels(&series.labels_refs)?,
                samples: series.samples.clone(),
                exemplars: exemplars.collect::<Result<_, String>>()?,
                histograms: series.histograms.clone(),
            })
        });
        Ok(WriteRequest { timeseries: series.collect::<Result<_, String>>()?, metadata: Vec::new() })
    }
}

/// Prometheus `prometheus.TimeSeries`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Sorted by time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Single observations behind them.
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<Exemplar>,
    /// Instead of samples.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

/// Prometheus `prometheus.Exemplar`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exemplar {
    /// What leads to the observation.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// What was observed.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// Prometheus `prometheus.Histogram`; of each oneof both members, which is the same on the wire.
#[derive(Clone, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    pub zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    pub zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

/// Prometheus `prometheus.BucketSpan`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BucketSpan {
    /// Buckets left out before it.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Buckets in it.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// Prometheus `prometheus.MetricMetadata`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MetricMetadata {
    /// What kind of samples.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// The family.
    #[prost(string, tag = "2")]
    pub metric_family_name: String,
    /// What it measures.
    #[prost(string, tag = "4")]
    pub help: String,
    /// Of its values.
    #[prost(string, tag = "5")]
    pub unit: String,
}

/// Prometheus `prometheus.Label`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Label {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Prometheus `prometheus.Sample`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// Its value; the bits matter.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// Loki `logproto.PushRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PushRequest {
    /// The streams, each with its lines.
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<StreamAdapter>,
}

/// Loki `logproto.StreamAdapter`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamAdapter {
    /// As in a query: `{a="b", c="d"}`.
    #[prost(string, tag = "1")]
    pub labels: String,
    /// Sorted by time.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<EntryAdapter>,
    /// Of the labels; the server computes it.
    #[prost(uint64, tag = "3")]
    pub hash: u64,
}

/// Loki `logproto.EntryAdapter`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntryAdapter {
    /// When.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    /// The line.
    #[prost(string, tag = "2")]
    pub line: String,
    /// What is said of this line alone.
    #[prost(message, repeated, tag = "3")]
    pub structured_metadata: Vec<LabelPairAdapter>,
}

/// Loki `logproto.LabelPairAdapter`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LabelPairAdapter {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Timestamp {
    /// Seconds since the Unix epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Counted forward from the second: 0 to 999 999 999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
