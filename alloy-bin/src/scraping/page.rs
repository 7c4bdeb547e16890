//! A target's page -> samples with the target's labels.

use std::time::Instant;

use super::series_rules::SeriesRules;
use super::shape::{Shape, Shapes, Twice};
use crate::formats::{
    Format, Histograms, Item, ParseError, ProtobufError, Series, Statement, parse_protobuf, parse_text,
};
use crate::telemetry::{Exemplar, Extras, Metadata, NativeHistogram, SampleBatch};

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

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
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

/// Which names a page may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamePolicy {
    /// Letters, digits and underscores, and colons in metrics' names (`metric_name_validation_scheme = "legacy"`).
    #[default]
    Legacy,
    /// Any UTF-8 (`metric_name_validation_scheme = "utf8"`).
    Utf8,
}

/// How pages are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whose labels count.
    pub labels: LabelPolicy,
    /// Whose times count.
    pub timestamps: TimestampPolicy,
    /// Which names there may be.
    pub names: NamePolicy,
    /// Whether series with a time of their own get a marker when they are gone (`track_timestamps_staleness`).
    pub tracks_timestamps: bool,
    /// Which form histograms are read in (`scrape_native_histograms`, `scrape_classic_histograms`).
    pub histograms: Histograms,
    /// Whether what is said of families goes with the samples (`honor_metadata`).
    pub metadata: bool,
    /// Buckets of a native histogram (`native_histogram_bucket_limit`).
    pub bucket_limit: usize,
    /// The finest schema of one (`native_histogram_min_bucket_factor`).
    pub schema_max: i32,
    /// Samples of one page; 0: no limit, as of all limits here.
    pub sample_limit: usize,
    /// Labels of one series, its name among them.
    pub label_limit: usize,
    /// Bytes of a label's name.
    pub label_name_length_limit: usize,
    /// Bytes of a label's value.
    pub label_value_length_limit: usize,
}

impl Default for Policy {
    /// Prometheus' defaults.
    fn default() -> Self {
        Policy {
            labels: LabelPolicy::Target,
            timestamps: TimestampPolicy::Page,
            names: NamePolicy::Legacy,
            tracks_timestamps: false,
            histograms: Histograms::Classic,
            metadata: false,
            bucket_limit: 0,
            schema_max: NativeHistogram::schema_of(0.0),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
        }
    }
}

