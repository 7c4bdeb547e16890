//! The agent's own metrics: each part writes its figures on a [`Page`] when somebody asks for them.
//!
//! Nothing is registered and nothing has to be unregistered: what no longer lives writes nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// A part of the agent that has figures to show.
pub trait Collect: Send + Sync {
    /// Writes the figures as they are now.
    fn collect(&self, page: &mut Page);
}

/// Figures by family, in Prometheus' text format 0.0.4 when rendered.
#[derive(Debug, Default)]
pub struct Page {
    families: BTreeMap<String, Family>,
    common: Vec<(String, String)>,
}

#[derive(Debug)]
struct Family {
    kind: &'static str,
    help: Cow<'static, str>,
    lines: String,
}

impl Page {
    /// Writes with these labels on every line, in front of its own.
    pub fn labelled(&mut self, common: &[(&str, &str)], write: impl FnOnce(&mut Page)) {
        let before = self.common.len();
        self.common.extend(common.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        write(self);
        self.common.truncate(before);
    }

    /// A counter: its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)], value: u64) {
        self.line(name, ("counter", help), "", labels, value as f64);
    }

    /// A counter of seconds.
    pub fn seconds(&mut self, name: &str, help: &'static str, value: f64) {
        self.line(name, ("counter", help), "", &[], value);
    }

    /// A gauge.
    pub fn gauge(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.line(name, ("gauge", help), "", labels, value);
    }

    /// A histogram.
    pub fn histogram(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)], value: &Histogram) {
        let mut cumulative = 0;
        for (bound, count) in
            value.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]).zip(&value.counts)
        {
            cumulative += count.load(Ordering::Relaxed);
            let with_bound: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line(name, ("histogram", help), "_bucket", &with_bound, cumulative as f64);
        }
        let sum = value.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        self.line(name, ("histogram", help), "_sum", labels, sum);
        self.line(name, ("histogram", help), "_count", labels, cumulative as f64);
    }

    /// The series of a gauge or counter: each one's labels as they are written, and its value.
    pub fn series(&self, name: &str) -> Vec<(String, f64)> {
        let lines = self.families.get(name).map_or("", |family| &family.lines).lines();
        let series = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.strip_prefix(name)?.to_owned(), value.parse().ok()?))
        });
        series.collect()
    }

    /// One line of a family of any kind: `counter`, `gauge`, `untyped`, ... The suffix is that of a part of a histogram.
    pub fn sample(
        &mut self,
        (name, suffix): (&str, &str),
        (kind, help): (&'static str, impl Into<Cow<'static, str>>),
        labels: &[(&str, &str)],
        value: f64,
    ) {
        self.line(name, (kind, help), suffix, labels, value);
    }

    /// The page as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let help = family.help.replace('\\', r"\\").replace('\n', r"\n");
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {}\n{}", family.kind, family.lines);
        }
        text
    }

    fn line(
        &mut self,
        name: &str,
        (kind, help): (&'static str, impl Into<Cow<'static, str>>),
        suffix: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        if !self.families.contains_key(name) {
            self.families.insert(name.to_owned(), Family { kind, help: help.into(), lines: String::new() });
        }
        let Some(family) = self.families.get_mut(name) else { return };
        let lines = &mut family.lines;
        lines.push_str(name);
        lines.push_str(suffix);
        let common = self.common.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (index, (name, value)) in common.chain(labels.iter().copied()).enumerate() {
            lines.push(if index == 0 { '{' } else { ',' });
            let escaped = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(lines, "{name}=\"{escaped}\"");
        }
        if !labels.is_empty() || !self.common.is_empty() {
            lines.push('}');
        }
        let _ = writeln!(lines, " {value}");
    }
}

/// A histogram of seconds, counted without a lock.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Buckets for a request or a disk: 1 ms to 10 s.
    pub const SECONDS: &[f64] =
        &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

    /// A histogram with these upper bounds, ascending.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum_micros: AtomicU64::new(0) }
    }

    /// Counts one value.
    pub fn observe(&self, value: std::time::Duration) {
        let seconds = value.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(value.as_micros() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn families_stand_together_whoever_writes_them_first() {
        let mut page = Page::default();
        for id in ["a", "b\"\n"] {
            page.labelled(&[("component_id", id)], |page| {
                page.counter("x_total", "Things.", &[], 1);
                page.gauge("y", "Others.", &[("k", "v")], 0.5);
            });
        }
        page.gauge("z", "Bare.", &[], 2.0);
        assert_eq!(
            page.render(),
            "# HELP x_total Things.\n# TYPE x_total counter\nx_total{component_id=\"a\"} 1\nx_total{component_id=\"b\\\"\\n\"} 1\n\
             # HELP y Others.\n# TYPE y gauge\ny{component_id=\"a\",k=\"v\"} 0.5\ny{component_id=\"b\\\"\\n\",k=\"v\"} 0.5\n\
             # HELP z Bare.\n# TYPE z gauge\nz 2\n"
        );
    }

    #[test]
    fn a_histogram_counts_into_the_first_bucket_that_holds_the_value() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [100, 101, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        page.histogram("d_seconds", "Time.", &[], &histogram);
        assert!(page.render().contains(
            "d_seconds_bucket{le=\"0.1\"} 1\nd_seconds_bucket{le=\"1\"} 2\nd_seconds_bucket{le=\"+Inf\"} 3\nd_seconds_sum 5.201\nd_seconds_count 3\n"
        ));
    }
}
