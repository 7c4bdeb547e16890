//! OTLP metrics -> samples as Prometheus has them, one resource at a time.
//!
//! | file | what |
//! | --- | --- |
//! | `prometheus/series.rs` | a resource's, a scope's and a point's attributes -> labels of its series |
//! | `prometheus/names.rs` | names of metrics, labels and units |
//! | `prometheus/exponential.rs` | exponential histograms -> native histograms |
//! | `prometheus/deltas.rs` | deltas -> totals |
//!
//! Source: "Prometheus and OpenMetrics Compatibility", sections of OTLP metric points to Prometheus, of the OpenTelemetry specification.

mod deltas;
mod exponential;
mod names;
mod series;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use self::deltas::{Explicit, Total};
use self::exponential::{Buckets, Exponential};
use self::names::{Kind, metric_name, unit_name};
use self::series::{Base, Label, labels};
use super::value::{all, attributes, fields, hex, last, text};
use crate::formats::wire::{Field, packed_varints, unzigzag};
use crate::telemetry::{
    Exemplar, Extras, Labels, Metadata, MetricType, NativeHistogram, STALE_NAN, SampleBatch,
};

pub use self::deltas::{Additions, Deltas};
pub(super) use self::names::label_name;
pub use self::series::Resource;

/// What is made beside the samples themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrometheusOptions {
    /// `target_info` with the resource's attributes.
    pub target_info: bool,
    /// `otel_scope_info` with the scope's.
    pub scope_info: bool,
    /// Labels that name the scope.
    pub scope_labels: bool,
    /// Units and `_total` in names.
    pub suffixes: bool,
    /// The resource's attributes as labels of every series.
    pub resource_labels: bool,
    /// `target_info` also has what `job` and `instance` were made of.
    pub keep_identifying: bool,
}

/// What a resource's metrics have become.
#[derive(Debug, Default)]
pub struct Translated {
    /// In the lane of the resource.
    pub samples: SampleBatch,
    /// To be committed when the samples are in custody.
    pub additions: Additions,
    /// Points that can't be said in Prometheus.
    pub dropped: u64,
    /// Why not the first of them.
    pub reason: &'static str,
}

/// Labels and names of what is made of one resource: a point with many buckets and large attributes must not become any size.
const BYTES_MAX: usize = 128 << 20;
/// An exemplar's labels, names and values together, as OpenMetrics limits them.
const EXEMPLAR_CHARACTERS_MAX: usize = 128;
const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;
/// The flag that says that there is no value, and there will be none.
const NO_RECORDED_VALUE: u64 = 1;

impl Resource<'_> {
    /// Translates all that it has; `deltas` is what was added up before.
    pub fn translate(&self, options: PrometheusOptions, deltas: &Deltas, now: Instant) -> Translated {
        let samples = SampleBatch::new(self.lane);
        let out = Translated { samples, ..Translated::default() };
        let mut translation = Translation { deltas, now, out, bytes: 0, latest_ms: 0 };
        let mut latest_ms = 0;
        for scope_metrics in all(self.metrics, 2) {
            let scope = last(scope_metrics, 1);
            let base = self.base(options, scope, last(scope_metrics, 3));
            translation.latest_ms = 0;
            for metric in all(scope_metrics, 2) {
                translation.metric(metric, &base, options.suffixes);
            }
            if options.scope_info && translation.latest_ms > 0 {
                let base = self.scope_identity(scope);
                let labels = labels(&base, attributes(scope, 3));
                translation.info("otel_scope_info", "Instrumentation scope metadata", &labels);
            }
            latest_ms = latest_ms.max(translation.latest_ms);
        }
        let says_more = self.described().next().is_some();
        if options.target_info && latest_ms > 0 && !self.identity.is_empty() && says_more {
            translation.latest_ms = latest_ms;
            let all = attributes(self.attributes, 1);
            let labels = match options.keep_identifying {
                true => labels(&self.identity, all),
                false => labels(&self.identity, self.described()),
            };
            translation.info("target_info", "Target metadata", &labels);
        }
        translation.out
    }
}

