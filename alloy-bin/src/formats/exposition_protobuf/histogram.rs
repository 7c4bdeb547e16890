//! Histograms of the protobuf exposition, classic and native in one message.

use super::super::wire::{Fault, Field, Fields, unzigzag};
use super::exemplar;
use crate::telemetry::{Extras, HistogramCounts, NativeHistogram, ResetHint, Span};

/// What is needed of a histogram to know how to read it.
#[derive(Default)]
pub(super) struct Histogram {
    count: u64,
    count_float: f64,
    pub(super) sum: f64,
    /// How many buckets its classic form has.
    pub(super) buckets: usize,
    pub(super) is_native: bool,
    is_gauge: bool,
}

/// One bucket of the classic form.
pub(super) struct Bucket<'b> {
    pub(super) upper_bound: f64,
    /// Of all buckets up to this one.
    pub(super) count: f64,
    pub(super) exemplar: Option<&'b [u8]>,
}

impl Histogram {
    pub(super) fn read(message: &[u8], is_gauge: bool) -> Result<Self, Fault<'_>> {
        let mut histogram = Histogram { is_gauge, ..Histogram::default() };
        for field in Fields::of(message) {
            match field? {
                (1, field) => histogram.count = field.integer()?,
                (2, field) => histogram.sum = field.double()?,
                (3, _) => histogram.buckets += 1,
                (4, field) => histogram.count_float = field.double()?,
                (6, field) => histogram.is_native |= field.double()? > 0.0,
                (7, field) => histogram.is_native |= field.integer()? > 0,
                (9 | 12, _) => histogram.is_native = true,
                _ => {}
            }
        }
        Ok(histogram)
    }

    /// Of all observations.
    pub(super) fn count(&self) -> f64 {
        if self.count_float > 0.0 { self.count_float } else { self.count as f64 }
    }

    pub(super) fn buckets<'b>(message: &'b [u8]) -> impl Iterator<Item = Result<Bucket<'b>, Fault<'b>>> {
        Fields::of(message).filter_map(|field| match field {
            Ok((3, field)) => Some(field.bytes().and_then(bucket)),
            Ok(_) => None,
            Err(fault) => Some(Err(fault)),
        })
    }

    /// The native form, with its exemplars. Those without a time are left out; if it has none of its own, those of the classic
    /// buckets are taken.
    pub(super) fn native_extras<'b>(&self, message: &'b [u8]) -> Result<Extras, Fault<'b>> {
        let (mut own, mut of_buckets) = (Vec::new(), Vec::new());
        for field in Fields::of(message) {
            match field? {
                (3, field) => of_buckets.extend(bucket(field.bytes()?)?.exemplar.map(exemplar).transpose()?),
                (16, field) => own.push(exemplar(field.bytes()?)?),
                _ => {}
            }
        }
        let mut exemplars = if own.is_empty() { of_buckets } else { own };
        exemplars.retain(|exemplar| exemplar.timestamp_ms.is_some());
        Ok(Extras { histogram: Some(self.native(message)?), exemplars })
    }

    fn native<'b>(&self, message: &'b [u8]) -> Result<NativeHistogram, Fault<'b>> {
        let (mut schema, mut zero_threshold, mut zero_count, mut zero_count_float) = (0, 0.0, 0, 0.0);
        let (mut positive_spans, mut negative_spans) = (Vec::new(), Vec::new());
        let (mut positive_deltas, mut negative_deltas) = (Vec::new(), Vec::new());
        let (mut positive_counts, mut negative_counts) = (Vec::new(), Vec::new());
        for field in Fields::of(message) {
            match field? {
                (5, field) => schema = small(unzigzag(field.integer()?), message)?,
                (6, field) => zero_threshold = field.double()?,
                (7, field) => zero_count = field.integer()?,
                (8, field) => zero_count_float = field.double()?,
                (9, field) => negative_spans.push(span(field)?),
                (10, field) => field.signed_integers(&mut negative_deltas)?,
                (11, field) => field.doubles(&mut negative_counts)?,
                (12, field) => positive_spans.push(span(field)?),
                (13, field) => field.signed_integers(&mut positive_deltas)?,
                (14, field) => field.doubles(&mut positive_counts)?,
                _ => {}
            }
        }
        let counts = if self.count_float > 0.0 || zero_count_float > 0.0 {
            let (count, zero_count) = (self.count_float, zero_count_float);
            HistogramCounts::Float { count, zero_count, positive: positive_counts, negative: negative_counts }
        } else {
            let (positive, negative) = (positive_deltas, negative_deltas);
            HistogramCounts::Integer { count: self.count, zero_count, positive, negative }
        };
        let histogram = NativeHistogram {
            schema,
            sum: self.sum,
            zero_threshold,
            positive_spans,
            negative_spans,
            counts,
            reset_hint: if self.is_gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            custom_values: Vec::new(),
        };
        match histogram.fault() {
            Some(_) => Err((message, "a native histogram whose schema, spans and counts fit")),
            None => Ok(histogram),
        }
    }
}

fn bucket(message: &[u8]) -> Result<Bucket<'_>, Fault<'_>> {
    let (mut upper_bound, mut count, mut count_float, mut exemplar) = (0.0, 0, 0.0, None);
    for field in Fields::of(message) {
        match field? {
            (1, field) => count = field.integer()?,
            (2, field) => upper_bound = field.double()?,
            (3, field) => exemplar = Some(field.bytes()?),
            (4, field) => count_float = field.double()?,
            _ => {}
        }
    }
    Ok(Bucket { upper_bound, count: if count_float > 0.0 { count_float } else { count as f64 }, exemplar })
}

fn span(field: Field<'_>) -> Result<Span, Fault<'_>> {
    let message = field.bytes()?;
    let mut span = Span { offset: 0, length: 0 };
    for field in Fields::of(message) {
        match field? {
            (1, field) => span.offset = small(unzigzag(field.integer()?), message)?,
            (2, field) => span.length = small(field.integer()?, message)?,
            _ => {}
        }
    }
    Ok(span)
}

fn small<'b, T: TryInto<S>, S>(value: T, message: &'b [u8]) -> Result<S, Fault<'b>> {
    value.try_into().map_err(|_| (message, "a number of at most 32 bits"))
}
