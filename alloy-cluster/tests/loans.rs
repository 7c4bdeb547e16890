//! A key that its owner cannot work on is lent to one who can, and comes back: never two act on it, no state is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_cluster::{
    Activity, Event, Handover, HandoverOptions, Key, Member, Node, NodeName, Phase, Rank, Rendezvous,
    Sharder, View,
};
use bytes::Bytes;

const KEY: Key = 7;

/// Nodes whose messages arrive at once and in order, and whose workers count in the state how often the key has started.
struct World {
    nodes: BTreeMap<NodeName, Handover>,
    names: Vec<NodeName>,
    epoch: u64,
    now: Instant,
    /// Who acts, with what it counts.
    acting: BTreeMap<NodeName, u8>,
}

impl World {
    /// Node 0 owns the key, node 1 is the next in rank, and so on.
    fn new(count: usize) -> World {
        let mut world = World {
            nodes: BTreeMap::new(),
            names: Vec::new(),
            epoch: 0,
            now: Instant::now(),
            acting: BTreeMap::new(),
        };
        let names: Vec<NodeName> = (0..count).map(|index| format!("node-{index}").as_str().into()).collect();
        let view = world.view(&names);
        let mut rank = Rank::new();
        Rendezvous.rank(KEY, &view, count, &mut rank);
        world.names = rank.into_iter().map(|index| view.members()[index].node.name.clone()).collect();
        for name in names {
            let mut node = Handover::new(name.clone(), HandoverOptions::default(), Arc::new(Rendezvous));
            node.set_keys(world.now, [KEY]);
            world.nodes.insert(name, node);
        }
        let all: Vec<usize> = (0..count).collect();
        world.see(&all);
        assert_eq!(world.actor(), Some((0, 1)));
        world
    }

    fn view(&mut self, names: &[NodeName]) -> Arc<View> {
        self.epoch += 1;
        let member = |name: &NodeName| {
            let node = Node { name: name.clone(), address: ([10, 0, 0, 1], 1).into(), incarnation: 1 };
            Member { phase: Phase::Active, ..Member::new(node) }
        };
        Arc::new(View::new(self.epoch, names.iter().map(member).collect()))
    }

    /// From now on only these are there; the others are dead.
    fn see(&mut self, places: &[usize]) {
        let names: Vec<NodeName> = places.iter().map(|place| self.names[*place].clone()).collect();
        let view = self.view(&names);
        self.nodes.retain(|name, _| names.contains(name));
        self.acting.retain(|name, _| names.contains(name));
        let now = self.now;
        self.nodes.values_mut().for_each(|node| node.set_view(now, view.clone()));
        self.settle();
    }

    fn node(&mut self, place: usize) -> &mut Handover {
        self.nodes.get_mut(&self.names[place]).expect("it lives")
    }

    fn cannot(&mut self, place: usize, attempt: usize) -> Option<usize> {
        let now = self.now;
        let to = self.node(place).cannot(now, KEY, attempt);
        self.settle();
        to.map(|to| self.names.iter().position(|name| *name == to).expect("it is a member"))
    }

    fn can(&mut self, place: usize) -> bool {
        let now = self.now;
        let is_moved = self.node(place).can(now, KEY);
        self.settle();
        is_moved
    }

    fn is_asked(&mut self, place: usize) -> bool {
        self.node(place).poll_asked() == Some(KEY)
    }

    /// Who acts, and how often the key has started.
    fn actor(&self) -> Option<(usize, u8)> {
        let (name, count) = self.acting.first_key_value()?;
        Some((self.names.iter().position(|other| other == name)?, *count))
    }

