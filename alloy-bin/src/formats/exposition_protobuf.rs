//! Prometheus' protobuf exposition -> items, in place.
//!
//! A page is families, each behind its length:
//! ```text
//! MetricFamily { string name = 1; string help = 2; MetricType type = 3; repeated Metric metric = 4; string unit = 5; }
//! Metric       { repeated LabelPair label = 1; Gauge gauge = 2; Counter counter = 3; Summary summary = 4;
//!                Untyped untyped = 5; int64 timestamp_ms = 6; Histogram histogram = 7; }
//! ```
//! Source: `metrics.proto` of <https://github.com/prometheus/client_model>. Read as Prometheus reads it: a timestamp of zero is
//! none, a histogram with spans or a bucket of zero is native, a classic one gets its bucket `+Inf` if it lacks it. Nothing is
//! allocated for a sample but for exemplars and native histograms.

mod histogram;
mod wire;

use std::borrow::Cow;

use self::histogram::Histogram;
use self::wire::{Field, Fields, delimited_message};
use super::exposition::is_unit_of;
use super::label_float::write_float;
use super::page_item::{Item, LabelPair, NORMAL_NAN, Series, Statement};
use crate::telemetry::{Exemplar, Extras, Labels, MetricType};

/// Which of its forms a histogram is read in, if it has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Histograms {
    /// As counters for each bucket.
    #[default]
    Classic,
    /// As one sample, if it has that form.
    Native,
    /// As one sample, if it has that form, and as counters too.
    Both,
}

/// Why a page was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: expected {expected}")]
pub struct ProtobufError {
    /// Where the message stands that is wrong, counted from 0.
    pub at: usize,
    /// What could have stood there.
    pub expected: &'static str,
}

/// What was expected, and from where on the page it was not found.
type Fault<'b> = (&'b [u8], &'static str);

/// Gives everything on the page to `sink`, in order.
///
/// The page counts as a whole: after an error, what `sink` has been given should be dropped. The cost is linear in the page.
pub fn parse_protobuf<'b>(
    body: &'b [u8],
    histograms: Histograms,
    sink: &mut impl FnMut(Item<'_, 'b>),
) -> Result<(), ProtobufError> {
    let mut rest = body;
    let mut names = Names::default();
    while !rest.is_empty() {
        let read = delimited_message(&mut rest)
            .and_then(|family| Family::read(family)?.give(histograms, &mut names, sink));
        read.map_err(|(place, expected)| {
            // A place is always a part of the page.
            let at = (place.as_ptr() as usize).saturating_sub(body.as_ptr() as usize).min(body.len());
            ProtobufError { at, expected }
        })?;
    }
    Ok(())
}

/// Memory for names and values that do not stand on the page.
#[derive(Default)]
struct Names {
    count: String,
    sum: String,
    bucket: String,
    value: String,
}

struct Family<'b> {
    message: &'b [u8],
    name: &'b str,
    help: &'b str,
    unit: &'b str,
    metric_type: MetricType,
}

impl<'b> Family<'b> {
    /// What is said of all its metrics: it may stand behind them.
    fn read(message: &'b [u8]) -> Result<Self, Fault<'b>> {
        let mut family = Family { message, name: "", help: "", unit: "", metric_type: MetricType::Counter };
        for field in Fields::of(message) {
            let (number, field) = field?;
            match number {
                1 => family.name = field.text()?,
                2 => family.help = field.text()?,
                3 => {
                    family.metric_type = match field.integer()? {
                        0 => MetricType::Counter,
                        1 => MetricType::Gauge,
                        2 => MetricType::Summary,
                        3 => MetricType::Unknown,
                        4 => MetricType::Histogram,
                        5 => MetricType::GaugeHistogram,
                        _ => return Err((message, "a metric type")),
                    }
                }
                5 => family.unit = field.text()?,
                _ => {}
            }
        }
        if family.name.is_empty() {
            return Err((message, "a family with a name"));
        }
        let counted =
            family.name.strip_suffix("_total").filter(|_| family.metric_type == MetricType::Counter);
        if !is_unit_of(family.unit, counted.unwrap_or(family.name)) {
            return Err((message, "a unit that the name ends with"));
        }
        Ok(family)
    }

    fn give(
        &self,
        histograms: Histograms,
        names: &mut Names,
        sink: &mut impl FnMut(Item<'_, 'b>),
    ) -> Result<(), Fault<'b>> {
        let mut labels = Vec::new();
        let mut is_first = true;
        for field in Fields::of(self.message) {
            let (4, field) = field? else { continue };
            if std::mem::take(&mut is_first) {
                self.give_metadata(names, sink);
            }
            let metric = Metric::read(field.bytes()?, self.metric_type, &mut labels)?;
            let mut giver = Giver { family: self, names, timestamp_ms: metric.timestamp_ms, sink };
            match self.metric_type {
                MetricType::Summary => giver.summary(metric.value, &mut labels)?,
                MetricType::Histogram | MetricType::GaugeHistogram => {
                    giver.histogram(metric.value, histograms, &mut labels)?;
                }
                _ => giver.simple(metric.value, &labels)?,
            }
        }
        Ok(())
    }

