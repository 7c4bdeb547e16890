//! What one node knows of the lines that it reads of shared files: which batches are on their way, what its successor has
//! to know of them, and which records of its own log are another's by now. No I/O.
//!
//! A *tenure* is one time of ownership of one file. Its state, which the hand-over replicates and hands over:
//!
//! ```text
//! | 2 | settled (u8) | n (u8) | tenure (u64) | from (i64) ... | position behind all that is in custody (u8 + bytes) |
//! | n (u16) | time of the first line (i64) | batch (u8 + bytes) ...
//! ```
//! The batches are those that may be on their way, oldest first; all before the first of them is delivered. Of each tenure
//! it says from which time of a line on it reads: that never falls from one tenure to the next.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alloy_cluster::{Handover, Version};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::telemetry::Origin as Lines;

/// Batches of a key that are announced at once: their 20 KiB are a third of what a state may have. The next are announced when
/// these are delivered.
const BATCHES_MAX: usize = 256;
/// Tenures of a key that are remembered. A node that comes back after more of them may send again what others have sent.
const TENURES_MAX: usize = 16;
/// How long a record waits for its announcement to be confirmed. A living successor that answers later is not one to wait for.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);
/// How long a record of an earlier tenure waits for somebody to know of a later one. Longer than a death is found and claims last.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(30);
/// How often others are asked.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// Keys whose later tenures are remembered because a record waited for them.
const TOLD_MAX: usize = 10_000;

/// The first byte of a state.
const VERSION: u8 = 2;

/// One time of ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tenure {
    /// Which; later ones have larger numbers.
    pub(super) id: u64,
    /// Lines with a later time are its own to deliver, or its successors'.
    pub(super) from_ns: i64,
}

/// Where a new owner goes on, as the last one has left it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inherited {
    /// Behind all that was in custody; counts if there are no batches.
    pub custody: Option<Bytes>,
    /// What may have been on its way: to be sent again as it was.
    pub batches: Vec<Bytes>,
}

/// What is to be done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Send,
    Drop,
    /// It is not known yet.
    Wait,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct IntentStats {
    /// Batches sent though the successor had not confirmed in time that it knows of them.
    pub(super) unconfirmed: u64,
    /// Records dropped because another node sends their lines.
    pub(super) dropped: u64,
    /// Records of an earlier tenure sent because nobody knew of a later one.
    pub(super) orphaned: u64,
}

/// The files of one component.
#[derive(Debug, Default)]
pub(super) struct Intents {
    acting: BTreeMap<u64, Acting>,
    /// Later tenures of keys that do not act here, as others told, and those that ended here.
    told: BTreeMap<u64, Vec<Tenure>>,
    /// Keys that others are asked for, and since when.
    wanted: BTreeMap<u64, Instant>,
    ask_at: Option<Instant>,
    pub(super) stats: IntentStats,
}

/// A file that this node reads.
#[derive(Debug)]
struct Acting {
    /// The last is this one.
    tenures: Vec<Tenure>,
    custody: Option<Bytes>,
    custody_ns: i64,
    /// By their numbers, without a gap.
    batches: BTreeMap<u64, Batch>,
    /// All lines up to that time are delivered.
    delivered_ns: i64,
    /// The first time of the last inherited batch, until that is in custody here.
    repeats_to: Option<i64>,
    endpoints: BTreeMap<usize, Endpoint>,
}

#[derive(Debug)]
struct Batch {
    base_ns: i64,
    bytes: Bytes,
    /// The first version of the state that has it.
    since: Option<Version>,
}

#[derive(Debug, Default)]
struct Endpoint {
    /// Records in its log that it has not delivered.
    outstanding: u64,
    /// All batches before the one of that time are delivered.
    reached_ns: Option<i64>,
}

impl Inherited {
    /// What a state says.
    pub fn decode(state: &Bytes) -> Self {
        match State::decode(state.clone()) {
            Some(state) => Inherited {
                custody: state.custody,
                batches: state.batches.into_iter().map(|(_, batch)| batch).collect(),
            },
            // Of an agent that announced only the one batch that its position names.
            None => Inherited { custody: Some(state.clone()), batches: Vec::new() },
        }
    }
}

