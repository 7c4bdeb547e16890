//! A batch of samples: one scrape of one target.

use super::labels::{LabelsRef, push_pair};

/// The value that marks a series as gone, by its exact bits (Prometheus `value.StaleNaN`).
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Samples with their label sets in one buffer. The samples of one batch are delivered together, in this order.
#[derive(Debug, Clone, Default)]
pub struct SampleBatch {
    packed: Vec<u8>,
    samples: Vec<Packed>,
    lane: u64,
}

#[derive(Debug, Clone, Copy)]
struct Packed {
    labels_end: u32,
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
    /// Its value; [`STALE_NAN`] by its bits ends the series.
    pub value: f64,
}

impl SampleBatch {
    /// An empty batch. Batches of one lane (the target's key) are delivered in the order in which they were made.
    pub fn new(lane: u64) -> Self {
        SampleBatch { lane, ..SampleBatch::default() }
    }

    /// An empty batch of the same lane with room for as much.
    pub fn with_room_of(other: &SampleBatch) -> Self {
        let (packed, samples) = (Vec::with_capacity(other.packed.len()), Vec::with_capacity(other.len()));
        SampleBatch { packed, samples, lane: other.lane }
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

    /// Adds a sample of a series that is packed already.
    pub fn push_labels(&mut self, labels: LabelsRef<'_>, timestamp_ms: i64, value: f64) {
        self.packed.extend_from_slice(labels.packed());
        self.close(timestamp_ms, value);
    }

    fn close(&mut self, timestamp_ms: i64, value: f64) {
        let labels_end =
            u32::try_from(self.packed.len()).expect("a scrape's body is limited far below 4 GiB");
        self.samples.push(Packed { labels_end, timestamp_ms, value });
    }

    /// The samples, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Sample<'_>> {
        let mut start = 0;
        self.samples.iter().map(move |sample| {
            let end = sample.labels_end as usize;
            let labels = LabelsRef::from_packed(&self.packed[start..end]);
            start = end;
            Sample { labels, timestamp_ms: sample.timestamp_ms, value: sample.value }
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
}
