//! A target's page -> samples with the target's labels.

use std::borrow::Cow;

use crate::formats::{Format, LabelPair, ParseError, parse};
use crate::telemetry::SampleBatch;

/// The labels that every sample of a target gets, sorted by name: its public labels, `instance` and `job`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetLabels(Vec<(String, String)>);

impl TargetLabels {
    /// Sorts the pairs; of one name the first counts.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, first| later.0 == first.0);
        TargetLabels(pairs)
    }

    fn has(&self, name: &str) -> bool {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(name)).is_ok()
    }

    /// Adds a sample of the agent's own: `up` and its like.
    pub(super) fn push_own(&self, batch: &mut SampleBatch, name: &str, slot_ms: i64, value: f64) {
        let mut labels = vec![("__name__", name)];
        labels.extend(self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        labels.sort_unstable();
        batch.push(labels, slot_ms, value);
    }
}

/// Whose label counts when the page and the target both have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelPolicy {
    /// The target's; the page's is kept as `exported_NAME` (`honor_labels = false`).
    Target,
    /// The page's (`honor_labels = true`).
    Page,
}

/// Whose time counts when the page has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampPolicy {
    /// The slot's (`honor_timestamps = false`).
    Slot,
    /// The page's (`honor_timestamps = true`).
    Page,
}

/// Why a page was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// Not in the format that its content type says.
    #[error("cannot read the page: {0}")]
    Format(#[from] ParseError),
    /// More samples than allowed.
    #[error("the page has more than {0} samples (sample_limit)")]
    TooMany(usize),
    /// A label stands twice in one series.
    #[error("label {label:?} stands twice in series {series}")]
    LabelTwice {
        /// The label.
        label: String,
        /// The series, cut short.
        series: String,
    },
}

/// How a page is read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) target: &'a TargetLabels,
    pub(super) format: Format,
    pub(super) labels: LabelPolicy,
    pub(super) timestamps: TimestampPolicy,
    /// 0: no limit.
    pub(super) sample_limit: usize,
    pub(super) lane: u64,
    pub(super) slot_ms: i64,
}

impl Reading<'_> {
    /// The page's samples. All or nothing: after an error there are none.
    pub(super) fn read(&self, body: &[u8]) -> Result<SampleBatch, PageError> {
        let mut batch = SampleBatch::new(self.lane);
        let mut failed = None;
        let mut scratch: Vec<(&str, &str)> = Vec::new();
        parse(body, self.format, &mut |series| {
            if failed.is_some() {
                return;
            }
            if self.sample_limit > 0 && batch.len() == self.sample_limit {
                failed = Some(PageError::TooMany(self.sample_limit));
                return;
            }
            let timestamp_ms = match self.timestamps {
                TimestampPolicy::Page => series.timestamp_ms.unwrap_or(self.slot_ms),
                TimestampPolicy::Slot => self.slot_ms,
            };
            let renamed = self.renamed(series.labels);
            let mut labels = reuse(std::mem::take(&mut scratch));
            labels.push(("__name__", &series.name));
            labels.extend(renamed.iter().map(|(name, value)| (name.as_ref(), *value)));
            for (name, value) in &self.target.0 {
                if self.labels == LabelPolicy::Target || !renamed.iter().any(|(other, _)| other == name) {
                    labels.push((name, value));
                }
            }
            labels.sort_unstable();
            match labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                Some(pair) => {
                    let series = series.text.chars().take(120).collect();
                    failed = Some(PageError::LabelTwice { label: pair[0].0.to_owned(), series });
                }
                None => batch.push(labels.iter().copied(), timestamp_ms, series.value),
            }
            scratch = reuse(labels);
        })?;
        failed.map_or(Ok(batch), Err)
    }

    /// The page's labels without empty ones; those that the target has too get another name if the target's count.
    fn renamed<'s>(&self, labels: &'s [LabelPair<'_>]) -> Vec<(Cow<'s, str>, &'s str)> {
        let present = labels.iter().filter(|(_, value)| !value.is_empty());
        let named = present.map(|(name, value)| {
            let mut name = Cow::Borrowed(name.as_ref());
            if self.labels == LabelPolicy::Target {
                while self.target.has(&name) || matches!(name, Cow::Owned(_)) && stands(labels, &name) {
                    name = Cow::Owned(format!("exported_{name}"));
                }
            }
            (name, value.as_ref())
        });
        named.collect()
    }
}

/// Whether a name is on the page already.
fn stands(labels: &[LabelPair<'_>], name: &str) -> bool {
    labels.iter().any(|(other, _)| other == name)
}

/// An empty vector with the memory of this one, for texts of another lifetime.
fn reuse<'b>(mut scratch: Vec<(&str, &str)>) -> Vec<(&'b str, &'b str)> {
    scratch.clear();
    scratch.into_iter().map(|_| unreachable!("it is empty")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(page: &str, labels: LabelPolicy) -> Result<Vec<String>, String> {
        let target =
            TargetLabels::new([("job", "j"), ("instance", "i")].map(|(n, v)| (n.to_owned(), v.to_owned())));
        let reading = Reading {
            target: &target,
            format: Format::Text,
            labels,
            timestamps: TimestampPolicy::Page,
            sample_limit: 3,
            lane: 1,
            slot_ms: 5000,
        };
        let show = |batch: SampleBatch| {
            batch.iter().map(|s| format!("{} {} {}", s.labels, s.value, s.timestamp_ms)).collect::<Vec<_>>()
        };
        reading.read(page.as_bytes()).map(show).map_err(|error| error.to_string())
    }

    #[test]
    fn samples_get_the_targets_labels_and_the_slots_time() {
        let cases: &[(&str, LabelPolicy, &str)] = &[
            ("x 1\n", LabelPolicy::Target, r#"{__name__="x", instance="i", job="j"} 1 5000"#),
            ("x{b=\"\"} 1 77\n", LabelPolicy::Target, r#"{__name__="x", instance="i", job="j"} 1 77"#),
            (
                "x{job=\"p\"} 1\n",
                LabelPolicy::Target,
                r#"{__name__="x", exported_job="p", instance="i", job="j"} 1 5000"#,
            ),
            ("x{job=\"p\"} 1\n", LabelPolicy::Page, r#"{__name__="x", instance="i", job="p"} 1 5000"#),
            ("x{job=\"\"} 1\n", LabelPolicy::Page, r#"{__name__="x", instance="i", job="j"} 1 5000"#),
            (
                "x{exported_job=\"q\",job=\"p\"} 1\n",
                LabelPolicy::Target,
                r#"{__name__="x", exported_exported_job="p", exported_job="q", instance="i", job="j"} 1 5000"#,
            ),
        ];
        for (page, policy, expected) in cases {
            assert_eq!(read(page, *policy).expect(page), [*expected], "{page}");
        }
    }

    #[test]
    fn a_page_is_taken_whole_or_not_at_all() {
        assert!(
            read("a 1\nb 2\nc 3\nd 4\n", LabelPolicy::Target).expect_err("limit").contains("sample_limit")
        );
        assert!(
            read("a{x=\"1\",x=\"2\"} 1\n", LabelPolicy::Target)
                .expect_err("twice")
                .contains("\"x\" stands twice")
        );
        assert!(read("a 1\n<html>\n", LabelPolicy::Target).expect_err("garbage").contains("line 2"));
    }
}
