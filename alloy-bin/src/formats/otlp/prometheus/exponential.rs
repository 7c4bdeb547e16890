//! Exponential histograms: added up, and as native histograms.
//!
//! Bucket `i` of OTLP begins where the base's power of `i` is, bucket `i` of Prometheus ends there: the same bucket is one higher.

use crate::telemetry::{HistogramCounts, NativeHistogram, ResetHint, Span};

/// What Prometheus takes.
const SCALES: std::ops::RangeInclusive<i64> = -4..=8;
/// Buckets of a histogram that is added up; with more it becomes coarser. SDKs keep at most 160 on each side.
const BUCKETS_MAX: i64 = 640;
/// Empty buckets in a row that are not worth a span of their own.
const GAP_MAX: i64 = 2;
/// How close to zero counts as zero where nobody says it, as in Prometheus.
const ZERO_THRESHOLD: f64 = 1e-128;

/// The data point of an exponential histogram.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Exponential {
    pub(super) scale: i64,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    /// Positive and negative buckets.
    pub(super) buckets: [Buckets; 2],
}

/// Counts of neighbouring buckets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Buckets {
    /// The index of the first.
    pub(super) offset: i64,
    pub(super) counts: Vec<u64>,
}

impl Exponential {
    /// Both together; `None` where they can't be added: one of them has to be taken for itself.
    pub(super) fn plus(&self, other: &Exponential) -> Option<Exponential> {
        if self.zero_threshold.to_bits() != other.zero_threshold.to_bits() {
            return None;
        }
        let mut scale = self.scale.min(other.scale);
        let length = |scale: i64, side: usize| {
            let (one, other) = (self.side_at(side, scale), other.side_at(side, scale));
            if one.0 == one.1 || other.0 == other.1 {
                (one.1 - one.0).max(other.1 - other.0)
            } else {
                one.1.max(other.1) - one.0.min(other.0)
            }
        };
        while length(scale, 0).max(length(scale, 1)) > BUCKETS_MAX {
            scale -= 1;
            if scale < *SCALES.start() {
                return None;
            }
        }
        let side = |side: usize| {
            let mut buckets = self.buckets[side].coarser(self.scale - scale);
            buckets.add(&other.buckets[side].coarser(other.scale - scale));
            buckets
        };
        Some(Exponential {
            scale,
            count: self.count.saturating_add(other.count),
            sum: self.sum.zip(other.sum).map(|(one, other)| one + other),
            zero_count: self.zero_count.saturating_add(other.zero_count),
            zero_threshold: self.zero_threshold,
            buckets: [side(0), side(1)],
        })
    }

    /// From where to where the buckets of one side would reach in that scale.
    fn side_at(&self, side: usize, scale: i64) -> (i64, i64) {
        let (buckets, shift) = (&self.buckets[side], (self.scale - scale).clamp(0, 63));
        let end = buckets.offset + buckets.counts.len() as i64;
        if buckets.counts.is_empty() { (0, 0) } else { (buckets.offset >> shift, ((end - 1) >> shift) + 1) }
    }

    /// As Prometheus has it, or why it can't be said there.
    pub(super) fn native(&self) -> Result<NativeHistogram, &'static str> {
        if self.scale < *SCALES.start() {
            return Err("the scale of an exponential histogram is below -4");
        }
        let schema = self.scale.min(*SCALES.end());
        let [positive, negative] = [0, 1].map(|side| {
            let buckets = &self.buckets[side];
            buckets.coarser(self.scale - schema).spans()
        });
        let (positive, negative) = (positive?, negative?);
        let held: u128 =
            self.buckets.iter().flat_map(|side| &side.counts).map(|count| u128::from(*count)).sum();
        let (held, count) = (held + u128::from(self.zero_count), u128::from(self.count));
        // Observations that are no numbers are in no bucket, and make the sum none.
        if held > count || (held < count && !self.sum.is_some_and(f64::is_nan)) {
            return Err("the count of an exponential histogram is not that of its buckets");
        }
        let histogram = NativeHistogram {
            schema: schema as i32,
            sum: self.sum.unwrap_or_default(),
            zero_threshold: if self.zero_threshold > 0.0 { self.zero_threshold } else { ZERO_THRESHOLD },
            positive_spans: positive.0,
            negative_spans: negative.0,
            counts: HistogramCounts::Integer {
                count: self.count,
                zero_count: self.zero_count,
                positive: positive.1,
                negative: negative.1,
            },
            reset_hint: ResetHint::Unknown,
            custom_values: Vec::new(),
        };
        histogram.fault().map_or(Ok(histogram), Err)
    }
}

impl Buckets {
    /// With `2^halvings` buckets as one.
    fn coarser(&self, halvings: i64) -> Buckets {
        let halvings = halvings.min(63);
        let mut coarser = Buckets { offset: self.offset >> halvings, counts: Vec::new() };
        for (index, count) in (self.offset..).zip(&self.counts) {
            let place = ((index >> halvings) - coarser.offset) as usize;
            coarser.counts.resize(place + 1, 0);
            coarser.counts[place] = coarser.counts[place].saturating_add(*count);
        }
        coarser
    }

    fn add(&mut self, other: &Buckets) {
        if self.counts.is_empty() {
            self.offset = other.offset;
        }
        let in_front = (self.offset - other.offset).max(0) as usize;
        if !other.counts.is_empty() && in_front > 0 {
            self.counts.splice(0..0, std::iter::repeat_n(0, in_front));
            self.offset = other.offset;
        }
        let place = (other.offset - self.offset).max(0) as usize;
        let behind = (place + other.counts.len()).max(self.counts.len());
        self.counts.resize(if other.counts.is_empty() { self.counts.len() } else { behind }, 0);
        for (mine, theirs) in self.counts.iter_mut().skip(place).zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Where something is counted, and the differences from bucket to bucket.
    fn spans(&self) -> Result<(Vec<Span>, Vec<i64>), &'static str> {
        let far = "a bucket of an exponential histogram is too far out";
        let (mut spans, mut differences): (Vec<Span>, Vec<i64>) = (Vec::new(), Vec::new());
        let (mut behind, mut before) = (0, 0);
        for (index, count) in (self.offset + 1..).zip(&self.counts).filter(|(_, count)| **count > 0) {
            let gap = index - behind;
            match spans.last_mut() {
                Some(span) if gap <= GAP_MAX => {
                    for _ in 0..gap {
                        differences.push(-before);
                        before = 0;
                    }
                    span.length += gap as u32 + 1;
                }
                _ => spans.push(Span { offset: i32::try_from(gap).map_err(|_| far)?, length: 1 }),
            }
            let count = i64::try_from(*count).map_err(|_| "a bucket holds more than 63 bits can say")?;
            differences.push(count - before);
            (before, behind) = (count, index + 1);
        }
        Ok((spans, differences))
    }
}