/// Why a page was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// Not in the format that its content type says.
    #[error("cannot read the page: {0}")]
    Format(#[from] ParseError),
    /// Not the protobuf that its content type says.
    #[error("cannot read the page: {0}")]
    Protobuf(#[from] ProtobufError),
    /// More samples than allowed.
    #[error("the page has more than {0} samples (sample_limit)")]
    TooMany(usize),
    /// A native histogram has more buckets than allowed, even in the coarsest form.
    #[error("a histogram has more than {0} buckets (native_histogram_bucket_limit)")]
    Buckets(usize),
    /// A series has more labels, or longer ones, than allowed.
    #[error("{limit} exceeded: {found} > {allowed} in series {series}")]
    LabelLimit {
        /// The argument that sets the limit.
        limit: &'static str,
        /// What the series has.
        found: usize,
        /// What it may have.
        allowed: usize,
        /// The series, cut short.
        series: String,
    },
    /// A name that the validation scheme does not allow.
    #[error("a name in series {series} is not valid (metric_name_validation_scheme)")]
    Name {
        /// The series, cut short.
        series: String,
    },
    /// A rule has taken the name of a series away.
    #[error("a rule takes the name of a series away, of which {series} is left (metric_relabel_configs)")]
    Nameless {
        /// What is left, cut short.
        series: String,
    },
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
    pub(super) policy: Policy,
    pub(super) rules: &'a SeriesRules,
    pub(super) lane: u64,
    pub(super) slot_ms: i64,
}

impl Reading<'_> {
    /// The page's samples. All or nothing: after an error there are none.
    pub(super) fn read(&self, body: &[u8]) -> Result<SampleBatch, PageError> {
        self.read_all(body).map(|(batch, _)| batch)
    }

    /// The same, and how many samples there were before the rules.
    pub(super) fn read_all(&self, body: &[u8]) -> Result<(SampleBatch, usize), PageError> {
        let Some(relabeler) = self.rules.relabeler() else {
            return self.parse(body).map(|batch| {
                let samples = batch.len();
                (batch, samples)
            });
        };
        // The limits are for what the rules leave.
        let policy = Policy {
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            ..self.policy
        };
        let batch = Reading { policy, ..*self }.parse(body)?;
        let kept = relabeler.relabel(&batch, Instant::now());
        self.check(&kept)?;
        Ok((kept, batch.len()))
    }

    /// What is checked while a page is read, if there are no rules.
    fn check(&self, batch: &SampleBatch) -> Result<(), PageError> {
        let policy = &self.policy;
        if policy.sample_limit > 0 && batch.len() > policy.sample_limit {
            return Err(PageError::TooMany(policy.sample_limit));
        }
        for sample in batch.iter() {
            let series = || shown(&sample.labels.to_string());
            let (mut labels, mut name, mut value, mut is_named) = (0, 0, 0, false);
            for pair in sample.labels.iter() {
                labels += 1;
                (name, value) = (name.max(pair.0.len()), value.max(pair.1.len()));
                is_named |= pair.0 == "__name__";
            }
            if !is_named {
                return Err(PageError::Nameless { series: series() });
            }
            if let Some((limit, found, allowed)) = policy.exceeded(labels, name, value) {
                return Err(PageError::LabelLimit { limit, found, allowed, series: series() });
            }
        }
        Ok(())
    }

    fn parse<'b>(&self, body: &'b [u8]) -> Result<SampleBatch, PageError> {
        let mut batch = SampleBatch::new(self.lane);
        let mut failed = None;
        let mut metadata: Vec<Metadata> = Vec::new();
        let mut shapes = Shapes::new(self.target, self.policy.labels);
        let mut take = |item: Item<'_, 'b>| {
            let series = match item {
                Item::Series(series) => series,
                Item::Metadata(family, statement) => {
                    if self.policy.metadata {
                        note(&mut metadata, family, statement);
                    }
                    return;
                }
            };
            if failed.is_none() {
                failed = self.take(series, &mut batch, &mut shapes).err();
            }
        };
        match self.format {
            Format::Text(format) => parse_text(body, format, &mut take)?,
            Format::Protobuf => parse_protobuf(body, self.policy.histograms, &mut take)?,
        }
        metadata.into_iter().for_each(|metadata| batch.add_metadata(metadata));
        failed.map_or(Ok(batch), Err)
    }

    fn take<'b>(
        &self,
        series: Series<'_, 'b>,
        batch: &mut SampleBatch,
        shapes: &mut Shapes<'_, 'b>,
    ) -> Result<(), PageError> {
        let policy = &self.policy;
        if policy.sample_limit > 0 && batch.len() == policy.sample_limit {
            return Err(PageError::TooMany(policy.sample_limit));
        }
        if series.has_quoted_names && policy.names == NamePolicy::Legacy && !has_legacy_names(&series) {
            return Err(PageError::Name { series: shown(series.text) });
        }
        let timestamp_ms = match policy.timestamps {
            TimestampPolicy::Page => series.timestamp_ms.unwrap_or(self.slot_ms),
            TimestampPolicy::Slot => self.slot_ms,
        };
        let twice = |Twice(label)| PageError::LabelTwice { label, series: shown(series.text) };
        let shape = shapes.of(series.labels).map_err(twice)?;
        if let Some((limit, found, allowed)) = self.exceeded(shape, &series) {
            return Err(PageError::LabelLimit { limit, found, allowed, series: shown(series.text) });
        }
        shape.push(&series, batch);
        batch.push_value(timestamp_ms, series.value);
        if let Some(mut extras) = series.extras {
            extras.exemplars.retain(is_short);
            let limit = if policy.bucket_limit == 0 { usize::MAX } else { policy.bucket_limit };
            if let Some(histogram) = &mut extras.histogram
                && !histogram.coarsen(policy.schema_max, limit)
            {
                return Err(PageError::Buckets(limit));
            }
            if *extras != Extras::default() {
                batch.add_extras(*extras);
            }
        }
        Ok(())
    }

    /// The first of the labels' limits that is exceeded, what was found and what is allowed.
    fn exceeded(&self, shape: &Shape<'_>, series: &Series<'_, '_>) -> Option<(&'static str, usize, usize)> {
        let policy = &self.policy;
        let longest_value = if policy.label_value_length_limit == 0 {
            0
        } else {
            let of_page = series.labels.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
            of_page.max(shape.longest_target_value).max(series.name.len())
        };
        policy.exceeded(shape.labels, shape.longest_name, longest_value)
    }
}

impl Policy {
    /// The same of a series with so many labels, the longest name and the longest value.
    fn exceeded(&self, labels: usize, name: usize, value: usize) -> Option<(&'static str, usize, usize)> {
        let found = [
            ("label_limit", labels, self.label_limit),
            ("label_name_length_limit", name, self.label_name_length_limit),
            ("label_value_length_limit", value, self.label_value_length_limit),
        ];
        found.into_iter().find(|(_, found, allowed)| *allowed > 0 && found > allowed)
    }
}

/// Adds to what is known of a family. All that is said of one stands together.
fn note(metadata: &mut Vec<Metadata>, family: &str, statement: Statement<'_>) {
    if metadata.last().is_none_or(|last| last.family != family) {
        metadata.push(Metadata { family: family.to_owned(), ..Metadata::default() });
    }
    let Some(last) = metadata.last_mut() else { return };
    match statement {
        Statement::Type(metric_type) => last.metric_type = metric_type,
        Statement::Help(help) => last.help = help.into_owned(),
        Statement::Unit(unit) => last.unit = unit.to_owned(),
    }
}

