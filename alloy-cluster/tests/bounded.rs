//! Bounded loads: nobody has too much, few keys move, and all machines find the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_cluster::{Assignment, Key, Member, Move, Node, NodeName, Phase, Rendezvous, Ring, Sharder, View};

const PERCENT: u32 = 110;

fn view(names: impl IntoIterator<Item = usize>, weight: impl Fn(usize) -> u16) -> Arc<View> {
    let member = |index: usize| {
        let name = format!("alloy-{index}").as_str().into();
        let node = Node { name, address: ([10, 0, 0, 1], 1).into(), incarnation: 1 };
        Member { phase: Phase::Active, weight: weight(index), ..Member::new(node) }
    };
    Arc::new(View::new(1, names.into_iter().map(member).collect()))
}

fn keys(count: u64) -> impl Iterator<Item = Key> {
    (0..count).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// What each key costs: most little, a few fifty times as much.
fn cost(key: Key) -> u32 {
    let dice = key.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32;
    if dice.is_multiple_of(100) { 50 } else { 1 + (dice % 7) as u32 }
}

fn assignment(sharder: Arc<dyn Sharder>, view: &Arc<View>, count: u64, with_costs: bool) -> Assignment {
    let mut assignment = Assignment::bounded(sharder, PERCENT);
    assignment.set_view(view.clone());
    assignment.set_keys(keys(count));
    if with_costs {
        assignment.set_costs(keys(count).map(|key| (key, cost(key))));
    }
    assignment
}

/// The highest load relative to the mean by weight.
fn max_to_mean(assignment: &Assignment, view: &View, cost: impl Fn(Key) -> u32) -> f64 {
    let mut loads: BTreeMap<&NodeName, f64> = BTreeMap::new();
    let mut total = 0.0;
    for (key, owner) in assignment.iter() {
        *loads.entry(owner.expect("somebody is active")).or_default() += f64::from(cost(key));
        total += f64::from(cost(key));
    }
    let weights: f64 = view.members().iter().map(|member| f64::from(member.weight)).sum();
    let relative = view.members().iter().map(|member| {
        let mean = total * f64::from(member.weight) / weights;
        loads.get(&member.node.name).copied().unwrap_or_default() / mean
    });
    relative.fold(0.0, f64::max)
}

#[test]
fn nobody_has_more_than_the_bound() {
    for (sharder, name) in
        [(Arc::new(Rendezvous) as Arc<dyn Sharder>, "rendezvous"), (Arc::new(Ring::new()), "ring")]
    {
        for (nodes, with_costs, weighted) in
            [(3, false, false), (10, true, false), (40, true, true), (100, false, true)]
        {
            let view = view(0..nodes, |index| if weighted { 50 + 50 * (index % 4) as u16 } else { 100 });
            // 200 for the member with the least weight.
            let count = 200 * nodes as u64 * if weighted { 3 } else { 1 };
            let assignment = assignment(sharder.clone(), &view, count, with_costs);
            let cost = |key| if with_costs { cost(key) } else { 1 };
            let max = max_to_mean(&assignment, &view, cost);
            println!("{name}, {nodes} nodes, costs {with_costs}, weights {weighted}: max/mean {max:.3}");
            assert!(max <= 1.10, "{name}, {nodes} nodes: {max}");
        }
    }
}

/// The optimum: what the leaver had, and as much as the newcomer owns. Everything else that moves is the bound's price.
#[test]
fn a_leave_or_join_moves_little_more_than_it_must() {
    for (nodes, count) in [(10, 2_000), (10, 20_000), (100, 20_000), (100, 100_000)] {
        let all = view(0..nodes, |_| 100);
        let mut assignment = assignment(Arc::new(Rendezvous), &all, count, false);
        let (mut moved, mut needed) = (0, 0);
        for gone in 0..10 {
            let name: NodeName = format!("alloy-{gone}").as_str().into();
            let is_needed =
                |step: &&Move| step.from.as_ref() == Some(&name) || step.to.as_ref() == Some(&name);
            for view in [view((0..nodes).filter(|index| *index != gone), |_| 100), all.clone()] {
                let moves = assignment.set_view(view);
                needed += moves.iter().filter(is_needed).count();
                moved += moves.len();
            }
        }
        let ratio = moved as f64 / needed as f64;
        println!("{nodes} nodes, {count} keys: {ratio:.3} x the optimum");
        assert!(ratio <= 1.3, "{nodes} nodes, {count} keys: {ratio}");
    }
}

#[test]
fn whatever_came_before_the_owners_are_the_same() {
    let mut grown = Assignment::bounded(Arc::new(Rendezvous), PERCENT);
    for step in 0..20 {
        let here = (0..30).filter(|index| (index * 7 + step * 11) % 13 > 3);
        let view = view(here, |index| if step % 5 == 4 { 100 + 50 * (index % 2) as u16 } else { 100 });
        let count = 4_000 + 300 * (step as u64 % 3);
        let before: BTreeMap<Key, Option<NodeName>> =
            grown.iter().map(|(key, owner)| (key, owner.cloned())).collect();
        let mut moves = grown.set_view(view.clone());
        moves.extend(grown.set_keys(keys(count)));
        moves.extend(grown.set_costs(keys(count).map(|key| (key, cost(key)))));
        let fresh = assignment(Arc::new(Rendezvous), &view, count, true);
        assert!(grown.iter().eq(fresh.iter()), "step {step}");
        // The moves lead from what was to what is.
        let mut after = before;
        for step in moves {
            assert_eq!(after.get(&step.key).cloned().flatten(), step.from);
            after.insert(step.key, step.to);
        }
        after.retain(|_, owner| owner.is_some());
        let now = grown.iter().map(|(key, owner)| (key, owner.cloned()));
        assert!(now.eq(after), "step {step}");
    }
    grown.set_view(Arc::new(View::new(9, Vec::new())));
    assert!(grown.iter().all(|(_, owner)| owner.is_none()), "nobody is active");
}

/// The fixture holds owners as they were first given: if this fails, a rolling upgrade would move keys.
#[test]
fn owners_are_what_they_always_were() {
    let view = view(0..5, |index| 100 + 25 * index as u16);
    let assignment = assignment(Arc::new(Rendezvous), &view, 200, true);
    let line = |(key, owner): (Key, Option<&NodeName>)| {
        format!("{key:016x} {}\n", owner.expect("somebody is active"))
    };
    let lines: String = assignment.iter().map(line).collect();
    assert_eq!(lines, include_str!("../fixtures/bounded.txt"), "now:\n{lines}");
}
