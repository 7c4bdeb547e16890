//! `clustering { fallback = true }`: a target that its owner cannot scrape, and another member can.
//!
//! After three failures in a row the owner asks the next in rank, which scrapes the target once, out of turn and for nothing. Only if
//! that succeeds the target moves, by the same hand-over as always: the stand-in takes the next slot. Meanwhile its owner
//! tries it once an interval, and takes it back as soon as that succeeds. A target that nobody can scrape never moves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Scraper;
use crate::ownership::Keeper;
use crate::scraping;

/// Failures in a row before another member is asked.
const FAILURES: u32 = 3;
/// The others are asked again after twice as many failures each time, and in the end after so many times as many.
const ROUNDS_MAX: u32 = 16;
/// How often the arguments are looked at where there is no fallback.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Scrapes out of turn at a time; the other keys wait for the next interval.
const TRIES_MAX: usize = 64;

/// Failures of one target in a row.
pub(super) struct Failures {
    key: u64,
    keeper: Keeper,
    url: Arc<str>,
    count: AtomicU32,
}

impl Failures {
    pub(super) fn new(key: u64, keeper: Keeper, url: Arc<str>) -> Self {
        Failures { key, keeper, url, count: AtomicU32::new(0) }
    }

    /// The outcome of a slot.
    pub(super) fn note(&self, is_up: bool) {
        if is_up {
            return self.count.store(0, Ordering::Relaxed);
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let Some(attempt) = attempt(count) else { return };
        if let Some(asked) = self.keeper.cannot(self.key, attempt) {
            tracing::info!(target = %self.url, asked, "another member is asked to scrape a target");
        }
    }
}

/// For the how manieth time the others are asked after so many failures in a row.
fn attempt(failures: u32) -> Option<usize> {
    let rounds = failures / FAILURES;
    let is_due = failures.is_multiple_of(FAILURES)
        && (rounds.is_power_of_two() || rounds > ROUNDS_MAX && rounds.is_multiple_of(ROUNDS_MAX));
    let doublings = rounds.min(ROUNDS_MAX).checked_ilog2()?;
    is_due.then(|| (doublings + (rounds / ROUNDS_MAX).saturating_sub(1)) as usize)
}

/// Scrapes out of turn: of targets that another member cannot scrape, and of those that others scrape for this one.
pub(super) struct Fallback<'a> {
    scrape: &'a Scraper,
    tries: JoinSet<(u64, bool)>,
    waiting: BTreeSet<u64>,
    look_again: Instant,
}

impl<'a> Fallback<'a> {
    pub(super) fn new(scrape: &'a Scraper) -> Self {
        Fallback { scrape, tries: JoinSet::new(), waiting: BTreeSet::new(), look_again: Instant::now() }
    }

    /// Tries one target.
    pub(super) fn try_one(&mut self, key: u64) {
        self.waiting.insert(key);
        self.begin();
    }

    /// Goes on with what there is to try, once. Cancelling it is safe.
    pub(super) async fn work(&mut self) {
        tokio::select! {
            Some(tried) = self.tries.join_next() => {
                if let Ok((key, true)) = tried {
                    self.succeeded(key);
                }
            }
            () = tokio::time::sleep_until(self.look_again) => {
                let plan = self.scrape.current();
                self.look_again = Instant::now() + plan.fallback.unwrap_or(LOOK_AGAIN);
                if plan.fallback.is_some() {
                    self.waiting.extend(self.scrape.shard.lent());
                }
            }
        }
        self.begin();
    }

    fn begin(&mut self) {
        let plan = self.scrape.current();
        while self.tries.len() < TRIES_MAX
            && let Some(key) = self.waiting.pop_first()
        {
            // Without the argument here, this node is not asked.
            let Some((spec, way)) = plan.targets.get(&key).filter(|_| plan.fallback.is_some()).cloned()
            else {
                continue;
            };
            let (settings, fetcher) = (way.settings.clone(), way.fetcher.clone());
            self.tries.spawn(async move { (key, scraping::can_scrape(spec, settings, fetcher).await) });
        }
    }

    fn succeeded(&self, key: u64) {
        if self.scrape.shard.can(key)
            && let Some((spec, _)) = self.scrape.current().targets.get(&key)
        {
            tracing::info!(target = %spec.url, "this member can scrape a target, and takes it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_asked_after_three_failures_and_then_ever_more_rarely() {
        let asked: Vec<(u32, usize)> =
            (1..=200).filter_map(|failures| Some((failures, attempt(failures)?))).collect();
        let expected = [(3, 0), (6, 1), (12, 2), (24, 3), (48, 4), (96, 5), (144, 6), (192, 7)];
        assert_eq!(asked, expected);
    }
}
