//! A cluster in virtual time: three nodes read shared files, two endpoints take lines at their own pace, nodes crash between any
//! two steps, come back with or without their volume, leave and join. A line is doubled if it came with two times: one that comes
//! twice with the same time is one line to Loki.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use alloy_cluster::{
    Activity, Event, HandoverOptions, Member, Node, NodeName, Phase, Rendezvous, Trust, View,
};

use super::super::tenures::put;
use super::*;
use world::simulate;

mod world;

const NODES: usize = 3;
const KEYS: u64 = 6;
const ENDPOINTS: usize = 2;
const STEP_MS: u64 = 5;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Lines `from..to` of a file; the first has that time, each further one the next nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    from: u64,
    to: u64,
    base_ns: i64,
}

/// How far a file is read, and what is being offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    offset: u64,
    last_ns: i64,
    offered: Option<Range>,
}

impl Place {
    fn encode(self) -> Bytes {
        let mut out = BytesMut::new();
        let offered = self.offered.unwrap_or(Range { from: 0, to: 0, base_ns: 0 });
        out.put_u64_le(self.offset);
        out.put_i64_le(self.last_ns);
        out.put_u64_le(offered.to);
        out.put_i64_le(offered.base_ns);
        out.freeze()
    }

    fn decode(mut bytes: Bytes) -> Self {
        let (offset, last_ns) = (bytes.get_u64_le(), bytes.get_i64_le());
        let (to, base_ns) = (bytes.get_u64_le(), bytes.get_i64_le());
        Place { offset, last_ns, offered: (to > 0).then_some(Range { from: offset, to, base_ns }) }
    }
}

#[derive(Debug)]
struct Reader {
    tenure: u64,
    sequence: u64,
    place: Place,
    repeats: VecDeque<Range>,
    /// How many endpoints have taken what is offered.
    taken: usize,
    is_stopping: bool,
}

/// A record in a log, and until when it is on its way.
#[derive(Debug, Clone)]
struct Record {
    lines: Lines,
    range: Range,
}

#[derive(Debug, Default)]
struct Log {
    records: VecDeque<Record>,
    /// When the first is taken by the endpoint, and when the node hears of it.
    posted: Option<(u64, u64)>,
    waits_since: Option<u64>,
}

struct Life {
    handover: Handover,
    intents: Intents,
    readers: BTreeMap<u64, Reader>,
    phases: BTreeMap<usize, (u64, Phase)>,
}

#[derive(Default)]
struct Machine {
    life: Option<Life>,
    incarnation: u64,
    /// On its volume.
    logs: [Log; ENDPOINTS],
    bookmarks: BTreeMap<u64, Place>,
    skew_ns: i64,
}

/// `INTENTS_SEEDS` makes them more.
fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("INTENTS_SEEDS").ok().and_then(|count| count.parse().ok());
    0..given.unwrap_or(6)
}

#[test]
fn whoever_dies_leaves_or_returns_no_line_is_lost_and_none_has_two_times() {
    let mut written = 0;
    for seed in seeds() {
        let (lines, lost, doubled, unconfirmed) = simulate(seed, false, false);
        assert_eq!(
            (lost, doubled),
            (0, 0),
            "seed {seed}: lost, doubled of {lines} ({unconfirmed} unconfirmed)"
        );
        written += lines;
    }
    println!("{written} lines");
}

#[test]
fn a_split_loses_nothing() {
    for seed in seeds() {
        let (lines, lost, doubled, _) = simulate(1_000_000 + seed, true, false);
        assert_eq!(lost, 0, "seed {seed} of {lines}");
        println!("seed {seed}: {doubled} of {lines} lines came from both sides");
    }
}

#[test]
fn without_intents_lines_are_lost_and_doubled() {
    let outcomes = seeds().map(|seed| simulate(seed, false, true));
    let (lost, doubled) = outcomes.fold((0, 0), |sum, (_, lost, doubled, _)| (sum.0 + lost, sum.1 + doubled));
    println!("lost {lost}, doubled {doubled}");
    assert!(lost > 0 && doubled > 0, "the simulation shows nothing: lost {lost}, doubled {doubled}");
}

#[test]
fn more_batches_than_are_announced_at_once_leave_none_out() {
    let (key, endpoint, now) = (7, 0, Instant::now());
    let all = 3 * BATCHES_MAX as u64;
    let lines = |tenure, sequence: u64| Lines {
        component: "files".into(),
        key,
        tenure,
        sequence,
        base_ns: 1_000 + 10 * sequence as i64,
        batch: Bytes::copy_from_slice(&sequence.to_le_bytes()),
    };
    for seed in seeds() {
        let (mut chance, mut intents) = (Chance(seed), Intents::default());
        let tenure = intents.begin(key, None, 0, 1);
        let (mut accepted, mut delivered) = (0, 0);
        while delivered < all {
            if accepted < all && chance.below(3) > 0 {
                let (position, last_ns) = (lines(tenure, accepted).batch, 999 + 10 * accepted as i64);
                let offered = Some((accepted, lines(tenure, accepted).base_ns));
                intents.handle_custody(key, position, last_ns, offered);
                // Of some no record is made: all their lines are dropped on the way.
                if accepted % 5 < 4 {
                    intents.handle_accepted(endpoint, &lines(tenure, accepted));
                }
                accepted += 1;
            } else if delivered < accepted {
                if delivered % 5 < 4 {
                    intents.handle_waits(now, &lines(tenure, delivered), Some(endpoint));
                    intents.handle_delivered(endpoint, &lines(tenure, delivered));
                }
                delivered += 1;
            }
            let state = Inherited::decode(&intents.state(key).unwrap());
            let first = state
                .batches
                .first()
                .or(state.custody.as_ref())
                .map_or(0, |batch| batch.clone().get_u64_le());
            let next = (delivered..accepted).find(|sequence| sequence % 5 < 4);
            assert!(
                next.is_none_or(|next| first <= next),
                "seed {seed}: {first} is first, {next:?} is not delivered"
            );
        }
        let state = Inherited::decode(&intents.state(key).unwrap());
        assert!(state.batches.len() <= 1, "seed {seed}: {} are left", state.batches.len());
    }
}
