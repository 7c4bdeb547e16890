//! Tenures at work: what a component that reads shared files tells of them, and what the logs that its lines go through ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alloy_cluster::{Handover, HandoverOptions, Trust};
use bytes::Bytes;

use super::intents::{Intents, Verdict};
use super::service::{Ownership, Sharing};
use super::shard::{Core, Shard};
use crate::telemetry::Origin as Lines;

/// Between two messages to a successor: what is announced waits for one at most.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(20);
/// How long a record waits for a component that is not in the configuration, or not yet.
const COMPONENT_PATIENCE: Duration = Duration::from_secs(30);
/// How often a record that waits is looked at, though nothing was heard.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Ownership {
    /// As [`Ownership::shard`], for a component that reads what others may have to read again.
    pub fn shard_of_files(&self, component: &str, sharing: Sharing) -> Shard {
        let options = HandoverOptions {
            replicate_interval: ANNOUNCE_INTERVAL,
            trust: Trust::Members,
            ..HandoverOptions::default()
        };
        self.shard_with(component, sharing, options)
    }

    /// For one endpoint's log.
    pub fn tenures(&self) -> Tenures {
        static ENDPOINTS: AtomicUsize = AtomicUsize::new(0);
        let endpoint = ENDPOINTS.fetch_add(1, Ordering::Relaxed);
        Tenures { ownership: self.clone(), endpoint, since: Instant::now() }
    }
}

impl Shard {
    /// Begins a tenure of a key: with the state of its turn, or else with lines behind that time. `None`: the file is not shared.
    pub fn begin_tenure(&self, key: u64, state: Option<&Bytes>, from_ns: i64, now_ns: i64) -> Option<u64> {
        (self.core.sharing == Sharing::Clustered).then(|| {
            self.core.change_both(|handover, intents, now| {
                let tenure = intents.begin(key, state, from_ns, now_ns);
                put(handover, intents, now, key);
                tenure
            })
        })
    }

    /// All before that position is in custody; the last line had that time. `offered`: number and time of the batch that is being
    /// offered now.
    pub fn note_custody(&self, key: u64, position: Bytes, last_ns: i64, offered: Option<(u64, i64)>) {
        self.keeper().note(key, jiff::Timestamp::now().as_millisecond(), None);
        if self.core.sharing == Sharing::Alone {
            return self.update_state(key, position);
        }
        self.core.change_both(|handover, intents, now| {
            intents.handle_custody(key, position, last_ns, offered);
            put(handover, intents, now, key);
        });
    }

    /// The key is stopped because the component ends: what is in the logs goes on being sent.
    pub fn stopped_for_good(&self, key: u64, position: Option<Bytes>) {
        self.core.forget_notes(key);
        self.core.change_both(|handover, intents, now| {
            let state = intents.state(key).or(position);
            handover.handle_stopped(now, key, state);
        });
    }

    /// Ends a tenure: the key is stopped. What is in the logs is the next owner's from now on.
    pub fn end_tenure(&self, key: u64, position: Option<Bytes>) {
        self.core.forget_notes(key);
        self.core.change_both(|handover, intents, now| {
            let state = intents.end(key).or(position);
            handover.handle_stopped(now, key, state);
        });
    }
}

/// Puts the state of a key where it is replicated from.
pub(super) fn put(handover: &mut Handover, intents: &mut Intents, now: Instant, key: u64) {
    let Some(state) = intents.state(key) else { return };
    handover.update_state(now, key, state);
    if let Some((version, _)) = handover.state(key) {
        intents.handle_version(key, version);
    }
}

fn wait_for(
    handover: &mut Handover,
    intents: &mut Intents,
    now: Instant,
    lines: &Lines,
    first: Option<usize>,
) {
    if intents.handle_waits(now, lines, first) {
        put(handover, intents, now, lines.key);
    }
}

/// What one endpoint's log asks before it sends lines of shared files.
#[derive(Clone)]
pub struct Tenures {
    ownership: Ownership,
    endpoint: usize,
    since: Instant,
}

impl std::fmt::Debug for Tenures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenures").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Tenures {
    /// The record is about to go into the log.
    pub fn accepted(&self, lines: &Lines) {
        self.change(lines, |intents, _| intents.handle_accepted(self.endpoint, lines));
    }

    /// It did not go there.
    pub fn withdrawn(&self, lines: &Lines) {
        self.change(lines, |intents, _| intents.handle_withdrawn(self.endpoint, lines));
    }

    /// It is done with.
    pub fn delivered(&self, lines: &Lines) {
        self.change(lines, |intents, _| intents.handle_delivered(self.endpoint, lines));
    }

    /// It will be sent soon.
    pub fn waits(&self, lines: &Lines) {
        let Some(core) = self.core(lines) else { return };
        core.look(|handover, intents, now| wait_for(handover, intents, now, lines, None));
    }

    /// Whether it is to be sent (true) or dropped; `None`: that is not known yet.
    pub fn look(&self, lines: &Lines) -> Option<bool> {
        self.verdict(lines, None)
    }

    /// Waits until it is known, with a record that is the first of its file to go.
    pub async fn wait(&self, lines: &Lines) -> bool {
        let began = Instant::now();
        loop {
            let core = self.core(lines);
            // Before the look: what changes after it wakes.
            let changed = core.as_ref().map(|core| core.changed.notified());
            if let Some(is_ours) = self.verdict(lines, Some(began.elapsed())) {
                return is_ours;
            }
            let changed = async {
                match changed {
                    Some(changed) => changed.await,
                    None => std::future::pending().await,
                }
            };
            let _ = tokio::time::timeout(LOOK_INTERVAL, changed).await;
        }
    }

    fn verdict(&self, lines: &Lines, waited: Option<Duration>) -> Option<bool> {
        let Some(core) = self.core(lines) else {
            return (self.since.elapsed() >= COMPONENT_PATIENCE).then_some(true);
        };
        if core.sharing == Sharing::Alone {
            return Some(true);
        }
        let first = waited.map(|_| self.endpoint);
        let verdict = core.look(|handover, intents, now| {
            wait_for(handover, intents, now, lines, first);
            intents.verdict(handover, now, lines, waited)
        });
        match verdict {
            Verdict::Send => Some(true),
            Verdict::Drop => Some(false),
            Verdict::Wait => None,
        }
    }

    fn core(&self, lines: &Lines) -> Option<Arc<Core>> {
        self.ownership.last_shards().get(&lines.component).cloned()
    }

    fn change(&self, lines: &Lines, change: impl FnOnce(&mut Intents, Instant)) {
        let Some(core) = self.core(lines) else { return };
        core.change_both(|handover, intents, now| {
            change(intents, now);
            put(handover, intents, now, lines.key);
        });
    }
}