impl Intents {
    /// This node begins to read the file, from that state or, without one, with lines behind that time. Gives the number of the
    /// tenure. The state has to be replicated now.
    pub(super) fn begin(&mut self, key: u64, state: Option<&Bytes>, from_ns: i64, now_ns: i64) -> u64 {
        let state = state.and_then(|state| State::decode(state.clone())).unwrap_or_default();
        let first_ns = state.batches.first().map(|(base_ns, _)| *base_ns);
        let last = state.tenures.last().map_or(Tenure { id: 0, from_ns: i64::MIN }, |last| *last);
        let known_ns = first_ns.map_or(state.custody_ns.max(from_ns), |first_ns| first_ns - 1);
        let id = u64::try_from(now_ns).unwrap_or(0).max(last.id + 1);
        let mut tenures = state.tenures;
        tenures.push(Tenure { id, from_ns: known_ns.max(last.from_ns) });
        if tenures.len() > TENURES_MAX {
            tenures.remove(0);
        }
        let repeats_to = state.batches.last().map(|(base_ns, _)| *base_ns);
        let batch = |(base_ns, bytes)| Batch { base_ns, bytes, since: None };
        let batches = (0..).zip(state.batches.into_iter().map(batch));
        let acting = Acting {
            tenures,
            custody: state.custody,
            custody_ns: state.custody_ns,
            batches: batches.collect(),
            delivered_ns: i64::MIN,
            repeats_to,
            endpoints: BTreeMap::new(),
        };
        self.acting.insert(key, acting);
        id
    }

    /// All before that position is in custody, and the last line had that time. `offered`: number and time of the batch that
    /// begins there, if it is being offered.
    pub(super) fn handle_custody(
        &mut self,
        key: u64,
        position: Bytes,
        last_ns: i64,
        offered: Option<(u64, i64)>,
    ) {
        let Some(acting) = self.acting.get_mut(&key) else { return };
        if let Some((sequence, base_ns)) = offered {
            acting.announce(sequence, base_ns, &position);
        }
        acting.custody = Some(position);
        acting.custody_ns = last_ns;
        if acting.repeats_to.is_some_and(|to| last_ns >= to) {
            acting.repeats_to = None;
        }
        acting.tidy();
    }

    /// The file is not read here any more: gives the state for the next owner. What the log still has is that one's now.
    pub(super) fn end(&mut self, key: u64) -> Option<Bytes> {
        let acting = self.acting.remove(&key)?;
        Some(acting.encode())
    }

    /// The state of a file that is read here.
    pub(super) fn state(&self, key: u64) -> Option<Bytes> {
        self.acting.get(&key).map(Acting::encode)
    }

    /// The state as it is now has that version.
    pub(super) fn handle_version(&mut self, key: u64, version: Version) {
        let Some(acting) = self.acting.get_mut(&key) else { return };
        acting.batches.values_mut().for_each(|batch| _ = batch.since.get_or_insert(version));
    }

    /// A record of these lines is about to go into the log of the endpoint.
    pub(super) fn handle_accepted(&mut self, endpoint: usize, lines: &Lines) {
        let Some(acting) = self.current(lines) else { return };
        acting.endpoints.entry(endpoint).or_default().outstanding += 1;
        acting.announce(lines.sequence, lines.base_ns, &lines.batch);
    }

    /// It did not go there.
    pub(super) fn handle_withdrawn(&mut self, endpoint: usize, lines: &Lines) {
        let Some(acting) = self.current(lines) else { return };
        let endpoint = acting.endpoints.entry(endpoint).or_default();
        endpoint.outstanding = endpoint.outstanding.saturating_sub(1);
    }

    /// Nothing more is to be done for it.
    pub(super) fn handle_delivered(&mut self, endpoint: usize, lines: &Lines) {
        let Some(acting) = self.current(lines) else { return };
        let endpoint = acting.endpoints.entry(endpoint).or_default();
        endpoint.outstanding = endpoint.outstanding.saturating_sub(1);
        endpoint.reached_ns = endpoint.reached_ns.max(Some(lines.base_ns));
        acting.tidy();
    }

    /// A record of these lines will be sent soon; `first`: it is the next of its file to that endpoint. True: the state may have
    /// changed.
    pub(super) fn handle_waits(&mut self, now: Instant, lines: &Lines, first: Option<usize>) -> bool {
        if let Some(acting) = self.current(lines) {
            if let Some(endpoint) = first {
                let endpoint = acting.endpoints.entry(endpoint).or_default();
                endpoint.reached_ns = endpoint.reached_ns.max(Some(lines.base_ns));
                acting.tidy();
            }
            let is_new = acting.announce(lines.sequence, lines.base_ns, &lines.batch);
            if is_new {
                // It may be the first behind a gap that no longer matters.
                acting.tidy();
            }
            return is_new;
        }
        if self.later(lines).is_none() {
            self.want(now, lines.key);
        }
        false
    }