struct Translation<'a> {
    deltas: &'a Deltas,
    now: Instant,
    out: Translated,
    bytes: usize,
    /// Of the points of the scope.
    latest_ms: i64,
}

/// What all points of a metric have in common.
struct Metric<'m> {
    /// The number of its field, which says its type.
    data: u64,
    family: &'m str,
    kind: Kind,
    is_delta: bool,
}

/// What all kinds of points have.
struct Point<'p> {
    bytes: &'p [u8],
    labels: &'p [Label<'p>],
    time_ns: u64,
    is_stale: bool,
    exemplars: Vec<Exemplar>,
}

impl Translation<'_> {
    fn metric(&mut self, metric: &[u8], base: &Base, suffixes: bool) {
        let [name, help, unit] = [1, 2, 3].map(|number| text(last(metric, number)));
        let Some((data, points)) = fields(metric)
            .filter_map(|(number, field)| match field {
                Field::Bytes(data) if matches!(number, 5 | 7 | 9 | 10 | 11) => Some((number, data)),
                _ => None,
            })
            .last()
        else {
            return;
        };
        let (mut temporality, mut is_monotonic) = (0, false);
        for (number, field) in fields(points) {
            match (number, field) {
                (2, Field::Varint(value)) => temporality = value,
                (3, Field::Varint(value)) => is_monotonic = value != 0,
                _ => {}
            }
        }
        let (kind, metric_type) = match data {
            5 => (Kind::Gauge, MetricType::Gauge),
            7 if is_monotonic => (Kind::Counter, MetricType::Counter),
            7 => (Kind::Other, MetricType::Gauge),
            11 => (Kind::Other, MetricType::Summary),
            _ => (Kind::Other, MetricType::Histogram),
        };
        let is_delta = matches!(data, 7 | 9 | 10) && temporality == DELTA;
        let family = metric_name(name, unit, kind, suffixes);
        let fault = match &family {
            None => Some("nothing is left of a metric's name"),
            _ if is_delta && data == 7 && !is_monotonic => {
                Some("deltas of a sum that may fall can't be added up: nobody knows where it began")
            }
            _ if matches!(data, 7 | 9 | 10) && !is_delta && temporality != CUMULATIVE => {
                Some("a metric has no temporality")
            }
            _ => None,
        };
        let metric = Metric { data, family: family.as_deref().unwrap_or_default(), kind, is_delta };
        let before = self.out.samples.len();
        for point in all(points, 1) {
            let done = fault.map_or_else(|| self.point(&metric, point, base), Err);
            if let Err(reason) = done {
                self.out.dropped += 1;
                if self.out.reason.is_empty() {
                    self.out.reason = reason;
                }
            }
        }
        if self.out.samples.len() > before {
            let (family, help, unit) = (metric.family.to_owned(), help.to_owned(), unit_name(unit));
            self.out.samples.add_metadata(Metadata { family, help, unit, metric_type });
        }
    }

    fn point(&mut self, metric: &Metric<'_>, bytes: &[u8], base: &Base) -> Result<(), &'static str> {
        let (attributes_at, exemplars_at, flags_at) = match metric.data {
            9 => (9, 8, 10),
            10 => (1, 11, 10),
            _ => (7, 5, 8),
        };
        let (mut time_ns, mut is_stale) = (0, false);
        for (number, field) in fields(bytes) {
            match field {
                Field::Fixed64(value) if number == 3 => time_ns = value,
                Field::Varint(flags) if number == flags_at => is_stale = flags & NO_RECORDED_VALUE != 0,
                _ => {}
            }
        }
        if time_ns == 0 {
            return Err("a point has no time");
        }
        let has_exemplars = !is_stale && (metric.kind == Kind::Counter || matches!(metric.data, 9 | 10));
        let exemplars = if has_exemplars { exemplars(bytes, exemplars_at) } else { Vec::new() };
        let labels = labels(base, attributes(bytes, attributes_at));
        let point = Point { bytes, labels: &labels, time_ns, is_stale, exemplars };
        match metric.data {
            9 => self.explicit(metric, point)?,
            10 => self.exponential(metric, point)?,
            11 => self.summary(metric, &point)?,
            _ => self.number(metric, point)?,
        }
        self.latest_ms = self.latest_ms.max(milliseconds(time_ns));
        Ok(())
    }

    fn number(&mut self, metric: &Metric<'_>, point: Point<'_>) -> Result<(), &'static str> {
        let value = fields(point.bytes).filter_map(|(number, field)| match (number, field) {
            (4, Field::Fixed64(bits)) => Some(f64::from_bits(bits)),
            (6, Field::Fixed64(bits)) => Some(bits as i64 as f64),
            _ => None,
        });
        let mut value = match value.last() {
            _ if point.is_stale => STALE_NAN,
            value => value.ok_or("a point has no value")?,
        };
        self.room(1, point.labels)?;
        if let Some(Total::Sum(total)) = self.total(metric, &point, || Total::Sum(value))? {
            value = total;
        }
        self.push(&point, metric.family, None, value);
        self.add(point.exemplars, None);
        Ok(())
    }

    fn explicit(&mut self, metric: &Metric<'_>, point: Point<'_>) -> Result<(), &'static str> {
        let mut histogram = Explicit::default();
        for (number, field) in fields(point.bytes) {
            match (number, field) {
                (4, Field::Fixed64(count)) => histogram.count = count,
                (5, Field::Fixed64(bits)) => histogram.sum = Some(f64::from_bits(bits)),
                (6, field) => fixed64s(field, |count| histogram.counts.push(count)),
                (7, field) => fixed64s(field, |bits| histogram.bounds.push(f64::from_bits(bits))),
                _ => {}
            }
        }
        let buckets = histogram.bounds.len() + 1;
        if histogram.counts.len() != buckets && !(histogram.counts.is_empty() && buckets == 1) {
            return Err("the buckets of a histogram are not one more than its bounds");
        }
        if !histogram.bounds.is_sorted_by(|one, other| one < other)
            || histogram.bounds.first().is_some_and(|it| it.is_nan())
        {
            return Err("the bounds of a histogram do not grow");
        }
        self.room(buckets + 2, point.labels)?;
        if let Some(Total::Explicit(total)) =
            self.total(metric, &point, || Total::Explicit(histogram.clone()))?
        {
            histogram = total;
        }
        let value = |value: f64| if point.is_stale { STALE_NAN } else { value };
        let name = |suffix: &str| format!("{}{suffix}", metric.family);
        if let Some(sum) = histogram.sum {
            self.push(&point, &name("_sum"), None, value(sum));
        }
        self.push(&point, &name("_count"), None, value(histogram.count as f64));
        let bucket = name("_bucket");
        let (mut below, mut exemplars) = (0_u64, point.exemplars.clone());
        let bounds = histogram.bounds.iter().filter(|bound| **bound < f64::INFINITY);
        for (bound, count) in bounds.zip(&histogram.counts) {
            below = below.saturating_add(*count);
            self.push(&point, &bucket, Some(("le", &bound.to_string())), value(below as f64));
            let above = exemplars.split_off(exemplars.partition_point(|exemplar| exemplar.value <= *bound));
            self.add(std::mem::replace(&mut exemplars, above), None);
        }
        self.push(&point, &bucket, Some(("le", "+Inf")), value(histogram.count as f64));
        self.add(exemplars, None);
        Ok(())
    }

    fn exponential(&mut self, metric: &Metric<'_>, point: Point<'_>) -> Result<(), &'static str> {
        let mut histogram = Exponential::default();
        for (number, field) in fields(point.bytes) {
            match (number, field) {
                (4, Field::Fixed64(count)) => histogram.count = count,
                (5, Field::Fixed64(bits)) => histogram.sum = Some(f64::from_bits(bits)),
                (6, Field::Varint(scale)) => histogram.scale = unzigzag(scale),
                (7, Field::Fixed64(count)) => histogram.zero_count = count,
                (8 | 9, Field::Bytes(inside)) => histogram.buckets[(number - 8) as usize] = buckets(inside),
                (14, Field::Fixed64(bits)) => histogram.zero_threshold = f64::from_bits(bits),
                _ => {}
            }
        }
        self.room(1, point.labels)?;
        if point.is_stale {
            self.total(metric, &point, || unreachable!("nothing is added to what ends"))?;
            // A number marks the end of histograms, too.
            self.push(&point, metric.family, None, STALE_NAN);
            return Ok(());
        }
        let mut native = histogram.native()?;
        if let Some(Total::Exponential(total)) =
            self.total(metric, &point, || Total::Exponential(histogram))?
        {
            native = total.native()?;
        }
        self.push(&point, metric.family, None, native.sum);
        self.add(point.exemplars, Some(native));
        Ok(())
    }

    fn summary(&mut self, metric: &Metric<'_>, point: &Point<'_>) -> Result<(), &'static str> {
        let (mut count, mut sum) = (0, 0.0);
        for (number, field) in fields(point.bytes) {
            match (number, field) {
                (4, Field::Fixed64(value)) => count = value,
                (5, Field::Fixed64(bits)) => sum = f64::from_bits(bits),
                _ => {}
            }
        }
        self.room(all(point.bytes, 6).count() + 2, point.labels)?;
        let value = |value: f64| if point.is_stale { STALE_NAN } else { value };
        self.push(point, &format!("{}_sum", metric.family), None, value(sum));
        self.push(point, &format!("{}_count", metric.family), None, value(count as f64));
        for quantile in all(point.bytes, 6) {
            let mut pair = [0.0; 2];
            for (number, field) in fields(quantile) {
                if let (1 | 2, Field::Fixed64(bits)) = (number, field) {
                    pair[(number - 1) as usize] = f64::from_bits(bits);
                }
            }
            self.push(point, metric.family, Some(("quantile", &pair[0].to_string())), value(pair[1]));
        }
        Ok(())
    }

    /// What the stream of a delta comes to; `None` of what is a total.
    fn total(
        &mut self,
        metric: &Metric<'_>,
        point: &Point<'_>,
        delta: impl FnOnce() -> Total,
    ) -> Result<Option<Total>, &'static str> {
        if !metric.is_delta {
            return Ok(None);
        }
        let mut hasher = DefaultHasher::new();
        (metric.family, point.labels).hash(&mut hasher);
        let (key, additions) = (hasher.finish(), &mut self.out.additions);
        if point.is_stale {
            Deltas::end(additions, key);
            return Ok(None);
        }
        self.deltas.add(additions, (key, point.time_ns), delta(), self.now).map(|total| Some(total.clone()))
    }

    /// Whether so many series of these labels are still taken.
    fn room(&mut self, series: usize, labels: &[Label<'_>]) -> Result<(), &'static str> {
        /// What a series takes beside its labels: its name, `le`, time and value.
        const BESIDE: usize = 100;
        let one: usize = labels.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        let bytes = self.bytes.saturating_add(series.saturating_mul(one + BESIDE));
        if bytes > BYTES_MAX {
            return Err("the message becomes too many series with too long labels: send smaller ones");
        }
        self.bytes = bytes;
        Ok(())
    }

    fn info(&mut self, name: &str, help: &str, labels: &[Label<'_>]) {
        let time_ns = self.latest_ms as u64 * 1_000_000;
        let point = Point { bytes: &[], labels, time_ns, is_stale: false, exemplars: Vec::new() };
        self.push(&point, name, None, 1.0);
        let (family, help, metric_type) = (name.to_owned(), help.to_owned(), MetricType::Gauge);
        self.out.samples.add_metadata(Metadata { family, help, unit: String::new(), metric_type });
    }

    /// A sample of the point; `more` is a label behind `__name__` in the order of names, and goes before one of the point.
    fn push(&mut self, point: &Point<'_>, name: &str, more: Option<(&str, &str)>, value: f64) {
        let labels = point.labels;
        let place = |wanted: &str| labels.partition_point(|(name, _)| **name < *wanted);
        let name_at = place("__name__");
        let more_at = more.map_or(labels.len(), |(name, _)| place(name));
        let part = |range: std::ops::Range<usize>| {
            let own = labels[range].iter().map(|(name, value)| (&**name, &**value));
            own.filter(move |(name, _)| more.is_none_or(|(more, _)| more != *name))
        };
        let pairs = part(0..name_at).chain([("__name__", name)]).chain(part(name_at..more_at));
        let pairs = pairs.chain(more).chain(part(more_at..labels.len()));
        self.out.samples.push(pairs, milliseconds(point.time_ns), value);
    }

    /// What the last sample has beside its value.
    fn add(&mut self, mut exemplars: Vec<Exemplar>, histogram: Option<NativeHistogram>) {
        if !exemplars.is_empty() || histogram.is_some() {
            exemplars.sort_by_key(|exemplar| exemplar.timestamp_ms);
            self.out.samples.add_extras(Extras { histogram, exemplars });
        }
    }
}

fn milliseconds(time_ns: u64) -> i64 {
    (time_ns / 1_000_000) as i64
}

fn fixed64s(field: Field<'_>, mut each: impl FnMut(u64)) {
    match field {
        Field::Fixed64(one) => each(one),
        Field::Bytes(packed) => {
            packed.as_chunks::<8>().0.iter().for_each(|one| each(u64::from_le_bytes(*one)))
        }
        _ => {}
    }
}

fn buckets(message: &[u8]) -> Buckets {
    let mut buckets = Buckets::default();
    for (number, field) in fields(message) {
        match (number, field) {
            (1, Field::Varint(offset)) => buckets.offset = unzigzag(offset),
            (2, Field::Varint(count)) => buckets.counts.push(count),
            (2, Field::Bytes(packed)) => buckets.counts.extend(packed_varints(packed).flatten()),
            _ => {}
        }
    }
    buckets
}

/// The exemplars of a point, by value.
fn exemplars(point: &[u8], wanted: u64) -> Vec<Exemplar> {
    let read = |message| {
        let (mut timestamp_ms, mut value) = (None, None);
        for (number, field) in fields(message) {
            match (number, field) {
                (2, Field::Fixed64(time)) if time > 0 => timestamp_ms = Some(milliseconds(time)),
                (3, Field::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
                (6, Field::Fixed64(bits)) => value = Some(bits as i64 as f64),
                _ => {}
            }
        }
        let ids = [("trace_id", 5), ("span_id", 4)].map(|(name, number)| (name, hex(last(message, number))));
        let ids: Vec<_> = ids.into_iter().filter(|(_, id)| id.bytes().any(|digit| digit != b'0')).collect();
        let base: Base = ids.into_iter().map(|(name, id)| (name.into(), 0, id.into())).collect();
        let with_attributes = labels(&base, attributes(message, 7));
        let pairs = with_attributes.iter().map(|(name, value)| name.chars().count() + value.chars().count());
        let fit = pairs.sum::<usize>() <= EXEMPLAR_CHARACTERS_MAX;
        let labels =
            if fit { Labels::new(with_attributes) } else { Labels::new(labels(&base, std::iter::empty())) };
        value.map(|value| Exemplar { labels, value, timestamp_ms })
    };
    let mut exemplars: Vec<Exemplar> = all(point, wanted).filter_map(read).collect();
    exemplars.sort_by(|one, other| one.value.total_cmp(&other.value));
    exemplars
}

#[cfg(test)]
mod tests;