    fn give_metadata(&self, names: &mut Names, sink: &mut impl FnMut(Item<'_, 'b>)) {
        for (name, suffix) in
            [(&mut names.count, "_count"), (&mut names.sum, "_sum"), (&mut names.bucket, "_bucket")]
        {
            name.clear();
            name.push_str(self.name);
            name.push_str(suffix);
        }
        sink(Item::Metadata(self.name, Statement::Type(self.metric_type)));
        sink(Item::Metadata(self.name, Statement::Help(Cow::Borrowed(self.help))));
        sink(Item::Metadata(self.name, Statement::Unit(self.unit)));
    }
}

struct Metric<'b> {
    timestamp_ms: Option<i64>,
    /// The message that fits the family's type; empty if it is not there.
    value: &'b [u8],
}

impl<'b> Metric<'b> {
    fn read(
        message: &'b [u8],
        metric_type: MetricType,
        labels: &mut Vec<LabelPair<'b>>,
    ) -> Result<Self, Fault<'b>> {
        labels.clear();
        let value_field = match metric_type {
            MetricType::Gauge => 2,
            MetricType::Counter => 3,
            MetricType::Summary => 4,
            MetricType::Histogram | MetricType::GaugeHistogram => 7,
            _ => 5,
        };
        let mut metric = Metric { timestamp_ms: None, value: &[] };
        for field in Fields::of(message) {
            let (number, field) = field?;
            match number {
                1 => labels.push(label(field.bytes()?)?),
                6 => metric.timestamp_ms = Some(field.integer()? as i64).filter(|at| *at != 0),
                number if number == value_field => metric.value = field.bytes()?,
                _ => {}
            }
        }
        Ok(metric)
    }
}

/// Gives the samples of one metric.
struct Giver<'f, 'b, S> {
    family: &'f Family<'b>,
    names: &'f mut Names,
    timestamp_ms: Option<i64>,
    sink: &'f mut S,
}

