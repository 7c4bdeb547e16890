//! What an endpoint has received: every sample, every line, and what is wrong with them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::messages::{PushRequest, Sample, TimeSeries, WriteRequest, WriteRequest2};
use super::now_unix_ms;
use crate::telemetry::Labels;

/// How often things happened. All counts only grow, until [`Receiver::clear`](super::Receiver::clear).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that arrived with their head, whatever became of them.
    pub requests: u64,
    /// Requests whose content was recorded, whatever was answered.
    pub recorded_requests: u64,
    /// Requests that broke a rule of their protocol: nothing of them was recorded, the answer was 400.
    pub malformed_requests: u64,
    /// Of the recorded requests those of remote-write 2.0.
    pub newer_requests: u64,
    /// Families that were described, apart from samples or with them; each as often as it came.
    pub metadata: u64,
    /// Samples.
    pub samples: u64,
    /// Series.
    pub series: u64,
    /// Samples whose series had a sample with the same timestamp already.
    pub duplicate_samples: u64,
    /// Those of them whose value was another.
    pub conflicting_samples: u64,
    /// Samples older than one that their series had already, duplicates aside.
    pub out_of_order_samples: u64,
    /// Lines.
    pub lines: u64,
    /// Streams.
    pub streams: u64,
    /// Lines that their stream had already: the same text, whatever the timestamp.
    pub doubled_lines: u64,
    /// Those of them that their stream had with the same timestamp: Loki drops them.
    pub repeated_lines: u64,
    /// Lines older than one that their stream had already.
    pub out_of_order_lines: u64,
}

/// Everything that was received, by series and by stream.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The samples by series.
    pub series: HashMap<Labels, SeriesRecord>,
    /// The lines by stream, under the labels as they were sent.
    pub streams: BTreeMap<String, StreamRecord>,
    /// Why the first requests that broke a rule were refused.
    pub complaints: Vec<String>,
    pub(super) counts: Counts,
}

/// The samples of one series.
#[derive(Debug, Default)]
pub struct SeriesRecord {
    /// In the order of their arrival.
    pub arrivals: Vec<SampleArrival>,
    newest_ms: Option<i64>,
}

/// A sample and when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleArrival {
    /// The sample's own time.
    pub timestamp_ms: i64,
    /// The bits of its value, see [`f64::from_bits`].
    pub value_bits: u64,
    /// When it arrived, in milliseconds since the Unix epoch.
    pub arrived_unix_ms: i64,
}

/// The lines of one stream.
#[derive(Debug, Default)]
pub struct StreamRecord {
    /// In the order of their arrival.
    pub arrivals: Vec<LineArrival>,
    /// Hashes of the texts: 64 bits do not collide by chance in what a test sends.
    seen: HashSet<u64>,
    /// The same with their timestamps.
    seen_at: HashSet<u64>,
    newest_ns: Option<i64>,
}

/// A line as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineArrival {
    /// The line's own time, in nanoseconds since the Unix epoch.
    pub timestamp_ns: i64,
    /// The line.
    pub line: Box<str>,
}

impl SampleArrival {
    /// The value.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.value_bits)
    }
}

