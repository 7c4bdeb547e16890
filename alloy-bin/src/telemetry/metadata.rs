//! What is said of a family of metrics, beside its samples.

/// Type, help and unit of a family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The family's name: of `a_bucket`, `a_sum` and `a_count` it is `a`.
    pub family: String,
    /// What it measures, for people.
    pub help: String,
    /// The unit of its values.
    pub unit: String,
    /// What kind of samples it has.
    pub metric_type: MetricType,
}

/// What kind of samples a family has, by the number that remote write gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetricType {
    /// Not said.
    #[default]
    Unknown = 0,
    /// Only grows, or begins anew.
    Counter = 1,
    /// Any value.
    Gauge = 2,
    /// Counts in buckets.
    Histogram = 3,
    /// Counts in buckets that may fall.
    GaugeHistogram = 4,
    /// Quantiles.
    Summary = 5,
    /// Labels that say something; its value is 1.
    Info = 6,
    /// One of several states.
    StateSet = 7,
}
