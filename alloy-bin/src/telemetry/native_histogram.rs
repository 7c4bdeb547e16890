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

const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;

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
    /// The finest schema whose buckets end at `factor` times where they begin, or farther, as Prometheus picks it.
    pub fn schema_of(factor: f64) -> i32 {
        if factor <= 1.0 {
            return SCHEMA_MAX;
        }
        (-factor.log2().log2()).floor().clamp(f64::from(SCHEMA_MIN), f64::from(SCHEMA_MAX)) as i32
    }

    /// Merges neighbouring buckets until there are at most `buckets` and the schema is at most `schema`. False: there are more
    /// even in the coarsest schema, or its bounds are listed.
    #[must_use]
    pub fn coarsen(&mut self, schema: i32, buckets: usize) -> bool {
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            return self.buckets() <= buckets;
        }
        self.merge(schema.max(SCHEMA_MIN));
        while self.buckets() > buckets && self.schema > SCHEMA_MIN {
            self.merge(self.schema - 1);
        }
        self.buckets() <= buckets
    }

    fn buckets(&self) -> usize {
        match &self.counts {
            HistogramCounts::Integer { positive, negative, .. } => positive.len() + negative.len(),
            HistogramCounts::Float { positive, negative, .. } => positive.len() + negative.len(),
        }
    }

    fn merge(&mut self, schema: i32) {
        if schema >= self.schema {
            return;
        }
        let halvings = (self.schema - schema) as u32;
        self.schema = schema;
        match &mut self.counts {
            HistogramCounts::Integer { positive, negative, .. } => {
                for (spans, differences) in
                    [(&mut self.positive_spans, positive), (&mut self.negative_spans, negative)]
                {
                    let mut count = 0i64;
                    differences.iter_mut().for_each(|difference| {
                        count = count.saturating_add(*difference);
                        *difference = count;
                    });
                    merge(spans, differences, halvings, i64::saturating_add);
                    let mut before = 0;
                    differences
                        .iter_mut()
                        .for_each(|count| before = std::mem::replace(count, *count - before));
                }
            }
            HistogramCounts::Float { positive, negative, .. } => {
                merge(&mut self.positive_spans, positive, halvings, |a, b| a + b);
                merge(&mut self.negative_spans, negative, halvings, |a, b| a + b);
            }
        }
    }

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

