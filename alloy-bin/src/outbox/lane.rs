//! One request in flight: takes records in order, splices them into requests, repeats each until it is taken.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Outcome};
use super::custody::{Custody, now_ms};
use super::figures::add;
use super::options::{Options, Retry};
use super::{Piece, Rejection};

/// A record on its way.
pub(super) struct Pending {
    pub(super) position: u64,
    pub(super) piece: Piece,
    /// When it came into the lane.
    pub(super) since: Instant,
    /// Its share of the sender's memory, given back when it is acknowledged.
    pub(super) _room: OwnedSemaphorePermit,
}

/// The queue of one lane. Bounded by the sender's memory, not by itself.
#[derive(Default)]
pub(super) struct Lane {
    queue: Mutex<VecDeque<Pending>>,
    changed: Notify,
}

impl Lane {
    pub(super) fn push(&self, pending: Pending) {
        self.queue.lock().expect("no code panics while holding it").push_back(pending);
        self.changed.notify_one();
    }

    /// Looks again: somebody waits, and nothing should wait to fill up.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Sends what comes until `closing`, and then what it is sending.
    pub(super) async fn run(
        &self,
        custody: &Custody,
        client: &Client,
        options: &Options,
        hurrying: &AtomicUsize,
        closing: &CancellationToken,
    ) {
        while let Some(batch) = closing.run_until_cancelled(self.next_batch(options, hurrying)).await {
            deliver(batch, custody, client, options).await;
        }
    }

