//! Both sharders keep their contract, spread evenly, follow the weights, and give the ranks they always gave.

use std::net::SocketAddr;
use std::sync::Arc;

use alloy_cluster::testing::check_sharder;
use alloy_cluster::{Assignment, Key, Member, Node, Phase, Rank, Rendezvous, Ring, Sharder, View};

fn member(name: &str, zone: &str, weight: u16) -> Member {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let node = Node { name: name.into(), address, incarnation: 1 };
    Member { phase: Phase::Active, zone: zone.into(), weight, ..Member::new(node) }
}

fn view(names: &[&str]) -> Arc<View> {
    Arc::new(View::new(1, names.iter().map(|name| member(name, "", 100)).collect()))
}

/// The share of each member, in the order of their names.
fn shares(sharder: &dyn Sharder, view: &View, keys: Key) -> Vec<f64> {
    let mut counts = vec![0_u64; view.members().len()];
    for key in 0..keys {
        counts[sharder.owner(key, view).expect("somebody is active")] += 1;
    }
    counts.into_iter().map(|count| count as f64 / keys as f64).collect()
}

#[test]
fn rendezvous_keeps_the_contract() {
    check_sharder(&Rendezvous);
}

#[test]
fn ring_keeps_the_contract() {
    check_sharder(&Ring::new());
}

#[test]
fn rendezvous_spreads_within_two_percent_even_over_counting_keys() {
    for count in [2, 3, 5, 10] {
        let names: Vec<String> = (0..count).map(|index| format!("node-{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let fair = 1.0 / count as f64;
        for share in shares(&Rendezvous, &view(&names), 200_000) {
            assert!((share / fair - 1.0).abs() < 0.02, "{count} nodes: {share} instead of {fair}");
        }
        for share in shares(&Ring::new(), &view(&names), 200_000) {
            assert!(
                (share / fair - 1.0).abs() < 0.25,
                "{count} nodes on the ring: {share} instead of {fair}"
            );
        }
    }
}

#[test]
fn rendezvous_follows_the_weights() {
    let members = vec![member("a", "", 50), member("b", "", 100), member("c", "", 250)];
    let shares = shares(&Rendezvous, &View::new(1, members), 200_000);
    for (share, fair) in shares.into_iter().zip([0.125, 0.25, 0.625]) {
        assert!((share / fair - 1.0).abs() < 0.03, "{share} instead of {fair}");
    }
}

/// The fixture holds ranks as they were first given: if this fails, a rolling upgrade would move every key.
#[test]
fn ranks_are_what_they_always_were() {
    let members = vec![
        member("alloy-0", "a", 100),
        member("alloy-1", "b", 100),
        member("alloy-2", "a", 150),
        member("alloy-3", "", 100),
        member("alloy-4", "c", 50),
    ];
    let view = View::new(1, members);
    let mut lines = String::new();
    for (name, sharder) in [("rendezvous", &Rendezvous as &dyn Sharder), ("ring", &Ring::new())] {
        for step in 0..32_u64 {
            let key = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut rank = Rank::new();
            sharder.rank(key, &view, 3, &mut rank);
            let names: Vec<_> = rank.iter().map(|index| view.members()[*index].node.name.as_str()).collect();
            lines += &format!("{name} {key:016x} {}\n", names.join(" "));
        }
    }
    lines += &format!("digest {:016x}\n", view.digest());
    let expected = include_str!("../fixtures/ranks.txt");
    assert_eq!(lines, expected, "now:\n{lines}");
}

/// The bulk way gives what each key's own way gives, and a chain of joins and leaves ends where a new start ends.
#[test]
fn many_joins_and_leaves_end_where_a_new_start_ends() {
    let names: Vec<String> = (0..40).map(|index| format!("node-{index}")).collect();
    let mut assignment = Assignment::new(Arc::new(Rendezvous));
    assignment.set_keys((0..20_000).map(|key: Key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    for step in 0..60_usize {
        let here = names.iter().enumerate().filter(|(index, _)| (index * 7 + step * 11) % 13 > 3);
        let members = here.map(|(index, name)| {
            // For a while they have different weights.
            let weight = if (20..30).contains(&step) { 100 + 10 * (index % 3) as u16 } else { 100 };
            member(name, "", weight)
        });
        let view = Arc::new(View::new(step as u64, members.collect()));
        let moves = assignment.set_view(view.clone());
        for step in &moves {
            assert_ne!(step.from, step.to);
            assert_eq!(step.to.as_ref(), assignment.owner(step.key));
        }
        for (key, owner) in assignment.iter().step_by(7) {
            let expected = Rendezvous.owner(key, &view).map(|index| &view.members()[index].node.name);
            assert_eq!(owner, expected, "step {step}, key {key:x}");
        }
    }
}

#[test]
fn assignment_follows_the_view_with_the_moves_it_says() {
    let views = [
        view(&["a"]),
        view(&["a", "b"]),
        view(&["a", "b", "c", "d"]),
        view(&["b", "c", "d"]),
        view(&["b", "e"]),
        Arc::new(View::new(1, vec![member("b", "", 300), member("e", "", 100)])),
        view(&[]),
        view(&["z", "a"]),
    ];
    let ring: Arc<dyn Sharder> = Arc::new(Ring::new());
    for sharder in [Arc::new(Rendezvous) as Arc<dyn Sharder>, ring] {
        let mut assignment = Assignment::new(sharder.clone());
        assert_eq!(assignment.set_keys(0..3000).len(), 3000);
        for view in &views {
            let before: Vec<_> = assignment.iter().map(|(_, owner)| owner.cloned()).collect();
            let moves = assignment.set_view(view.clone());
            let mut moved = 0;
            for (key, owner) in assignment.iter() {
                let expected = sharder.owner(key, view).map(|index| &view.members()[index].node.name);
                assert_eq!(owner, expected, "key {key} in {view:?}");
                moved += usize::from(before[key as usize].as_ref() != owner);
            }
            assert_eq!(moves.len(), moved);
            for step in &moves {
                assert_eq!(step.from, before[step.key as usize]);
                assert_eq!(step.to.as_ref(), assignment.owner(step.key));
            }
        }
        let gone = assignment.set_keys(10..3000);
        assert_eq!(gone.len(), 10);
        assert!(gone.iter().all(|step| step.to.is_none() && step.key < 10));
    }
}