/// Merges `2^halvings` buckets into one. Bucket `i` ends where its base's power of `i` is, so 1 to 2 become 1, 3 and 4 become 2.
fn merge<T: Copy>(spans: &mut Vec<Span>, counts: &mut Vec<T>, halvings: u32, add: impl Fn(T, T) -> T) {
    let mut next = 0i64;
    let indices = spans.iter().flat_map(|span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    });
    let (mut merged_spans, mut merged): (Vec<Span>, Vec<T>) = (Vec::new(), Vec::new());
    // Behind the last bucket, as offsets count.
    let mut behind = 0i64;
    for (index, count) in indices.zip(counts.iter()) {
        let index = ((index - 1) >> halvings) + 1;
        match (merged.last_mut(), merged_spans.last_mut()) {
            (Some(last), _) if index < behind => {
                *last = add(*last, *count);
                continue;
            }
            (_, Some(span)) if index == behind => span.length += 1,
            _ => {
                let offset = (index - behind).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
                merged_spans.push(Span { offset, length: 1 });
            }
        }
        merged.push(*count);
        behind = index + 1;
    }
    (*spans, *counts) = (merged_spans, merged);
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

    fn histogram(schema: i32, spans: &[(i32, u32)], positive: &[i64], negative: &[i64]) -> NativeHistogram {
        let spans: Vec<Span> =
            spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect();
        let length = negative.len() as u32;
        NativeHistogram {
            schema,
            sum: 1.0,
            zero_threshold: 0.0,
            positive_spans: spans,
            negative_spans: vec![Span { offset: 0, length }],
            counts: HistogramCounts::Integer {
                count: 0,
                zero_count: 0,
                positive: positive.into(),
                negative: negative.into(),
            },
            reset_hint: ResetHint::Unknown,
            custom_values: Vec::new(),
        }
    }

    /// Each bucket's upper bound and count, negative ones with a minus: what a histogram means, whatever its spans are.
    fn bounds(histogram: &NativeHistogram) -> Vec<(f64, i64)> {
        let HistogramCounts::Integer { positive, negative, .. } = &histogram.counts else {
            panic!("whole counts")
        };
        let mut bounds = Vec::new();
        for (sign, spans, differences) in
            [(1.0, &histogram.positive_spans, positive), (-1.0, &histogram.negative_spans, negative)]
        {
            let (mut index, mut count, mut differences) = (0, 0, differences.iter());
            for span in spans {
                index += span.offset;
                for _ in 0..span.length {
                    count += differences.next().expect("as many as the spans say");
                    bounds.push((sign * 2f64.powf(f64::from(index) * 2f64.powi(-histogram.schema)), count));
                    index += 1;
                }
            }
        }
        bounds
    }

    #[test]
    fn buckets_are_merged_into_those_that_hold_them() {
        // Counts 1, 2 | 5 | 4 end at 2^-1, 2^0, 2^2 and 2^3; the negative 7, 8 at -2^0 and -2^1.
        let mut coarse = histogram(0, &[(-1, 2), (1, 1), (0, 1)], &[1, 1, 3, -1], &[7, 1]);
        assert_eq!(bounds(&coarse), [(0.5, 1), (1.0, 2), (4.0, 5), (8.0, 4), (-1.0, 7), (-2.0, 8)]);
        assert!(coarse.coarsen(-1, usize::MAX));
        assert_eq!(bounds(&coarse), [(1.0, 3), (4.0, 5), (16.0, 4), (-1.0, 7), (-4.0, 8)]);
        assert_eq!((coarse.fault(), coarse.schema), (None, -1));
        assert!(coarse.coarsen(8, 4), "a limit of buckets alone");
        assert_eq!(bounds(&coarse), [(1.0, 3), (16.0, 9), (-1.0, 7), (-16.0, 8)]);
        assert_eq!(coarse.fault(), None);
        assert!(!coarse.coarsen(8, 1), "no schema has so few");
        assert_eq!(coarse.schema, SCHEMA_MIN);

        let mut fine = histogram(3, &[(0, 2)], &[1, 1], &[]);
        let same = fine.clone();
        assert!(fine.coarsen(8, 2) && fine == same, "nothing to do");
        let mut listed = NativeHistogram { schema: CUSTOM_BUCKETS_SCHEMA, ..same };
        assert!(listed.coarsen(0, 2) && !listed.coarsen(0, 1));
    }

    #[test]
    fn fractions_are_merged_too_and_far_indices_stay_where_they_are() {
        let counts = HistogramCounts::Float {
            count: 4.0,
            zero_count: 0.5,
            positive: vec![1.5, 2.5],
            negative: vec![],
        };
        let mut far = NativeHistogram { counts, ..histogram(8, &[(i32::MAX - 1, 2)], &[], &[]) };
        assert!(far.coarsen(7, 1), "not at 7 yet, where one ends at an odd power");
        let HistogramCounts::Float { positive, .. } = &far.counts else { panic!("still fractions") };
        assert_eq!((positive.as_slice(), far.positive_spans[0].offset), ([4.0].as_slice(), 1 << 29));
    }

    #[test]
    fn a_schema_follows_from_a_factor() {
        for (factor, schema) in [
            (0.0, 8),
            (1.0, 8),
            (1.002, 8),
            (1.003, 7),
            (1.1, 2),
            (1.5, 0),
            (2.0, 0),
            (2.1, -1),
            (4.0, -1),
            (65536.0, -4),
            (1e300, -4),
        ] {
            assert_eq!(NativeHistogram::schema_of(factor), schema, "{factor}");
        }
    }
}
