//! A batch of samples: one scrape of one target.

use super::labels::{LabelName, Labels, LabelsRef, push_pair};
use super::metadata::Metadata;
use super::native_histogram::NativeHistogram;

/// The value that marks a series as gone, by its exact bits (Prometheus `value.StaleNaN`).
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Samples with their label sets in one buffer. The samples of one batch are delivered together, in this order.
#[derive(Debug, Clone, Default)]
pub struct SampleBatch {
    packed: Vec<u8>,
    samples: Vec<Packed>,
    extras: Vec<Extras>,
    metadata: Vec<Metadata>,
    lane: u64,
}

#[derive(Debug, Clone, Copy)]
struct Packed {
    labels_end: u32,
    /// Of the batch's extras, counted from 1. It stands where there would be padding, so plain samples do not pay for it.
    extras: u32,
    timestamp_ms: i64,
    value: f64,
}

/// One sample in a batch.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The series, `__name__` included.
    pub labels: LabelsRef<'a>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Its value; [`STALE_NAN`] by its bits ends the series. Of a native histogram, its sum.
    pub value: f64,
    /// What few samples have.
    pub extras: Option<&'a Extras>,
}

/// What few samples have beside a value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extras {
    /// Then the sample is this and no number.
    pub histogram: Option<NativeHistogram>,
    /// Single observations behind the sample.
    pub exemplars: Vec<Exemplar>,
}

/// One observation, with labels that lead to it: the id of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// At most 128 characters, all names and values together.
    pub labels: Labels,
    /// What was observed.
    pub value: f64,
    /// When; `None`: at the sample's time.
    pub timestamp_ms: Option<i64>,
}

impl<'a> Sample<'a> {
    /// The native histogram that it is, if it is one.
    pub fn histogram(&self) -> Option<&'a NativeHistogram> {
        self.extras?.histogram.as_ref()
    }
}

impl SampleBatch {
    /// An empty batch. Batches of one lane (the target's key) are delivered in the order in which they were made.
    pub fn new(lane: u64) -> Self {
        SampleBatch { lane, ..SampleBatch::default() }
    }

    /// A batch of the same lane and families without a sample yet, with room for as many.
    pub fn with_room_of(other: &SampleBatch) -> Self {
        let (packed, samples) = (Vec::with_capacity(other.packed.len()), Vec::with_capacity(other.len()));
        SampleBatch {
            packed,
            samples,
            extras: Vec::new(),
            metadata: other.metadata.clone(),
            lane: other.lane,
        }
    }

    /// What keeps order among batches: the target's key.
    pub fn lane(&self) -> u64 {
        self.lane
    }

    /// Adds a sample. The pairs come sorted by name, no name twice, no empty value.
    pub fn push<'l>(
        &mut self,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        timestamp_ms: i64,
        value: f64,
    ) {
        for (name, text) in labels {
            push_pair(&mut self.packed, name, text);
        }
        self.close(timestamp_ms, value);
    }

    /// Adds a label to the sample that is added next by [`push_value`](SampleBatch::push_value). They come sorted by name,
    /// no name twice, no empty value.
    pub fn push_label(&mut self, name: &LabelName, value: &str) {
        name.push_pair(&mut self.packed, value);
    }

    /// The same with several labels at once.
    pub fn push_labels(&mut self, labels: LabelsRef<'_>) {
        self.packed.extend_from_slice(labels.packed());
    }

    /// Adds a sample with the labels that were added since the last one.
    pub fn push_value(&mut self, timestamp_ms: i64, value: f64) {
        self.close(timestamp_ms, value);
    }

    /// Adds a sample under the name of another series: all that it has beside its labels stays.
    pub fn push_as(&mut self, labels: LabelsRef<'_>, sample: &Sample<'_>) {
        self.packed.extend_from_slice(labels.packed());
        self.close(sample.timestamp_ms, sample.value);
        if let Some(extras) = sample.extras {
            self.add_extras(extras.clone());
        }
    }

    fn close(&mut self, timestamp_ms: i64, value: f64) {
        let labels_end =
            u32::try_from(self.packed.len()).expect("a scrape's body is limited far below 4 GiB");
        self.samples.push(Packed { labels_end, extras: 0, timestamp_ms, value });
    }

    /// Says more of the sample that was added last.
    ///
    /// # Panics
    /// In a batch without samples.
    pub fn add_extras(&mut self, extras: Extras) {
        let last = self.samples.last_mut().expect("a sample was added before");
        self.extras.push(extras);
        last.extras = u32::try_from(self.extras.len()).expect("no more extras than samples");
    }

    /// Says something of a family.
    pub fn add_metadata(&mut self, metadata: Metadata) {
        self.metadata.push(metadata);
    }

    /// What is said of the samples' families, if anything.
    pub fn metadata(&self) -> &[Metadata] {
        &self.metadata
    }

    /// The samples, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Sample<'_>> {
        let mut start = 0;
        self.samples.iter().map(move |sample| {
            let end = sample.labels_end as usize;
            let labels = LabelsRef::from_packed(&self.packed[start..end]);
            start = end;
            let extras = (sample.extras as usize).checked_sub(1).map(|index| &self.extras[index]);
            Sample { labels, timestamp_ms: sample.timestamp_ms, value: sample.value, extras }
        })
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_as_they_were_pushed() {
        let mut batch = SampleBatch::new(7);
        batch.push([("__name__", "up"), ("job", "a")], 10, 1.0);
        batch.push([("__name__", "x")], 11, f64::NAN);
        let seen: Vec<_> =
            batch.iter().map(|s| (s.labels.to_string(), s.timestamp_ms, s.value.to_bits())).collect();
        assert_eq!(seen[0], (r#"{__name__="up", job="a"}"#.to_owned(), 10, 1f64.to_bits()));
        assert_eq!(seen[1], (r#"{__name__="x"}"#.to_owned(), 11, f64::NAN.to_bits()));
    }

    #[test]
    fn extras_stay_with_their_sample_and_cost_others_nothing() {
        assert_eq!(size_of::<Packed>(), 24);
        let exemplar = Exemplar { labels: Labels::new([("id", "7")]), value: 0.5, timestamp_ms: None };
        let extras = Extras { exemplars: vec![exemplar], histogram: None };
        let mut batch = SampleBatch::new(7);
        batch.push([("__name__", "a")], 10, 1.0);
        batch.push([("__name__", "b")], 10, 2.0);
        batch.add_extras(extras.clone());
        batch.push([("__name__", "c")], 10, 3.0);
        let mut renamed = SampleBatch::with_room_of(&batch);
        for sample in batch.iter().skip(1) {
            renamed.push_as(Labels::new([("__name__", "x")]).as_ref(), &sample);
        }
        let of = |batch: &SampleBatch| batch.iter().map(|sample| sample.extras.cloned()).collect::<Vec<_>>();
        assert_eq!(of(&batch), [None, Some(extras.clone()), None]);
        assert_eq!(of(&renamed), [Some(extras), None]);
    }
}
