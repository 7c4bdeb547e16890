//! One function per trait that tests each line of its contract; a failing line panics with its number.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::{Key, Member, Membership, Node, Phase, Rank, Sharder, Transport, View};

const KEYS: Key = 2_000;

/// Tests a [`Sharder`]. It is asked for some ten thousand ranks.
pub fn check_sharder(sharder: &dyn Sharder) {
    for (count, zones) in [(1, 0), (2, 0), (3, 0), (3, 2), (10, 0), (10, 3)] {
        let view = view_of(count, zones, |_| true);
        (0..KEYS).for_each(|key| check_rank(sharder, key, &view));
        check_disruption(sharder, count, zones);
    }
    let mut out = vec![7];
    sharder.rank(1, &View::new(1, Vec::new()), 2, &mut out);
    assert!(out.is_empty(), "line 2: nobody is ranked if nobody is there");
}

fn check_rank(sharder: &dyn Sharder, key: Key, view: &View) {
    let members = view.members();
    let active = members.iter().filter(|member| member.phase == Phase::Active).count();
    let copy = View::new(99, members.to_vec());
    let mut again = Rank::new();
    for count in [0, 1, 2, 3, members.len() + 1] {
        let mut rank = vec![usize::MAX];
        sharder.rank(key, view, count, &mut rank);
        sharder.rank(key, &copy, count, &mut again);
        assert_eq!(rank, again, "line 1: key {key}: the same members give the same ranks");
        assert_eq!(rank.len(), count.min(active), "line 2: key {key}: as many as asked for");
        let distinct: BTreeSet<_> = rank.iter().collect();
        assert_eq!(distinct.len(), rank.len(), "line 2: key {key}: nobody twice");
        let all_active = rank.iter().all(|index| members[*index].phase == Phase::Active);
        assert!(all_active, "line 2: key {key}: only active members");
        if count > 0 {
            assert_eq!(sharder.owner(key, view), rank.first().copied(), "line 3: key {key}");
        }
        if let [first, second, ..] = rank.as_slice() {
            let zone = |index: &usize| &members[*index].zone;
            let elsewhere = members.iter().any(|m| m.phase == Phase::Active && m.zone != *zone(first));
            assert_eq!(zone(first) != zone(second), elsewhere, "line 5: key {key}: the second is elsewhere");
        }
    }
}

fn check_disruption(sharder: &dyn Sharder, count: usize, zones: usize) {
    let all = view_of(count, zones, |_| true);
    let name = |view: &View, index: usize| view.members()[index].node.name.clone();
    let mut ranks = vec![Rank::new(); KEYS as usize];
    for (key, rank) in (0..).zip(&mut ranks) {
        sharder.rank(key, &all, 2, rank);
    }
    for gone in 0..count {
        let rest = view_of(count, zones, |index| index != gone);
        for (key, rank) in (0..).zip(&ranks) {
            let before = rank.first().map(|index| name(&all, *index));
            let second = rank.get(1).map(|index| name(&all, *index));
            let after = sharder.owner(key, &rest).map(|index| name(&rest, index));
            if before != Some(name(&all, gone)) && before.is_some() {
                assert_eq!(before, after, "line 4: key {key} moved though its owner stayed");
            } else if zones == 0 {
                assert_eq!(second, after, "line 5: key {key}: the second owns it when the first goes");
            }
        }
    }
}

/// Members with inactive ones among them, of which those with the given indexes are active.
fn view_of(count: usize, zones: usize, is_active: impl Fn(usize) -> bool) -> View {
    let node = |index: usize| Node {
        name: format!("node-{index:03}").as_str().into(),
        address: SocketAddr::from(([10, 0, 0, 1], 1)),
        incarnation: 1,
    };
    let member = |index: usize| Member {
        phase: if is_active(index) { Phase::Active } else { Phase::Leaving },
        zone: if zones == 0 { "".into() } else { format!("zone-{}", index % zones).as_str().into() },
        ..Member::new(node(index))
    };
    let mut members: Vec<Member> = (0..count).map(member).collect();
    members.push(Member { phase: Phase::Joining, ..member(count) });
    View::new(1, members)
}

/// Tests a [`Membership`] that has just begun, with nobody else in it, in phase joining. It leaves in the end.
pub async fn check_membership(membership: Arc<dyn Membership>) {
    let phase = |view: &View| view.member(membership.me()).map(|me| me.phase);
    let before = membership.view();
    assert_eq!(phase(&before), Some(Phase::Joining), "line 1: the view contains this node");
    assert_eq!(before, membership.view(), "line 2: two views of one epoch are equal");
    let seen = before.epoch();
    let other = membership.clone();
    // Polled once, so that it waits, and dropped: that must not lose anything for the next.
    drop(poll_once(other.changed(seen)));
    membership.set_phase(Phase::Active).await;
    let now = membership.view();
    assert_eq!(phase(&now), Some(Phase::Active), "line 4: set_phase returns once the view has it");
    assert!(now.epoch() > seen, "line 2: the epoch grows");
    assert!(membership.changed(seen).await.epoch() > seen, "line 3: changed returns if the epoch differs");
    membership.set_phase(Phase::Active).await;
    assert_eq!(membership.view(), now, "line 2: a phase that it has already changes nothing");
    membership.set_metadata(b"hash").await.expect("line 5: it is short");
    let told = membership.view();
    let mine = |view: &View| view.member(membership.me()).map(|me| me.metadata.to_vec());
    assert_eq!(
        mine(&told).as_deref(),
        Some(&b"hash"[..]),
        "line 5: set_metadata returns once the view has it"
    );
    assert_eq!(phase(&told), Some(Phase::Active), "line 5: and nothing else changes");
    assert!(membership.set_metadata(&[0; 513]).await.is_err(), "line 5: too long");
    assert_eq!(membership.view(), told, "line 5: what is too long changes nothing");
    membership.leave().await;
}

/// Polls a future once and gives it back.
fn poll_once<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
    let mut future = Box::pin(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let _pending = future.as_mut().poll(&mut context);
    future
}

/// Tests two ends of a [`Transport`] that can reach each other. Waits for ever if packets between them are lost.
pub async fn check_transport(one: &dyn Transport, other: &dyn Transport, nowhere: SocketAddr) {
    let mut buffer = [0; 2048];
    for len in [1, 28, 1400] {
        let packet = vec![len as u8; len];
        let _unreachable = one.send(nowhere, b"nobody").await;
        drop(poll_once(other.receive(&mut buffer)));
        one.send(other.local_address(), &packet).await.expect("line 2: the receiver that exists is reached");
        let (received, from) = loop {
            // Some systems report the unreachable receiver here.
            if let Ok(received) = other.receive(&mut buffer).await {
                break received;
            }
        };
        assert_eq!(&buffer[..received], packet, "line 1: a datagram comes whole");
        assert_eq!(from, one.local_address(), "lines 1 and 3: a reply goes to where it came from");
    }
}
