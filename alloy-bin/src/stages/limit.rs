//! `stage.limit`: so many lines in a second, with bursts. The rest waits, or is dropped.
//!
//! The one stage that remembers. Its clock is the batch's; what a refused batch has taken is given back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The stage's arguments, and what is left of them.
#[derive(Debug)]
pub struct Limit {
    rate: f64,
    burst: f64,
    drop: bool,
    by_label: Option<String>,
    labels_max: usize,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Below zero: lines that wait.
    tokens: f64,
    at_ns: i64,
    dropped: u64,
}

/// What was taken of a bucket.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Taken {
    pub(super) value: String,
    pub(super) lines: u32,
}

/// What becomes of a line.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Passes,
    Waits(Duration),
    Drops,
}

/// Fewer labels than that would only forget limits.
const LABELS_MIN: usize = 10_000;

impl Limit {
    /// `by_label`: each value of that label has a limit of its own. The error is for people.
    pub fn new(
        rate: f64,
        burst: usize,
        drop: bool,
        by_label: Option<String>,
        labels_max: usize,
    ) -> Result<Self, String> {
        if rate.is_nan() || rate <= 0.0 || burst == 0 {
            return Err("rate and burst must be above zero".to_owned());
        }
        if by_label.is_some() && !drop {
            return Err("by_label_name needs drop = true: a stream cannot wait while others go on".to_owned());
        }
        let labels_max = labels_max.max(LABELS_MIN);
        Ok(Limit { rate, burst: burst as f64, drop, by_label, labels_max, buckets: Mutex::default() })
    }

    /// The label whose values have limits of their own.
    pub(super) fn by_label(&self) -> Option<&str> {
        self.by_label.as_deref()
    }

    pub(super) fn take(&self, value: &str, now_ns: i64) -> Verdict {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(value) {
            if buckets.len() >= self.labels_max {
                // Those that are full again would begin anew all the same.
                buckets.retain(|_, bucket| bucket.tokens_at(now_ns, self.rate, self.burst) < self.burst);
            }
            if buckets.len() >= self.labels_max {
                buckets.clear();
            }
            let fresh = Bucket { tokens: self.burst, at_ns: now_ns, dropped: 0 };
            buckets.insert(value.to_owned(), fresh);
        }
        let Some(bucket) = buckets.get_mut(value) else { return Verdict::Passes };
        bucket.tokens = bucket.tokens_at(now_ns, self.rate, self.burst);
        bucket.at_ns = bucket.at_ns.max(now_ns);
        if self.drop && bucket.tokens < 1.0 {
            bucket.dropped += 1;
            return Verdict::Drops;
        }
        bucket.tokens -= 1.0;
        if bucket.tokens >= 0.0 {
            return Verdict::Passes;
        }
        Verdict::Waits(Duration::try_from_secs_f64(-bucket.tokens / self.rate).unwrap_or(Duration::MAX))
    }

    /// The batch was refused.
    pub(super) fn give_back(&self, taken: &Taken) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(&taken.value) {
            bucket.tokens = (bucket.tokens + f64::from(taken.lines)).min(self.burst);
        }
    }

    /// Lines dropped, by label and its value.
    pub(super) fn dropped(&self) -> Vec<(String, u64)> {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = buckets.iter().map(|(value, bucket)| (value.clone(), bucket.dropped)).collect();
        all.sort_unstable();
        all
    }
}

impl Bucket {
    fn tokens_at(&self, now_ns: i64, rate: f64, burst: f64) -> f64 {
        let elapsed_ns = now_ns.saturating_sub(self.at_ns).max(0);
        (self.tokens + elapsed_ns as f64 / 1e9 * rate).min(burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_then_lines_come_at_the_rate() {
        let limit = Limit::new(2.0, 3, true, None, 0).unwrap();
        let passes = |now_ns| limit.take("", now_ns) == Verdict::Passes;
        assert_eq!([0; 5].map(passes), [true, true, true, false, false]);
        assert_eq!([SECOND; 4].map(passes), [true, true, false, false]);
        assert_eq!([0; 2].map(passes), [false; 2], "an older clock gives nothing");
        limit.give_back(&Taken { value: String::new(), lines: 2 });
        assert_eq!([SECOND; 3].map(passes), [true, true, false]);
        assert_eq!(limit.dropped(), [(String::new(), 7)]);
    }

    #[test]
    fn without_drop_lines_wait_for_their_turn() {
        let limit = Limit::new(10.0, 1, false, None, 0).unwrap();
        let wait = |millis| Verdict::Waits(Duration::from_millis(millis));
        assert_eq!([0; 3].map(|now| limit.take("", now)), [Verdict::Passes, wait(100), wait(200)]);
    }
}