/// Receivers refuse others: OpenMetrics allows 128 characters.
fn is_short(exemplar: &Exemplar) -> bool {
    const CHARACTERS_MAX: usize = 128;
    let characters = |(name, value): (&str, &str)| name.chars().count() + value.chars().count();
    exemplar.labels.iter().map(characters).sum::<usize>() <= CHARACTERS_MAX
}

/// A series for an error's text.
fn shown(series: &str) -> String {
    series.chars().take(120).collect()
}

/// Names without quotes are of the classic kind by their syntax.
fn has_legacy_names(series: &Series<'_, '_>) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = |name: &str| name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    let mut labels = series.labels.iter().map(|(name, _)| name);
    starts_well(series.name)
        && series.name.bytes().all(|byte| is_word(byte) || byte == b':')
        && labels.all(|name| starts_well(name) && name.bytes().all(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::TextFormat;

    fn read(page: &str, labels: LabelPolicy) -> Result<Vec<String>, String> {
        read_with(page, labels, Policy::default())
    }

    fn read_with(page: &str, labels: LabelPolicy, policy: Policy) -> Result<Vec<String>, String> {
        let target =
            TargetLabels::new([("job", "j"), ("instance", "i")].map(|(n, v)| (n.to_owned(), v.to_owned())));
        let reading = Reading {
            target: &target,
            format: Format::Text(TextFormat::Prometheus),
            policy: Policy { labels, sample_limit: 3, ..policy },
            rules: &SeriesRules::default(),
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

    #[test]
    fn labels_keep_to_their_limits() {
        let check =
            |page: &str, policy: Policy, expected: &str| match read_with(page, LabelPolicy::Target, policy) {
                Ok(_) => assert_eq!(expected, "", "{page}"),
                Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{page}: {error}"),
            };
        let labels = |label_limit| Policy { label_limit, ..Policy::default() };
        check("x{a=\"1\"} 1\n", labels(4), "");
        check("x{a=\"1\"} 1\n", labels(3), "label_limit exceeded: 4 > 3 in series x{a=");
        let names = |label_name_length_limit| Policy { label_name_length_limit, ..Policy::default() };
        check("x 1\n", names(8), "");
        check("x 1\n", names(7), "label_name_length_limit exceeded: 8 > 7");
        let values = |label_value_length_limit| Policy { label_value_length_limit, ..Policy::default() };
        check("x{a=\"123\"} 1\n", values(3), "");
        check("x{a=\"1234\"} 1\n", values(3), "label_value_length_limit exceeded: 4 > 3");
        check("abcd 1\n", values(3), "label_value_length_limit exceeded: 4 > 3");
    }

    #[test]
    fn names_of_the_new_kind_need_the_new_scheme() {
        let utf8 = Policy { names: NamePolicy::Utf8, ..Policy::default() };
        for page in ["{\"a.b\"} 1\n", "a{\"b.c\"=\"1\"} 1\n", "{\"é\",x=\"1\"} 1\n"] {
            assert!(
                read(page, LabelPolicy::Target).unwrap_err().contains("metric_name_validation_scheme"),
                "{page}"
            );
            assert_eq!(read_with(page, LabelPolicy::Target, utf8).unwrap().len(), 1, "{page}");
        }
        assert_eq!(read("{\"a:b\",\"c\"=\"1\"} 1\n", LabelPolicy::Target).unwrap().len(), 1);
    }

    #[test]
    fn native_histograms_are_made_coarser_or_refused() {
        let page = include_bytes!("../../../fuzz/seeds/exposition_protobuf/native_histogram");
        let target = TargetLabels::new([]);
        let read = |policy| {
            let policy = Policy { histograms: Histograms::Native, ..policy };
            let (format, lane, slot_ms) = (Format::Protobuf, 1, 5000);
            let rules = &SeriesRules::default();
            let batch = Reading { target: &target, format, policy, rules, lane, slot_ms }.read(page)?;
            let schema =
                batch.iter().next().and_then(|sample| sample.histogram()).map(|histogram| histogram.schema);
            Ok::<_, PageError>(schema)
        };
        assert_eq!(read(Policy::default()).expect("no limit"), Some(3));
        assert_eq!(read(Policy { schema_max: 1, ..Policy::default() }).expect("a factor"), Some(1));
        assert_eq!(read(Policy { bucket_limit: 3, ..Policy::default() }).expect("it has three"), Some(3));
        let error =
            read(Policy { bucket_limit: 2, ..Policy::default() }).expect_err("one lies on each side of 1");
        assert!(error.to_string().contains("native_histogram_bucket_limit"), "{error}");
    }
}