    /// What to do with the record, that has waited for so long as the first of its lane; `None`: it is not the first.
    pub(super) fn verdict(
        &mut self,
        handover: &Handover,
        now: Instant,
        lines: &Lines,
        waited: Option<Duration>,
    ) -> Verdict {
        if let Some(acting) = self.current(lines) {
            let batch = acting.batches.get(&lines.sequence).filter(|batch| batch.base_ns == lines.base_ns);
            let is_stuck = batch.is_none() && acting.batches.len() >= BATCHES_MAX;
            let is_known = match batch.and_then(|batch| batch.since) {
                Some(version) => handover.is_replicated(lines.key, version).unwrap_or(true),
                // Nobody is there to be told.
                None => handover.is_replicated(lines.key, Version::default()).is_none(),
            };
            return match waited {
                _ if is_known => Verdict::Send,
                Some(waited) if is_stuck || waited >= CONFIRM_PATIENCE => {
                    self.stats.unconfirmed += 1;
                    Verdict::Send
                }
                _ => Verdict::Wait,
            };
        }
        if let Some(later) = self.later(lines) {
            self.wanted.remove(&lines.key);
            return if lines.base_ns > later.from_ns {
                self.stats.dropped += 1;
                Verdict::Drop
            } else {
                Verdict::Send
            };
        }
        let since = self.want(now, lines.key);
        if now.saturating_duration_since(since) < ORPHAN_PATIENCE {
            return Verdict::Wait;
        }
        self.stats.orphaned += 1;
        Verdict::Send
    }

    /// When [`Intents::poll_ask`] is due.
    pub(super) fn poll_deadline(&self) -> Option<Instant> {
        self.ask_at
    }

    /// What to ask all others, if it is time.
    pub(super) fn poll_ask(&mut self, now: Instant) -> Option<Bytes> {
        self.ask_at = self.ask_at.filter(|_| !self.wanted.is_empty());
        if self.ask_at.is_none_or(|at| at > now) {
            return None;
        }
        self.ask_at = Some(now + ASK_INTERVAL);
        let mut message = BytesMut::new();
        message.put_u8(0);
        self.wanted.keys().take(TOLD_MAX).for_each(|key| message.put_u64_le(*key));
        Some(message.freeze())
    }

    /// A question or an answer of another node; gives the answer to a question. Only who reads a file, and has sent again
    /// what was on its way, tells of its tenures.
    ///
    /// `| 0 | key (u64) ...` asks, `| 1 | key (u64) | n (u8) | tenure (u64) | from (i64) ... | ...` answers.
    pub(super) fn handle_message(&mut self, mut message: &[u8]) -> Option<Bytes> {
        match message.try_get_u8().ok()? {
            0 => {
                let mut answer = BytesMut::new();
                answer.put_u8(1);
                while let Ok(key) = message.try_get_u64_le() {
                    let acting = self.acting.get(&key).filter(|acting| acting.repeats_to.is_none());
                    if let Some(acting) = acting {
                        answer.put_u64_le(key);
                        put_tenures(&mut answer, &acting.tenures);
                    }
                }
                (answer.len() > 1).then(|| answer.freeze())
            }
            1 => {
                while let Ok(key) = message.try_get_u64_le() {
                    let tenures = take_tenures(&mut message)?;
                    if self.wanted.contains_key(&key) {
                        self.tell(key, tenures);
                    }
                }
                None
            }
            _ => None,
        }
    }

    fn tell(&mut self, key: u64, tenures: Vec<Tenure>) {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(key, tenures);
    }

    fn current(&mut self, lines: &Lines) -> Option<&mut Acting> {
        self.acting.get_mut(&lines.key).filter(|acting| acting.id() == lines.tenure)
    }

    /// The first known tenure after the one that made the record.
    fn later(&self, lines: &Lines) -> Option<Tenure> {
        let here = self.acting.get(&lines.key).filter(|acting| acting.repeats_to.is_none());
        let told = self.told.get(&lines.key);
        let known = here.map(|acting| &acting.tenures).into_iter().chain(told).flatten();
        known.filter(|tenure| tenure.id > lines.tenure).min_by_key(|tenure| tenure.id).copied()
    }

    /// Since when others are asked for the key.
    fn want(&mut self, now: Instant, key: u64) -> Instant {
        self.ask_at.get_or_insert(now);
        *self.wanted.entry(key).or_insert(now)
    }
}

impl Acting {
    fn id(&self) -> u64 {
        self.tenures.last().map_or(0, |tenure| tenure.id)
    }

