//! An agent that is alone: what it takes, when, and what it gives back.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::*;

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(10);

fn flags() -> ClusterFlags {
    ClusterFlags {
        enabled: false,
        node_name: Some("me".to_owned()),
        name: String::new(),
        join_addresses: Vec::new(),
        rejoin_interval: PATIENCE,
        advertise_address: String::new(),
        gossip_listen: None,
    }
}

async fn solo() -> Joined {
    start(&flags(), "host", ([127, 0, 0, 1], 4711).into()).await.unwrap()
}

fn keys(keys: std::ops::Range<u64>) -> Vec<(u64, String)> {
    keys.map(|key| (key, format!("target {key}"))).collect()
}

async fn next(shard: &Shard) -> Turn {
    tokio::time::timeout(PATIENCE, shard.next()).await.expect("there is a turn")
}

/// The keys of the next turns, which all begin one.
async fn started(shard: &Shard, count: usize) -> BTreeSet<u64> {
    let mut started = BTreeSet::new();
    for _ in 0..count {
        match next(shard).await {
            Turn::Start { key, state: None, origin: Origin::Fresh } => {
                assert!(started.insert(key), "{key} twice")
            }
            turn => panic!("{turn:?}"),
        }
    }
    started
}

/// Whether there is nothing to do: turns are put down at once by who causes them.
async fn is_idle(shard: &Shard) -> bool {
    tokio::time::timeout(Duration::ZERO, shard.next()).await.is_err()
}

