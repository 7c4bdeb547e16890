//! How the logs' lag was in the last hour: a point every ten seconds, taken from the agent's own figures.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::super::routes::State;

const INTERVAL: Duration = Duration::from_secs(10);
const POINTS: usize = 360;

/// For each log by its labels: bytes that are not delivered, oldest first.
#[derive(Default)]
pub struct LagHistory(Mutex<BTreeMap<String, VecDeque<f64>>>);

impl LagHistory {
    /// Looks at the figures until it is dropped.
    pub async fn follow(state: &State) {
        loop {
            state.lag.note(&state.figures().series("alloy_wal_lag_bytes"));
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn note(&self, lags: &[(String, f64)]) {
        let mut all = self.lock();
        all.retain(|labels, _| lags.iter().any(|(known, _)| known == labels));
        for (labels, bytes) in lags {
            let points = all.entry(labels.clone()).or_default();
            if points.len() == POINTS {
                points.pop_front();
            }
            points.push_back(*bytes);
        }
    }

    pub(super) fn of(&self, labels: &str) -> Vec<f64> {
        self.lock().get(labels).map(|points| points.iter().copied().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<f64>>> {
        self.0.lock().expect("no code panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hour_is_kept_of_logs_that_are_there() {
        let history = LagHistory::default();
        for point in 0..POINTS + 5 {
            history.note(&[("a".to_owned(), point as f64), ("b".to_owned(), 1.0)]);
        }
        assert_eq!((history.of("a").len(), history.of("a")[0]), (POINTS, 5.0));
        history.note(&[("a".to_owned(), 0.0)]);
        assert!(history.of("b").is_empty());
    }
}
