//! In which order the labels of a series and of its target stand: worked out once for all series with the same label names.
//!
//! The series of a family mostly have the same names in the same order, and families stand together. So of most series
//! the names are compared with those of the last few shapes, and nothing is sorted, renamed or allocated.

use std::borrow::Cow;

use super::page::{LabelPolicy, TargetLabels};
use crate::formats::{LabelPair, Series};
use crate::telemetry::{LabelName, Labels, SampleBatch};

/// The shapes that were needed last.
pub(super) struct Shapes<'a, 'b> {
    target: &'a TargetLabels,
    policy: LabelPolicy,
    recent: Vec<Shape<'b>>,
    /// The one that was found last: the next series mostly has it too.
    last: usize,
}

/// As many as a histogram or a summary needs, its labelled neighbours among them. Each is compared by its first name mostly.
const RECENT_MAX: usize = 8;

/// Where the labels of a series come from, in their order.
pub(super) struct Shape<'b> {
    names: Vec<Cow<'b, str>>,
    parts: Vec<Part>,
    /// How many labels there are.
    pub(super) labels: usize,
    /// Bytes of the longest name.
    pub(super) longest_name: usize,
    /// Bytes of the longest value on the target's side.
    pub(super) longest_target_value: usize,
}

enum Part {
    /// The metric's name.
    Metric(LabelName),
    /// The page's label of that index.
    Page(LabelName, usize),
    /// Some of the target's.
    Target(Labels),
}

/// A name that a series would have twice.
pub(super) struct Twice(pub(super) String);

impl<'a, 'b> Shapes<'a, 'b> {
    pub(super) fn new(target: &'a TargetLabels, policy: LabelPolicy) -> Self {
        Shapes { target, policy, recent: Vec::new(), last: 0 }
    }

    /// The shape of a series with these labels.
    pub(super) fn of(&mut self, labels: &[LabelPair<'b>]) -> Result<&Shape<'b>, Twice> {
        // Without its empty labels a series has another shape than its names say, and is met seldom.
        let has_empty = labels.iter().any(|(_, value)| value.is_empty());
        let fits = |shape: &Shape<'_>| !has_empty && shape.fits(labels);
        if !self.recent.get(self.last).is_some_and(fits) {
            self.last = match self.recent.iter().position(fits) {
                Some(found) => found,
                None => self.add(labels)?,
            };
        }
        Ok(&self.recent[self.last])
    }

    fn add(&mut self, labels: &[LabelPair<'b>]) -> Result<usize, Twice> {
        let shape = Shape::new(labels, self.target, self.policy)?;
        if self.recent.len() < RECENT_MAX {
            self.recent.push(shape);
            return Ok(self.recent.len() - 1);
        }
        let oldest = (self.last + 1) % RECENT_MAX;
        self.recent[oldest] = shape;
        Ok(oldest)
    }
}

impl<'b> Shape<'b> {
    fn fits(&self, labels: &[LabelPair<'_>]) -> bool {
        self.names.len() == labels.len()
            && self.names.iter().zip(labels).all(|(name, (other, _))| name == other)
    }

    /// The page's labels that are not empty and the target's, sorted. Those that both have get another name on the page's
    /// side, or are left out on the target's.
    fn new(labels: &[LabelPair<'b>], target: &TargetLabels, policy: LabelPolicy) -> Result<Self, Twice> {
        enum Source<'t> {
            Metric,
            Page(usize),
            Target(&'t str),
        }
        let mut sources = vec![(Cow::Borrowed("__name__"), Source::Metric)];
        for (index, (name, value)) in labels.iter().enumerate() {
            if !value.is_empty() {
                let name =
                    if policy == LabelPolicy::Target { renamed(name, labels, target) } else { name.clone() };
                sources.push((name, Source::Page(index)));
            }
        }
        let of_page = sources.len();
        for (name, value) in target.iter() {
            if policy == LabelPolicy::Target || !sources[1..of_page].iter().any(|(other, _)| other == name) {
                sources.push((Cow::Borrowed(name), Source::Target(value)));
            }
        }
        sources.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = sources.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Twice(pair[0].0.to_string()));
        }
        let longest_name = sources.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let of_target =
            |(_, source): &(_, Source<'_>)| if let Source::Target(value) = source { value.len() } else { 0 };
        let longest_target_value = sources.iter().map(of_target).max().unwrap_or(0);
        let (labels_len, mut parts, mut run) = (sources.len(), Vec::new(), Vec::new());
        for (name, source) in &sources {
            if let Source::Target(value) = source {
                run.push((name.as_ref(), *value));
                continue;
            }
            flush(&mut run, &mut parts);
            parts.push(match source {
                Source::Page(index) => Part::Page(LabelName::new(name), *index),
                _ => Part::Metric(LabelName::new(name)),
            });
        }
        flush(&mut run, &mut parts);
        let names = labels.iter().map(|(name, _)| name.clone()).collect();
        Ok(Shape { names, parts, labels: labels_len, longest_name, longest_target_value })
    }

    /// Adds the labels of a series of this shape.
    pub(super) fn push(&self, series: &Series<'_, '_>, batch: &mut SampleBatch) {
        for part in &self.parts {
            match part {
                Part::Metric(name) => batch.push_label(name, series.name),
                Part::Page(name, index) => batch.push_label(name, &series.labels[*index].1),
                Part::Target(labels) => batch.push_labels(labels.as_ref()),
            }
        }
    }
}

/// Packs a run of the target's labels.
fn flush(run: &mut Vec<(&str, &str)>, parts: &mut Vec<Part>) {
    if !run.is_empty() {
        parts.push(Part::Target(Labels::new(run.drain(..))));
    }
}

/// The name under which a label of the page is kept beside the target's.
fn renamed<'b>(name: &Cow<'b, str>, labels: &[LabelPair<'_>], target: &TargetLabels) -> Cow<'b, str> {
    let stands = |name: &str| labels.iter().any(|(other, _)| other == name);
    let mut name = name.clone();
    let mut is_new = false;
    while target.has(&name) || is_new && stands(&name) {
        name = Cow::Owned(format!("exported_{name}"));
        is_new = true;
    }
    name
}
