//! A native histogram: buckets whose bounds follow from a number, as remote write carries them.

/// One native histogram. Bucket `i` of schema `n` ends at `2^(i * 2^-n)`; only buckets that hold something are kept, in spans.
///
/// Shape and meaning: <https://prometheus.io/docs/specs/native_histograms/>.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeHistogram {
    /// -4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Of all observations.
    pub sum: f64,
    /// Observations this close to zero are in the bucket of zero.
    pub zero_threshold: f64,
    /// Where the positive buckets are.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets are, by their absolute value.
    pub negative_spans: Vec<Span>,
    /// What the buckets hold.
    pub counts: HistogramCounts,
    /// What is known of a reset of the counts.
    pub reset_hint: ResetHint,
    /// The upper bounds, with [`CUSTOM_BUCKETS_SCHEMA`]; else none.
    pub custom_values: Vec<f64>,
}

/// The schema of histograms whose bounds are listed.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// So many buckets without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Buckets left out since the span before; of the first span the index of its first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// Whole counts, each as the difference to the bucket before, or counts with fractions as they are.
#[derive(Debug, Clone, PartialEq)]
pub enum HistogramCounts {
    /// Observations were counted.
    Integer {
        /// All of them.
        count: u64,
        /// Those in the bucket of zero.
        zero_count: u64,
        /// Differences.
        positive: Vec<i64>,
        /// Differences.
        negative: Vec<i64>,
    },
    /// The histogram is the result of a calculation.
    Float {
        /// All observations.
        count: f64,
        /// Those in the bucket of zero.
        zero_count: f64,
        /// Absolute counts.
        positive: Vec<f64>,
        /// Absolute counts.
        negative: Vec<f64>,
    },
}

/// What the source knows of a reset, by the number that remote write gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    /// Compare with the histogram before.
    #[default]
    Unknown = 0,
    /// Counted anew since the histogram before.
    Yes = 1,
    /// Counted on since the histogram before.
    No = 2,
    /// The counts may fall at any time.
    Gauge = 3,
}

impl NativeHistogram {
    /// What is wrong with it, if anything: a receiver would refuse it, and the request around it.
    pub fn fault(&self) -> Option<&'static str> {
        let (positive, negative, sound) = match &self.counts {
            HistogramCounts::Integer { positive, negative, .. } => {
                (positive.len(), negative.len(), never_negative(positive) && never_negative(negative))
            }
            HistogramCounts::Float { count, zero_count, positive, negative } => {
                let all = [count, zero_count].into_iter().chain(positive).chain(negative);
                (positive.len(), negative.len(), all.into_iter().all(|count| *count >= 0.0))
            }
        };
        let is_custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        if !is_custom && !(-4..=8).contains(&self.schema) {
            Some("its schema is not one from -4 to 8")
        } else if !fit(&self.positive_spans, positive) || !fit(&self.negative_spans, negative) {
            Some("its spans and its buckets do not fit")
        } else if !sound {
            Some("a bucket has a negative count")
        } else {
            None
        }
    }
}

fn never_negative(differences: &[i64]) -> bool {
    let mut count = 0i64;
    differences.iter().all(|difference| {
        count = count.saturating_add(*difference);
        count >= 0
    })
}

/// As many buckets as the spans say, and no span that goes back.
fn fit(spans: &[Span], buckets: usize) -> bool {
    let length: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    length == buckets as u64 && spans.iter().skip(1).all(|span| span.offset >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_that_a_receiver_would_refuse_is_told() {
        let check = |schema, spans: &[(i32, u32)], positive: &[i64], expected: Option<&str>| {
            let histogram = NativeHistogram {
                schema,
                sum: 0.0,
                zero_threshold: 0.0,
                positive_spans: spans
                    .iter()
                    .map(|(offset, length)| Span { offset: *offset, length: *length })
                    .collect(),
                negative_spans: Vec::new(),
                counts: HistogramCounts::Integer {
                    count: 0,
                    zero_count: 0,
                    positive: positive.into(),
                    negative: Vec::new(),
                },
                reset_hint: ResetHint::Unknown,
                custom_values: Vec::new(),
            };
            assert_eq!(histogram.fault(), expected, "{histogram:?}");
        };
        check(3, &[(-5, 2), (3, 1)], &[4, -4, 1], None);
        check(8, &[(0, 0)], &[], None);
        check(9, &[], &[], Some("its schema is not one from -4 to 8"));
        check(0, &[(0, u32::MAX), (0, u32::MAX)], &[1], Some("its spans and its buckets do not fit"));
        check(0, &[(0, 1), (-1, 1)], &[1, 1], Some("its spans and its buckets do not fit"));
        check(0, &[(0, 2)], &[1, -2], Some("a bucket has a negative count"));
        check(0, &[(0, 2)], &[i64::MAX, i64::MAX], None);
    }
}
