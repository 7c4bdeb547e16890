//! Deltas are added up: what Prometheus has are totals.
//!
//! What a message adds is kept apart until its samples are in custody: a message that is refused and sent again counts once. So does
//! one that was taken although its sender does not know it: a point as old as the last one is that one again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::exponential::Exponential;

/// Eight bytes each, of all streams together 128 MiB: 600,000 sums, or half as many histograms of ten buckets.
const CELLS_MAX: usize = 16 << 20;
/// What a stream takes beside its numbers: its place in the table.
const CELLS_OF_STREAM: usize = 24;

/// The total of one stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Total {
    Sum(f64),
    Explicit(Explicit),
    Exponential(Exponential),
}

/// The data point of a histogram.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Explicit {
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) counts: Vec<u64>,
    pub(super) bounds: Vec<f64>,
}

impl Total {
    /// With a delta; where the two have different buckets the stream begins anew, which a reader sees as a reset.
    fn plus(&self, delta: Total) -> Total {
        match (self, &delta) {
            (Total::Sum(total), Total::Sum(delta)) => Total::Sum(total + delta),
            (Total::Explicit(total), Total::Explicit(delta)) if total.bounds == delta.bounds => {
                let counts = total.counts.iter().zip(&delta.counts);
                Total::Explicit(Explicit {
                    count: total.count.saturating_add(delta.count),
                    sum: total.sum.zip(delta.sum).map(|(total, delta)| total + delta),
                    counts: counts.map(|(total, delta)| total.saturating_add(*delta)).collect(),
                    bounds: total.bounds.clone(),
                })
            }
            (Total::Exponential(total), Total::Exponential(part)) => {
                total.plus(part).map_or(delta, Total::Exponential)
            }
            _ => delta,
        }
    }

    fn cells(&self) -> usize {
        CELLS_OF_STREAM
            + match self {
                Total::Sum(_) => 1,
                Total::Explicit(total) => total.counts.len() + total.bounds.len(),
                Total::Exponential(total) => total.buckets.iter().map(|side| side.counts.len()).sum(),
            }
    }
}

#[derive(Debug, Clone)]
struct Stream {
    last_ns: u64,
    seen: Instant,
    total: Total,
}

/// All streams, each by the hash of its labels.
#[derive(Debug, Default)]
pub struct Deltas {
    streams: HashMap<u64, Stream>,
    cells: usize,
}

/// What one message adds.
#[derive(Debug, Default)]
pub struct Additions {
    streams: HashMap<u64, Option<Stream>>,
    cells: usize,
}

impl Deltas {
    /// What a stream comes to with this delta, or why it can't be added.
    pub(super) fn add<'a>(
        &self,
        additions: &'a mut Additions,
        (key, time_ns): (u64, u64),
        delta: Total,
        now: Instant,
    ) -> Result<&'a Total, &'static str> {
        let before = match additions.streams.get(&key) {
            Some(added) => added.as_ref(),
            None => self.streams.get(&key),
        };
        let total = match before {
            Some(before) if time_ns < before.last_ns => {
                return Err("a delta is older than the one before it");
            }
            Some(before) if time_ns == before.last_ns => before.total.clone(),
            Some(before) => before.total.plus(delta),
            None if self.cells + additions.cells + delta.cells() > CELLS_MAX => {
                return Err("there are more streams of deltas than are added up");
            }
            None => delta,
        };
        additions.cells += total.cells().saturating_sub(before.map_or(0, |before| before.total.cells()));
        let stream =
            additions.streams.entry(key).insert_entry(Some(Stream { last_ns: time_ns, seen: now, total }));
        Ok(&stream.into_mut().as_ref().expect("just inserted").total)
    }

    /// Ends a stream.
    pub(super) fn end(additions: &mut Additions, key: u64) {
        additions.streams.insert(key, None);
    }

    /// From now on the additions count.
    pub fn commit(&mut self, additions: Additions) {
        for (key, stream) in additions.streams {
            self.cells += stream.as_ref().map_or(0, |stream| stream.total.cells());
            let before = match stream {
                Some(stream) => self.streams.insert(key, stream),
                None => self.streams.remove(&key),
            };
            self.cells -= before.map_or(0, |before| before.total.cells());
        }
    }

    /// Forgets what was not heard of for so long: if it is heard of again, it begins at zero.
    pub fn forget(&mut self, now: Instant, age: Duration) {
        self.streams.retain(|_, stream| now.saturating_duration_since(stream.seen) <= age);
        self.cells = self.streams.values().map(|stream| stream.total.cells()).sum();
    }

    /// How many streams are known.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

impl Additions {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_stream_is_refused_when_there_is_no_room_and_a_known_one_goes_on() {
        let (mut deltas, now) = (Deltas::default(), Instant::now());
        let mut additions = Additions::default();
        assert_eq!(deltas.add(&mut additions, (1, 1), Total::Sum(1.0), now), Ok(&Total::Sum(1.0)));
        deltas.commit(additions);
        assert_eq!(deltas.cells, CELLS_OF_STREAM + 1);
        deltas.cells = CELLS_MAX;
        let mut additions = Additions::default();
        let refused = deltas.add(&mut additions, (2, 1), Total::Sum(1.0), now);
        assert_eq!(refused, Err("there are more streams of deltas than are added up"));
        assert_eq!(deltas.add(&mut additions, (1, 2), Total::Sum(1.0), now), Ok(&Total::Sum(2.0)));
        Deltas::end(&mut additions, 1);
        deltas.commit(additions);
        assert_eq!((deltas.cells, deltas.len()), (CELLS_MAX - CELLS_OF_STREAM - 1, 0));
    }
}