impl<'b, S: FnMut(Item<'_, 'b>)> Giver<'_, 'b, S> {
    /// A gauge, a counter, or what is neither.
    fn simple(&mut self, message: &'b [u8], labels: &[LabelPair<'b>]) -> Result<(), Fault<'b>> {
        let mut value = 0.0;
        let mut extras = None;
        for field in Fields::of(message) {
            match field? {
                (1, field) => value = field.double()?,
                (2, field) if self.family.metric_type == MetricType::Counter => {
                    extras = Some(with_exemplars(vec![exemplar(field.bytes()?)?]));
                }
                _ => {}
            }
        }
        self.sample(Name::Family, labels, value, extras);
        Ok(())
    }

    fn summary(&mut self, message: &'b [u8], labels: &mut Vec<LabelPair<'b>>) -> Result<(), Fault<'b>> {
        let (mut count, mut sum) = (0, 0.0);
        for field in Fields::of(message) {
            match field? {
                (1, field) => count = field.integer()?,
                (2, field) => sum = field.double()?,
                _ => {}
            }
        }
        self.sample(Name::Count, labels, count as f64, None);
        self.sample(Name::Sum, labels, sum, None);
        for field in Fields::of(message) {
            let (3, field) = field? else { continue };
            let (mut quantile, mut value) = (0.0, 0.0);
            for field in Fields::of(field.bytes()?) {
                match field? {
                    (1, field) => quantile = field.double()?,
                    (2, field) => value = field.double()?,
                    _ => {}
                }
            }
            self.labelled(Name::Family, labels, ("quantile", quantile), value, None);
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        message: &'b [u8],
        histograms: Histograms,
        labels: &mut Vec<LabelPair<'b>>,
    ) -> Result<(), Fault<'b>> {
        let is_gauge = self.family.metric_type == MetricType::GaugeHistogram;
        let histogram = Histogram::read(message, is_gauge)?;
        let (mut is_native, mut is_classic) = (false, true);
        if histograms != Histograms::Classic && histogram.is_native {
            (is_native, is_classic) = (true, histograms == Histograms::Both && histogram.buckets > 0);
        }
        if is_native {
            let extras = histogram.native_extras(message)?;
            self.sample(Name::Family, labels, histogram.sum, Some(Box::new(extras)));
        }
        if !is_classic {
            return Ok(());
        }
        let count = histogram.count();
        self.sample(Name::Count, labels, count, None);
        self.sample(Name::Sum, labels, histogram.sum, None);
        let mut has_infinity = false;
        for bucket in Histogram::buckets(message) {
            let bucket = bucket?;
            has_infinity |= bucket.upper_bound == f64::INFINITY;
            let extras = bucket.exemplar.map(exemplar).transpose()?;
            let extras = extras.map(|exemplar| with_exemplars(vec![exemplar]));
            self.labelled(Name::Bucket, labels, ("le", bucket.upper_bound), bucket.count, extras);
        }
        if !has_infinity {
            self.labelled(Name::Bucket, labels, ("le", f64::INFINITY), count, None);
        }
        Ok(())
    }

    /// A sample with one label more. The label's text is written into memory that was used before.
    fn labelled(
        &mut self,
        name: Name,
        labels: &mut Vec<LabelPair<'b>>,
        (label, number): (&'static str, f64),
        value: f64,
        extras: Option<Box<Extras>>,
    ) {
        let mut text = std::mem::take(&mut self.names.value);
        text.clear();
        write_float(&mut text, number);
        labels.push((Cow::Borrowed(label), Cow::Owned(text)));
        self.sample(name, labels, value, extras);
        if let Some((_, Cow::Owned(text))) = labels.pop() {
            self.names.value = text;
        }
    }

    fn sample(&mut self, name: Name, labels: &[LabelPair<'b>], value: f64, extras: Option<Box<Extras>>) {
        let name = match name {
            Name::Family => self.family.name,
            Name::Count => &self.names.count,
            Name::Sum => &self.names.sum,
            Name::Bucket => &self.names.bucket,
        };
        let value = if value.is_nan() { NORMAL_NAN } else { value };
        let (timestamp_ms, text) = (self.timestamp_ms, self.family.name);
        // There is no syntax that names would have to obey, so each has to be looked at.
        (self.sink)(Item::Series(Series {
            name,
            labels,
            value,
            timestamp_ms,
            extras,
            has_quoted_names: true,
            text,
        }));
    }
}

#[derive(Clone, Copy)]
enum Name {
    Family,
    Count,
    Sum,
    Bucket,
}

fn with_exemplars(exemplars: Vec<Exemplar>) -> Box<Extras> {
    Box::new(Extras { histogram: None, exemplars })
}

fn label(message: &[u8]) -> Result<LabelPair<'_>, Fault<'_>> {
    let (mut name, mut value) = ("", "");
    for field in Fields::of(message) {
        match field? {
            (1, field) => name = field.text()?,
            (2, field) => value = field.text()?,
            _ => {}
        }
    }
    if name.is_empty() {
        Err((message, "a label with a name"))
    } else {
        Ok((Cow::Borrowed(name), Cow::Borrowed(value)))
    }
}

fn exemplar(message: &[u8]) -> Result<Exemplar, Fault<'_>> {
    let (mut labels, mut value, mut timestamp_ms) = (Vec::new(), 0.0, None);
    for field in Fields::of(message) {
        match field? {
            (1, field) => labels.push(label(field.bytes()?)?),
            (2, field) => value = field.double()?,
            (3, field) => timestamp_ms = Some(timestamp(field)?),
            _ => {}
        }
    }
    Ok(Exemplar { labels: Labels::new(labels), value, timestamp_ms })
}

/// `google.protobuf.Timestamp { int64 seconds = 1; int32 nanos = 2; }` in milliseconds.
fn timestamp(field: Field<'_>) -> Result<i64, Fault<'_>> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    for field in Fields::of(field.bytes()?) {
        match field? {
            (1, field) => seconds = field.integer()? as i64,
            (2, field) => nanos = field.integer()? as i64,
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

#[cfg(test)]
mod tests;