#[tokio::test]
async fn nothing_shared_starts_before_the_agent_is_ready_and_everything_at_once_after() {
    let Joined { ownership, member, .. } = solo().await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(member.run(stop.clone()));
    let shared = ownership.shard("shared", Sharing::Clustered);
    let own = ownership.shard("own", Sharing::Alone);
    shared.set_keys(keys(0..100));
    own.set_keys(keys(0..3));
    assert_eq!(started(&own, 3).await, BTreeSet::from_iter(0..3), "what is not shared waits for nobody");
    assert!(is_idle(&shared).await);
    assert_eq!(ownership.peers()[0].state, "viewer");

    ownership.activate().await;
    assert_eq!(started(&shared, 100).await, BTreeSet::from_iter(0..100));
    assert!(is_idle(&shared).await && is_idle(&own).await);
    let late = ownership.shard("late", Sharing::Clustered);
    late.set_keys(keys(7..9));
    assert_eq!(started(&late, 2).await, BTreeSet::from_iter(7..9));
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_gone_is_stopped_and_comes_back_with_what_it_left() {
    let Joined { ownership, .. } = solo().await;
    let shard = ownership.shard("component", Sharing::Alone);
    shard.set_keys(keys(1..4));
    started(&shard, 3).await;
    shard.update_state(2, Bytes::from_static(b"slot 16"));
    shard.set_keys(keys(1..2));
    let (one, other) = (next(&shard).await, next(&shard).await);
    assert!(matches!((&one, &other), (Turn::Stop { key: 2 }, Turn::Stop { key: 3 })), "{one:?}, {other:?}");
    shard.stopped(2, Some(Bytes::from_static(b"slot 17")));
    shard.stopped(3, None);
    assert!(is_idle(&shard).await);

    shard.set_keys(keys(1..4));
    let mut left = Vec::new();
    for _ in 0..2 {
        let Turn::Start { key, state, .. } = next(&shard).await else { panic!("both begin again") };
        left.push((key, state));
    }
    left.sort();
    assert_eq!(left, [(2, Some(Bytes::from_static(b"slot 17"))), (3, None)]);
    assert!(is_idle(&shard).await);
}

#[tokio::test]
async fn a_key_that_comes_back_while_it_stops_starts_only_when_it_has_stopped() {
    let Joined { ownership, .. } = solo().await;
    let shard = ownership.shard("component", Sharing::Alone);
    shard.set_keys(keys(1..2));
    started(&shard, 1).await;
    shard.set_keys(Vec::new());
    assert!(matches!(next(&shard).await, Turn::Stop { key: 1 }));
    shard.set_keys(keys(1..2));
    assert!(is_idle(&shard).await, "two tasks for one key would take its slots twice");
    shard.stopped(1, Some(Bytes::from_static(b"17")));
    let turn = next(&shard).await;
    assert!(matches!(&turn, Turn::Start { key: 1, state: Some(state), .. } if state == "17"), "{turn:?}");
}

#[tokio::test]
async fn an_agent_that_is_alone_keeps_its_keys_when_it_stops() {
    let Joined { ownership, .. } = solo().await;
    let shard = ownership.shard("component", Sharing::Clustered);
    shard.set_keys(keys(0..3));
    ownership.activate().await;
    // The view comes with the service's task; there is none here.
    let handed = tokio::time::timeout(PATIENCE, ownership.hand_over(Duration::from_secs(3600))).await;
    assert!(handed.expect("there is nobody to wait for"));
    assert_eq!(ownership.peers()[0].state, "participant");
}

#[tokio::test]
async fn the_list_says_who_owns_what_under_names_for_people() {
    let Joined { ownership, .. } = solo().await;
    let shard = ownership.shard("component", Sharing::Alone);
    shard.set_keys(vec![(0xab, "http://b".to_owned()), (1, "http://a".to_owned())]);
    started(&shard, 2).await;
    let list = ownership.list();
    let shown: Vec<_> = list
        .iter()
        .map(|owned| (owned.name.as_str(), owned.key.as_str(), owned.owner.as_deref(), owned.here))
        .collect();
    assert_eq!(
        shown,
        [
            ("http://a", "0000000000000001", Some("me"), "acting"),
            ("http://b", "00000000000000ab", Some("me"), "acting")
        ]
    );
    assert!(list.iter().all(|owned| owned.component == "component" && owned.successor.is_none()));
    let peers = ownership.peers();
    assert_eq!((peers.len(), peers[0].name.as_str(), peers[0].address.as_str()), (1, "me", "127.0.0.1:4711"));
    assert!(peers[0].is_self);

    shard.set_keys(vec![(1, "http://a".to_owned())]);
    assert_eq!(ownership.list().len(), 1, "a key that is gone is nobody's");
}

#[tokio::test]
async fn an_address_to_advertise_must_be_one() {
    let advertised = async |address: &str| {
        let flags = ClusterFlags { advertise_address: address.to_owned(), ..flags() };
        let joined = start(&flags, "host", ([127, 0, 0, 1], 4711).into()).await;
        joined.map(|joined| joined.ownership.peers()[0].address.clone()).map_err(|error| error.to_string())
    };
    assert_eq!(advertised("").await.unwrap(), "127.0.0.1:4711");
    assert_eq!(advertised("10.0.0.7").await.unwrap(), "10.0.0.7:4711");
    assert_eq!(advertised("10.0.0.7:1").await.unwrap(), "10.0.0.7:1");
    assert_eq!(advertised("fd00::1").await.unwrap(), "[fd00::1]:4711");
    assert_eq!(advertised("[fd00::1]:2").await.unwrap(), "[fd00::1]:2");
    assert!(advertised("me").await.unwrap_err().contains("--cluster.advertise-address=me"));
}

/// Two agents in one process; both run until the returned token is cancelled.
async fn two() -> ([Ownership; 2], CancellationToken) {
    let stop = CancellationToken::new();
    let loopback = ([127, 0, 0, 1], 0).into();
    let start = async |name: &str, join: Vec<String>| {
        let flags = ClusterFlags {
            enabled: true,
            node_name: Some(name.to_owned()),
            join_addresses: join,
            gossip_listen: Some(loopback),
            ..flags()
        };
        let Joined { ownership, member, .. } = start(&flags, "host", loopback).await.unwrap();
        tokio::spawn(member.run(stop.clone()));
        ownership.activate().await;
        ownership
    };
    let one = start("one", Vec::new()).await;
    let other = start("other", vec![one.peers()[0].address.clone()]).await;
    ([one, other], stop)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn who_runs_another_configuration_is_seen() {
    let ([one, other], stop) = two().await;
    until("they see each other", || one.peers().len() == 2 && other.peers().len() == 2).await;
    one.announce_configuration("first").await;
    assert_eq!(one.configuration_drift(), 0, "the other has not told yet");
    other.announce_configuration("second").await;
    until("both see it", || one.configuration_drift() == 1 && other.configuration_drift() == 1).await;
    let peers = one.peers();
    let told: Vec<_> = peers.iter().map(|peer| (peer.name.as_str(), peer.configuration.as_str())).collect();
    assert_eq!(told, [("one", "first"), ("other", "second")]);
    assert!(peers.iter().all(|peer| peer.version == env!("CARGO_PKG_VERSION")));
    one.announce_configuration("second").await;
    until("it is over", || one.configuration_drift() + other.configuration_drift() == 0).await;
    one.announce_configuration(&"x".repeat(513)).await;
    assert_eq!(one.peers()[0].configuration, "second", "what is too long changes nothing");
    stop.cancel();
}
