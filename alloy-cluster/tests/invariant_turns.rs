//! Invariant: planned moves (a leave, a join, a rolling restart) cost no key a turn, and no turn is taken twice.
//!
//! Each key has a turn every second, at a phase of its own; in a bad network, where a stream may take 2 s longer than usual, every
//! 10 s. Whoever acts on it then takes the turn; if it is just moving, the next
//! owner takes it as soon as it starts, since the state that it was handed says which turn was the last. So a turn is missed if
//! nobody acts from its time to that of the next, and doubled if two act at its time.

mod chaos;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alloy_cluster::testing::{Network, NetworkOptions};
use alloy_cluster::{Key, Phase};
use chaos::{Chaos, NODES, ms, seeds};

/// What became of the turns.
#[derive(Debug, Default)]
struct Turns {
    interval: Duration,
    began: Option<Instant>,
    /// For each key the number of its last turn whose time has come, and whether somebody has taken it.
    last: BTreeMap<Key, (u128, bool)>,
    taken: u64,
    late_max: Duration,
    missed: u64,
    doubled: u64,
}

impl Turns {
    fn look(&mut self, network: &Network) {
        let now = network.now();
        let since = now - *self.began.get_or_insert(now);
        for (key, actors) in network.actors() {
            let phase = self.interval / 30 * (key as u32 % 30);
            let Some(age) = since.checked_sub(phase) else { continue };
            let number = age.as_millis() / self.interval.as_millis();
            let late = age - self.interval * number as u32;
            let last = self.last.entry(key).or_insert((number, true));
            if last.0 != number {
                self.missed += u64::from(!last.1);
                *last = (number, false);
                self.doubled += u64::from(actors.len() > 1);
            }
            if !last.1 && !actors.is_empty() {
                last.1 = true;
                self.taken += 1;
                self.late_max = self.late_max.max(late);
            }
        }
    }
}

/// Every second seed has a bad network.
fn options(seed: u64) -> (NetworkOptions, Duration) {
    match seed.is_multiple_of(2) {
        true => (NetworkOptions::healthy(seed), ms(1000)),
        false => (NetworkOptions::bad(seed), ms(10_000)),
    }
}

/// Gives everything away and goes.
fn leave(chaos: &mut Chaos, name: &str, turns: &mut Turns) {
    chaos.network.set_phase(name, Phase::Leaving);
    let begin = chaos.network.now();
    while !chaos.network.handover(name).is_drained() {
        chaos.run(ms(20), |network| turns.look(network));
        assert!(chaos.network.now() - begin < ms(40_000), "{}", chaos.describe());
    }
    chaos.network.leave(name);
}

fn check(what: &str, act: impl Fn(&mut Chaos, &mut Turns)) {
    let mut sum = Turns::default();
    for seed in seeds(40) {
        let (options, interval) = options(seed);
        let mut chaos = Chaos::settled(seed, options);
        let mut turns = Turns { interval, ..Turns::default() };
        chaos.run(ms(2000), |network| turns.look(network));
        act(&mut chaos, &mut turns);
        chaos.run(2 * interval, |network| turns.look(network));
        assert_eq!((turns.missed, turns.doubled), (0, 0), "{what}: {turns:?}\n{}", chaos.describe());
        sum.taken += turns.taken;
        sum.late_max = sum.late_max.max(turns.late_max);
    }
    println!("{what}: {} turns taken, 0 missed, 0 doubled, the latest {:?} late", sum.taken, sum.late_max);
    assert!(sum.taken > 1000, "{what}: turns were taken at all");
}

#[test]
fn a_leave_costs_no_turn() {
    check("leave", |chaos, turns| {
        let name = chaos.some();
        leave(chaos, &name, turns);
    });
}

#[test]
fn a_join_costs_no_turn() {
    check("join", |chaos, turns| {
        chaos.network.start("newcomer");
        chaos.run(ms(5000), |network| turns.look(network));
    });
}

#[test]
fn a_rolling_restart_costs_no_turn() {
    check("rolling restart", |chaos, turns| {
        for index in 0..NODES {
            let name = format!("node-{index}");
            leave(chaos, &name, turns);
            chaos.run(ms(500), |network| turns.look(network));
            chaos.network.start(&name);
            chaos.run(ms(3000), |network| turns.look(network));
        }
    });
}