    /// Passes everything on until nobody has anything to say for five seconds.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.now += Duration::from_millis(100);
            let now = self.now;
            self.nodes.values_mut().for_each(|node| node.handle_timeout(now));
            while self.step() {
                assert!(self.acting.len() <= 1, "two act: {:?}", self.acting);
            }
        }
    }

    fn step(&mut self) -> bool {
        let now = self.now;
        let mut messages = Vec::new();
        let mut is_busy = false;
        for (name, node) in &mut self.nodes {
            while let Some(event) = node.poll_event() {
                is_busy = true;
                match event {
                    Event::Start { state, .. } => {
                        let count = state.map_or(0, |state| state[0]) + 1;
                        self.acting.insert(name.clone(), count);
                        node.update_state(now, KEY, Bytes::copy_from_slice(&[count]));
                    }
                    Event::Stop { .. } => {
                        let count = self.acting.remove(name).expect("who stops has acted");
                        node.handle_stopped(now, KEY, Some(Bytes::copy_from_slice(&[count])));
                    }
                }
            }
            while let Some((to, message)) = node.poll_message() {
                messages.push((name.clone(), to, message));
            }
        }
        for (from, to, message) in messages {
            is_busy = true;
            if let Some(node) = self.nodes.get_mut(&to) {
                node.handle_message(now, &from, &message);
            }
        }
        is_busy
    }
}

#[test]
fn a_key_is_lent_with_its_state_and_taken_back_with_it() {
    let mut world = World::new(3);
    assert_eq!(world.cannot(0, 0), Some(1));
    assert_eq!(world.actor(), Some((0, 1)), "nothing moves before the other has tried");
    assert!(world.is_asked(1) && !world.is_asked(2));
    assert!(world.can(1));
    assert_eq!(world.actor(), Some((1, 2)));
    assert_eq!(world.node(0).lent().collect::<Vec<_>>(), [KEY]);
    let status = world.node(1).status(KEY).expect("it is known");
    assert_eq!((status.activity, status.stands_in_for), (Activity::Acting, Some(world.names[0].clone())));
    let (now, stats) = (world.now, world.nodes.values());
    assert_eq!(
        stats
            .map(|node| (node.stats(now).lent, node.stats(now).borrowed))
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (1, 1)
    );

    assert!(world.can(0));
    assert_eq!(world.actor(), Some((0, 3)));
    assert_eq!(world.node(0).lent().count(), 0);
    assert!(!world.can(1), "it was asked once");
}

#[test]
fn a_key_that_nobody_can_work_on_stays_and_each_is_asked_in_turn() {
    let mut world = World::new(3);
    for (attempt, asked) in [(0, 1), (1, 2), (2, 1)] {
        assert_eq!(world.cannot(0, attempt), Some(asked));
        assert!(world.is_asked(asked));
    }
    assert_eq!(world.actor(), Some((0, 1)));
    // Who was asked before the last one comes too late.
    assert!(world.can(2));
    assert_eq!(world.actor(), Some((0, 1)));
}

#[test]
fn who_has_borrowed_gives_back_what_it_cannot_work_on_either() {
    let mut world = World::new(3);
    world.cannot(0, 1);
    assert!(world.can(2));
    assert_eq!(world.actor(), Some((2, 2)));
    assert_eq!(world.cannot(2, 0), None);
    assert_eq!(world.actor(), Some((0, 3)));
}

#[test]
fn a_loan_ends_with_either_of_the_two() {
    let mut world = World::new(3);
    world.cannot(0, 0);
    world.can(1);
    world.see(&[0, 2]);
    assert_eq!(world.actor(), Some((0, 3)), "the owner has the copy of who stood in");

    let mut world = World::new(3);
    world.cannot(0, 0);
    world.can(1);
    world.see(&[1, 2]);
    assert_eq!(world.actor(), Some((1, 2)), "the next in rank owns it now, and goes on");
    let status = world.node(1).status(KEY).expect("it is known");
    assert_eq!(status.stands_in_for, None);
}

#[test]
fn an_owner_that_is_alone_keeps_its_key() {
    let mut world = World::new(1);
    assert_eq!(world.cannot(0, 3), None);
    assert_eq!(world.actor(), Some((0, 1)));
}