    /// Puts the batch among those that are on their way, if there is room and it is the next. True: it is new there.
    fn announce(&mut self, sequence: u64, base_ns: i64, bytes: &Bytes) -> bool {
        if let Some(batch) = self.batches.get(&sequence) {
            if batch.base_ns == base_ns {
                return false;
            }
            // What was on its way is not in the file any more as it was. Who had read it has it in its log, perhaps.
            self.batches.split_off(&sequence);
            self.repeats_to = None;
            if let Some(tenure) = self.tenures.last_mut() {
                tenure.from_ns = tenure.from_ns.max(base_ns - 1);
            }
        }
        // A later one would leave out those between, whose turn comes when there is room. Of some no record is made: when all before
        // is delivered, none is left out.
        let is_next = self.batches.last_key_value().is_none_or(|(last, batch)| {
            *last + 1 == sequence || *last < sequence && batch.base_ns <= self.delivered_ns
        });
        let is_new = is_next && self.batches.len() < BATCHES_MAX;
        if is_new {
            self.batches.insert(sequence, Batch { base_ns, bytes: bytes.clone(), since: None });
        }
        is_new
    }

    /// Takes away what is delivered to all. The last of them stays as the place where the next begins.
    fn tidy(&mut self) {
        let mut waiting = self.endpoints.values().filter(|endpoint| endpoint.outstanding > 0).peekable();
        let delivered_ns = if waiting.peek().is_some() {
            waiting.map(|endpoint| endpoint.reached_ns).min().flatten().map(|reached_ns| reached_ns - 1)
        } else {
            // What is not in custody yet is being offered to others.
            self.repeats_to.is_none().then_some(self.custody_ns)
        };
        let is_waiting = self.endpoints.values().any(|endpoint| endpoint.outstanding > 0);
        let Some(delivered_ns) = delivered_ns else { return };
        self.delivered_ns = self.delivered_ns.max(delivered_ns);
        while let Some(first) = self.batches.first_entry()
            && first.get().base_ns <= delivered_ns
        {
            if is_waiting && self.batches.len() == 1 {
                break;
            }
            self.batches.pop_first();
        }
    }

    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128 + self.batches.len() * 80);
        out.put_slice(&[VERSION, u8::from(self.repeats_to.is_none())]);
        put_tenures(&mut out, &self.tenures);
        out.put_i64_le(self.custody_ns);
        put_bytes(&mut out, self.custody.as_ref().unwrap_or(&Bytes::new()));
        out.put_u16_le(self.batches.len() as u16);
        for batch in self.batches.values() {
            out.put_i64_le(batch.base_ns);
            put_bytes(&mut out, &batch.bytes);
        }
        out.freeze()
    }
}

/// A state on its way from node to node.
#[derive(Default)]
struct State {
    tenures: Vec<Tenure>,
    custody: Option<Bytes>,
    custody_ns: i64,
    batches: Vec<(i64, Bytes)>,
}

impl State {
    fn decode(mut state: Bytes) -> Option<Self> {
        if state.try_get_u8().ok()? != VERSION {
            return None;
        }
        state.try_get_u8().ok()?;
        let tenures = take_tenures(&mut state)?;
        let custody_ns = state.try_get_i64_le().ok()?;
        let custody = Some(take_bytes(&mut state)?).filter(|custody| !custody.is_empty());
        let mut batches = Vec::new();
        for _ in 0..state.try_get_u16_le().ok()? {
            batches.push((state.try_get_i64_le().ok()?, take_bytes(&mut state)?));
        }
        Some(State { tenures, custody, custody_ns, batches })
    }
}

fn put_tenures(out: &mut BytesMut, tenures: &[Tenure]) {
    out.put_u8(tenures.len() as u8);
    for tenure in tenures {
        out.put_u64_le(tenure.id);
        out.put_i64_le(tenure.from_ns);
    }
}

fn take_tenures(bytes: &mut impl Buf) -> Option<Vec<Tenure>> {
    let count = bytes.try_get_u8().ok()?;
    let one = |_| Some(Tenure { id: bytes.try_get_u64_le().ok()?, from_ns: bytes.try_get_i64_le().ok()? });
    (0..count).map(one).collect()
}

fn put_bytes(out: &mut BytesMut, bytes: &Bytes) {
    // A position has 62 bytes.
    let bytes = &bytes[..bytes.len().min(usize::from(u8::MAX))];
    out.put_u8(bytes.len() as u8);
    out.put_slice(bytes);
}

fn take_bytes(bytes: &mut Bytes) -> Option<Bytes> {
    let len = usize::from(bytes.try_get_u8().ok()?);
    (len <= bytes.len()).then(|| bytes.split_to(len))
}

#[cfg(test)]
mod tests;