    /// Waits until there is a full request, or the oldest record has waited long enough.
    async fn next_batch(&self, options: &Options, hurrying: &AtomicUsize) -> Vec<Pending> {
        loop {
            let wait = match self.take(options, hurrying.load(Ordering::Relaxed) > 0) {
                Taken::Batch(batch) => return batch,
                Taken::Until(deadline) => deadline,
            };
            match wait {
                Some(deadline) => {
                    let _ = tokio::time::timeout_at(deadline, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    fn take(&self, options: &Options, hurry: bool) -> Taken {
        let batching = &options.batching;
        let mut queue = self.queue.lock().expect("no code panics while holding it");
        let Some(oldest) = queue.front() else { return Taken::Until(None) };
        let deadline = oldest.since + batching.deadline;
        let (mut count, mut items, mut bytes) = (0, 0, 0);
        for pending in queue.iter() {
            items += pending.piece.items as usize;
            bytes += (batching.weigh)(&pending.piece.body);
            if count > 0 && (items > batching.max_items || bytes > batching.max_bytes) {
                return Taken::Batch(queue.drain(..count).collect());
            }
            count += 1;
        }
        let full = items >= batching.max_items || bytes >= batching.max_bytes;
        if full || hurry || Instant::now() >= deadline {
            return Taken::Batch(queue.drain(..).collect());
        }
        Taken::Until(Some(deadline))
    }
}

enum Taken {
    Batch(Vec<Pending>),
    Until(Option<Instant>),
}

/// Sends the records until the endpoint has taken or refused each. A request that is refused for what is in it is taken
/// apart and sent record by record, so that a bad record costs only itself.
async fn deliver(mut batch: Vec<Pending>, custody: &Custody, client: &Client, options: &Options) {
    let Err(refused) = send(&mut batch, custody, client, options).await else { return };
    if batch.len() == 1 || !refused.reason.is_about_content() {
        return give_up(&batch, &refused, custody, options);
    }
    for pending in batch {
        let mut single = vec![pending];
        if let Err(refused) = send(&mut single, custody, client, options).await {
            give_up(&single, &refused, custody, options);
        }
    }
}

/// Why the endpoint will never take a request.
struct Refused {
    why: String,
    reason: Rejection,
}

/// Counts, and says it now and then: an endpoint that refuses everything does so for hours.
fn give_up(batch: &[Pending], refused: &Refused, custody: &Custody, options: &Options) {
    let items = items(batch);
    custody.figures().rejected(items, refused.reason);
    if custody.rejection_said.is_due() {
        tracing::warn!(
            endpoint = options.endpoint.name,
            items,
            reason = refused.reason.name(),
            why = refused.why,
            rejected_items = custody.figures().rejected_items.load(Ordering::Relaxed),
            "dropped data that the endpoint refused for good"
        );
    }
    batch.iter().for_each(|pending| custody.acknowledge(pending.position));
}

fn items(batch: &[Pending]) -> u64 {
    batch.iter().map(|pending| u64::from(pending.piece.items)).sum()
}

/// Takes out what has become too old to be sent.
fn expire(batch: &mut Vec<Pending>, custody: &Custody, limit: Option<Duration>) {
    let Some(limit) = limit else { return };
    let oldest_ms = (now_ms() as i64).saturating_sub(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
    batch.retain(|pending| {
        let is_fresh = pending.piece.newest_ms >= oldest_ms;
        if !is_fresh {
            add(&custody.figures().expired_items, pending.piece.items.into());
            custody.acknowledge(pending.position);
        }
        is_fresh
    });
}

/// Sends the records as one request until it is taken or refused for good. What becomes too old meanwhile is taken out.
async fn send(
    batch: &mut Vec<Pending>,
    custody: &Custody,
    client: &Client,
    options: &Options,
) -> Result<(), Refused> {
    let figures = custody.figures();
    let mut backoff = Backoff::new(options.retry);
    let mut joined: Option<(usize, Bytes)> = None;
    loop {
        expire(batch, custody, options.retry.age_limit);
        if batch.is_empty() {
            return Ok(());
        }
        let body = match joined.take() {
            Some((records, body)) if records == batch.len() => body,
            _ => join(batch, options)?,
        };
        let started = Instant::now();
        let outcome = client.post(body.clone()).await;
        figures.request_seconds.observe(started.elapsed());
        add(&figures.requests, 1);
        match outcome {
            Outcome::Taken { rejected } => {
                if backoff.failures > 0 {
                    tracing::info!(
                        endpoint = options.endpoint.name,
                        failures = backoff.failures,
                        "endpoint takes data again"
                    );
                }
                let refused = rejected.as_ref().map_or(0, |(count, _)| (*count).min(items(batch)));
                if let Some((_, why)) = &rejected {
                    figures.rejected(refused, Rejection::Partial);
                    if custody.rejection_said.is_due() {
                        let (items, endpoint) = (refused, &options.endpoint.name);
                        tracing::warn!(
                            endpoint,
                            items,
                            why,
                            "the endpoint took a part of the data and refused the rest for good"
                        );
                    }
                }
                add(&figures.sent_items, items(batch) - refused);
                add(&figures.sent_bytes, body.len() as u64);
                for pending in &*batch {
                    figures.newest_sent_ms.fetch_max(pending.piece.newest_ms, Ordering::Relaxed);
                    custody.acknowledge(pending.position);
                }
                custody.note().await;
                return Ok(());
            }
            Outcome::Never { why, reason } => return Err(Refused { why, reason }),
            Outcome::Later { why, after } => {
                add(&figures.retried_items, items(batch));
                if backoff.failures.is_power_of_two() || backoff.failures == 0 {
                    tracing::warn!(
                        endpoint = options.endpoint.name,
                        why,
                        failures = backoff.failures + 1,
                        "endpoint does not take data; it stays in the log and is tried again"
                    );
                }
                joined = Some((batch.len(), body));
                tokio::time::sleep(backoff.next(after)).await;
            }
        }
    }
}

fn join(batch: &[Pending], options: &Options) -> Result<Bytes, Refused> {
    let bodies: Vec<Bytes> = batch.iter().map(|pending| pending.piece.body.clone()).collect();
    let refused = |error: crate::formats::SpliceError| Refused {
        why: format!("records cannot be joined: {error}"),
        reason: Rejection::Invalid,
    };
    (options.batching.splice)(&bodies).map_err(refused)
}

/// The longest that an endpoint can make us wait by `Retry-After`. One that errs by a few digits must not stop delivery
/// until the log is full.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Doubling waits, with the upper half of each wait by chance so that many agents do not come back at once.
struct Backoff {
    retry: Retry,
    wait: Duration,
    failures: u32,
}

impl Backoff {
    fn new(retry: Retry) -> Self {
        Backoff { retry, wait: retry.min_backoff, failures: 0 }
    }

    fn next(&mut self, after: Option<Duration>) -> Duration {
        self.failures += 1;
        let wait = self.wait;
        self.wait = (wait * 2).min(self.retry.max_backoff);
        let chance =
            f64::from(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), self.failures) as u32);
        wait.mul_f64(0.5 + 0.5 * chance / f64::from(u32::MAX))
            .max(after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::OnTooManyRequests;
    use super::*;

    fn backoff(min: u64, max: u64) -> Backoff {
        Backoff::new(Retry {
            min_backoff: Duration::from_millis(min),
            max_backoff: Duration::from_millis(max),
            on_too_many_requests: OnTooManyRequests::Retry,
            age_limit: None,
        })
    }

    #[test]
    fn waits_double_up_to_the_longest_and_their_upper_half_is_chance() {
        let mut backoff = backoff(100, 1000);
        let mut varied = false;
        for full in [100, 200, 400, 800].into_iter().chain([1000; 30]).map(Duration::from_millis) {
            let wait = backoff.next(None);
            assert!(full / 2 <= wait && wait <= full, "{wait:?} of {full:?}");
            varied |= wait > full / 2 + full / 8 && wait < full - full / 8;
        }
        assert!(varied, "thirty-four waits all at the edge of their range");
    }

    #[test]
    fn the_endpoint_can_make_a_wait_longer_but_not_endless() {
        assert!(backoff(100, 1000).next(Some(Duration::ZERO)) >= Duration::from_millis(50), "never shorter");
        let seconds = |after| backoff(100, 1000).next(Some(Duration::from_secs(after))).as_secs();
        assert_eq!(seconds(7), 7);
        assert_eq!(seconds(1_000_000_000), 600);
        assert_eq!(seconds(u64::MAX), 600);
    }
}