impl Recorded {
    /// How often things happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The series that have all these labels.
    pub fn series_with<'r>(
        &'r self,
        labels: &'r [(&'r str, &'r str)],
    ) -> impl Iterator<Item = (&'r Labels, &'r SeriesRecord)> {
        self.series
            .iter()
            .filter(move |(series, _)| labels.iter().all(|(name, value)| series.get(name) == Some(value)))
    }

    /// Records a request, or says which rule it breaks.
    pub(super) fn record_write(&mut self, request: WriteRequest) -> Result<(), String> {
        let series = request.timeseries.into_iter().map(checked_series).collect::<Result<_, String>>()?;
        self.counts.metadata += request.metadata.len() as u64;
        self.record_series(series);
        Ok(())
    }

    /// Records what keeps to the rules, as receivers of remote-write 2.0 do: returns how many samples that were, and says which rule
    /// the rest breaks.
    pub(super) fn record_write_2(&mut self, request: &WriteRequest2) -> (usize, Result<(), String>) {
        let series = match request.resolved() {
            Ok(resolved) => resolved.timeseries,
            Err(complaint) => return (0, Err(complaint)),
        };
        let (sound, broken): (Vec<_>, Vec<_>) =
            series.into_iter().map(checked_series).partition(Result::is_ok);
        let sound: Vec<_> = sound.into_iter().flatten().collect();
        let written = sound.iter().map(|(_, samples)| samples.len()).sum();
        if written > 0 {
            let described = request.timeseries.iter().filter(|series| series.metadata.is_some());
            self.counts.metadata += described.count() as u64;
            self.counts.newer_requests += 1;
            self.record_series(sound);
        }
        (written, broken.into_iter().find_map(Result::err).map_or(Ok(()), Err))
    }

    fn record_series(&mut self, series: Vec<(Labels, Vec<Sample>)>) {
        let arrived_unix_ms = now_unix_ms();
        for (labels, samples) in series {
            let record = self.series.entry(labels).or_default();
            for sample in samples {
                record.add(
                    SampleArrival {
                        timestamp_ms: sample.timestamp,
                        value_bits: sample.value.to_bits(),
                        arrived_unix_ms,
                    },
                    &mut self.counts,
                );
            }
        }
        self.counts.series = self.series.len() as u64;
        self.counts.recorded_requests += 1;
    }

    /// Records a request, or says which rule it breaks.
    pub(super) fn record_push(&mut self, request: PushRequest) -> Result<(), String> {
        let mut streams = Vec::new();
        for stream in request.streams {
            if !(stream.labels.starts_with('{') && stream.labels.ends_with('}')) {
                return Err(format!("labels {:?} are no label set", stream.labels));
            }
            let mut lines = Vec::with_capacity(stream.entries.len());
            for entry in stream.entries {
                let timestamp = entry.timestamp.ok_or("an entry has no timestamp")?;
                let timestamp_ns = timestamp
                    .seconds
                    .checked_mul(1_000_000_000)
                    .and_then(|seconds_ns| seconds_ns.checked_add(timestamp.nanos.into()))
                    .filter(|_| (0..1_000_000_000).contains(&timestamp.nanos))
                    .ok_or_else(|| format!("{timestamp:?} is no timestamp"))?;
                lines.push(LineArrival { timestamp_ns, line: entry.line.into() });
            }
            streams.push((stream.labels, lines));
        }
        for (labels, lines) in streams {
            let record = self.streams.entry(labels).or_default();
            for line in lines {
                record.add(line, &mut self.counts);
            }
        }
        self.counts.streams = self.streams.len() as u64;
        self.counts.recorded_requests += 1;
        Ok(())
    }

    /// Counts a request that broke a rule.
    pub(super) fn complain(&mut self, complaint: String) {
        /// The first ones tell what is wrong; the rest is counted.
        const COMPLAINTS_MAX: usize = 20;
        self.counts.malformed_requests += 1;
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }
}

impl SeriesRecord {
    fn add(&mut self, arrival: SampleArrival, counts: &mut Counts) {
        counts.samples += 1;
        // Samples normally come in order, so the search for an equal timestamp is the exception.
        if self.newest_ms.is_some_and(|newest| arrival.timestamp_ms <= newest) {
            let same_time = |other: &&SampleArrival| other.timestamp_ms == arrival.timestamp_ms;
            match self.arrivals.iter().rev().find(same_time) {
                Some(other) => {
                    counts.duplicate_samples += 1;
                    counts.conflicting_samples += u64::from(other.value_bits != arrival.value_bits);
                }
                None => counts.out_of_order_samples += 1,
            }
        }
        self.newest_ms = self.newest_ms.max(Some(arrival.timestamp_ms));
        self.arrivals.push(arrival);
    }
}

impl StreamRecord {
    fn add(&mut self, arrival: LineArrival, counts: &mut Counts) {
        counts.lines += 1;
        let hash = twox_hash::XxHash64::oneshot(0, arrival.line.as_bytes());
        counts.doubled_lines += u64::from(!self.seen.insert(hash));
        let hash = twox_hash::XxHash64::oneshot(arrival.timestamp_ns as u64, arrival.line.as_bytes());
        counts.repeated_lines += u64::from(!self.seen_at.insert(hash));
        counts.out_of_order_lines +=
            u64::from(self.newest_ns.is_some_and(|newest| arrival.timestamp_ns < newest));
        self.newest_ns = self.newest_ns.max(Some(arrival.timestamp_ns));
        self.arrivals.push(arrival);
    }
}

fn checked_series(series: TimeSeries) -> Result<(Labels, Vec<Sample>), String> {
    Ok((checked_labels(&series.labels)?, series.samples))
}

/// Remote write demands labels sorted by name, no name twice, none empty, and a metric name.
fn checked_labels(labels: &[super::messages::Label]) -> Result<Labels, String> {
    let sorted = labels.windows(2).all(|pair| pair[0].name < pair[1].name);
    let filled = labels.iter().all(|label| !label.name.is_empty() && !label.value.is_empty());
    let named = labels.iter().any(|label| label.name == "__name__");
    if !(sorted && filled && named) {
        return Err(format!("labels are not sorted, repeated, empty or without a metric name: {labels:?}"));
    }
    Ok(Labels::new(labels.iter().map(|label| (&label.name, &label.value))))
}
