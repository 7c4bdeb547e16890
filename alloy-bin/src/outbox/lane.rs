//! One request in flight: takes records in order, splices them into requests, repeats each until it is taken.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::apart::{Apart, Patience};
use super::client::{Client, Outcome};
use super::custody::{Custody, now_ms};
use super::figures::add;
use super::options::{NewerForm, Options, Retry};
use super::{Clear, Clearance, Piece, Rejection};

/// A record on its way, or a part of one.
pub(super) struct Pending {
    /// Of a record, or of its last part: what is acknowledged.
    pub(super) position: Option<u64>,
    pub(super) piece: Piece,
    /// When it came into the lane.
    pub(super) since: Instant,
    /// Its share of the sender's memory, given back when it is acknowledged.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// The queue of one lane. Bounded by the sender's memory, not by itself.
#[derive(Default)]
pub(super) struct Lane {
    queue: Mutex<VecDeque<Pending>>,
    changed: Notify,
    patience: Patience,
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
            let Some(clearance) = options.clearance.as_deref() else {
                deliver(batch, &self.patience, custody, client, options).await;
                continue;
            };
            // Cut off here, the records stay in the log.
            let cleared = closing.run_until_cancelled(self.clear(batch, clearance, custody)).await;
            deliver(cleared.unwrap_or_default(), &self.patience, custody, client, options).await;
        }
    }

    /// Waits until the first record may be sent. Of the others, those up to the first that may not be sent yet go with it, the
    /// rest goes back. What another node sends is done with here.
    async fn clear(&self, batch: Vec<Pending>, clearance: &dyn Clearance, custody: &Custody) -> Vec<Pending> {
        // All at once, so that the answers come together.
        let origins = batch.iter().filter_map(|pending| pending.piece.origin.as_ref());
        origins.for_each(|origin| clearance.waits(origin));
        let mut rest = VecDeque::from(batch);
        let mut cleared = Vec::with_capacity(rest.len());
        while let Some(pending) = rest.front() {
            let clear = match &pending.piece.origin {
                None => Some(Clear::Send),
                Some(origin) if cleared.is_empty() => Some(clearance.clear(origin).await),
                Some(origin) => clearance.try_clear(origin),
            };
            let Some(clear) = clear else { break };
            let Some(pending) = rest.pop_front() else { break };
            match clear {
                Clear::Send => cleared.push(pending),
                Clear::Drop => done(&pending, custody, Some(clearance)),
            }
        }
        let mut queue = self.queue.lock().expect("no code panics while holding it");
        rest.into_iter().rev().for_each(|pending| queue.push_front(pending));
        cleared
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
            bytes += pending.piece.body.len();
            let is_anothers = pending.piece.tenant != oldest.piece.tenant;
            if count > 0 && (is_anothers || items > batching.max_items || bytes > batching.max_bytes) {
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

/// Nothing more is to be done for the record, or for this part of it.
fn done(pending: &Pending, custody: &Custody, clearance: Option<&dyn Clearance>) {
    let Some(position) = pending.position else { return };
    custody.acknowledge(position);
    if let (Some(clearance), Some(origin)) = (clearance, &pending.piece.origin) {
        clearance.delivered(origin);
    }
}

enum Taken {
    Batch(Vec<Pending>),
    Until(Option<Instant>),
}

/// Sends the records until the endpoint has taken or refused each. A request that is refused for what is in it is taken
/// apart, so that a bad series costs only itself.
async fn deliver(
    mut batch: Vec<Pending>,
    patience: &Patience,
    custody: &Custody,
    client: &Client,
    options: &Options,
) {
    if batch.is_empty() {
        return;
    }
    let Err(refused) = send(&mut batch, custody, client, options).await else { return };
    if !refused.is_worth_another_try() {
        return give_up(&batch, &refused, custody, options);
    }
    let mut apart = Apart::new(patience);
    let mut refused = Some((batch, 0, refused));
    loop {
        if let Some((part, kept, refused)) = refused.take()
            && let Err(part) = apart.refused(part, kept, &options.batching.form)
        {
            give_up(&part, &refused, custody, options);
        }
        let Some((mut part, kept)) = apart.next() else { break };
        match send(&mut part, custody, client, options).await {
            Ok(()) => apart.taken(),
            Err(why) if why.is_worth_another_try() => refused = Some((part, kept, why)),
            Err(why) => give_up(&part, &why, custody, options),
        }
    }
    apart.end();
}

/// Why the endpoint will never take a request.
struct Refused {
    why: String,
    reason: Rejection,
    /// What the endpoint has of it all the same.
    written: u64,
}

impl Refused {
    /// Whether parts of it may fare better. Not if the endpoint has done that itself.
    fn is_worth_another_try(&self) -> bool {
        self.reason.is_about_content() && self.written == 0
    }
}

/// Counts, and says it now and then: an endpoint that refuses everything does so for hours.
fn give_up(batch: &[Pending], refused: &Refused, custody: &Custody, options: &Options) {
    let written = refused.written.min(items(batch));
    let items = items(batch) - written;
    add(&custody.figures().sent_items, written);
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
    batch.iter().for_each(|pending| done(pending, custody, options.clearance.as_deref()));
}

fn items(batch: &[Pending]) -> u64 {
    batch.iter().map(|pending| u64::from(pending.piece.items)).sum()
}

/// Takes out what has become too old to be sent.
fn expire(batch: &mut Vec<Pending>, custody: &Custody, options: &Options) {
    let Some(limit) = options.retry.age_limit else { return };
    let oldest_ms = (now_ms() as i64).saturating_sub(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
    batch.retain(|pending| {
        // What describes others has no age.
        let is_fresh = pending.piece.items == 0 || pending.piece.newest_ms >= oldest_ms;
        if !is_fresh {
            add(&custody.figures().expired_items, pending.piece.items.into());
            done(pending, custody, options.clearance.as_deref());
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
    let mut joined: Option<(usize, Joined)> = None;
    loop {
        expire(batch, custody, options);
        if batch.is_empty() {
            return Ok(());
        }
        let request = match joined.take() {
            Some((records, request)) if records == batch.len() => request,
            _ => join(batch, custody, options)?,
        };
        let tenant = batch[0].piece.tenant.clone();
        let started = Instant::now();
        let outcome = client.post(request.body.clone(), request.newer.as_ref(), tenant.as_deref()).await;
        figures.request_seconds.observe(started.elapsed());
        add(&figures.requests, 1);
        match outcome {
            Outcome::Taken { written } => {
                if backoff.failures > 0 {
                    tracing::info!(
                        endpoint = options.endpoint.name,
                        failures = backoff.failures,
                        "endpoint takes data again"
                    );
                }
                let items = items(batch);
                let written = written.unwrap_or(items).min(items);
                add(&figures.sent_items, written);
                figures.rejected(items - written, Rejection::Other);
                add(&figures.sent_bytes, request.body.len() as u64);
                for pending in &*batch {
                    figures.newest_sent_ms.fetch_max(pending.piece.newest_ms, Ordering::Relaxed);
                    done(pending, custody, options.clearance.as_deref());
                }
                custody.note().await;
                return Ok(());
            }
            Outcome::Never { why, reason, written } => return Err(Refused { why, reason, written }),
            Outcome::NotUnderstood { why } => {
                if !figures.newer_refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        endpoint = options.endpoint.name,
                        why,
                        "endpoint does not take the newer protocol; it gets the older one until the agent is restarted"
                    );
                }
            }
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
                joined = Some((batch.len(), request));
                tokio::time::sleep(backoff.next(after)).await;
            }
        }
    }
}

/// A request, ready to be sent.
struct Joined {
    body: Bytes,
    /// Set: it is in this form.
    newer: Option<NewerForm>,
}

/// The records as one request: in the newer form if all are and the endpoint takes it, else in the older one.
fn join(batch: &mut [Pending], custody: &Custody, options: &Options) -> Result<Joined, Refused> {
    let form = &options.batching.form;
    let has_newer = |newer: &NewerForm, pending: &Pending| (newer.is)(&pending.piece.body);
    let takes_newer =
        options.endpoint.newer_headers.is_some() && !custody.figures().newer_refused.load(Ordering::Relaxed);
    let newer = form.newer.filter(|newer| takes_newer && batch.iter().all(|one| has_newer(newer, one)));
    if newer.is_none()
        && let Some(newer) = &form.newer
    {
        for pending in batch.iter_mut().filter(|pending| has_newer(newer, pending)) {
            make_older(&mut pending.piece, newer, custody);
        }
    }
    let bodies: Vec<Bytes> = batch.iter().map(|pending| pending.piece.body.clone()).collect();
    let refused = |error: crate::formats::SpliceError| Refused {
        why: format!("records cannot be joined: {error}"),
        reason: Rejection::Invalid,
        written: 0,
    };
    let splice = newer.map_or(form.splice, |newer| newer.splice);
    Ok(Joined { body: splice(&bodies).map_err(refused)?, newer })
}

/// What the older form has no room for is counted.
fn make_older(piece: &mut Piece, newer: &NewerForm, custody: &Custody) {
    // A damaged record stays as it is: the endpoint will say so.
    let Some(older) = (newer.older)(&piece.body) else { return };
    custody.figures().rejected(u64::from(piece.items.saturating_sub(older.items)), Rejection::Unsupported);
    (piece.body, piece.items) = (older.body, older.items);
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
