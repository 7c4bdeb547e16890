//! An agent that is alone: what it takes, when, and what it gives back.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::*;

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(10);

fn flags() -> ClusterFlags {
    ClusterFlags { node_name: Some("me".to_owned()), ..ClusterFlags::default() }
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
    shard.set_keys(Vec::<(u64, String)>::new());
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
    let list = ownership.list(&Default::default());
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
    assert_eq!(ownership.list(&Default::default()).len(), 1, "a key that is gone is nobody's");
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

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// An agent in this process that is part of a cluster, and runs until the token is cancelled.
async fn clustered(name: &str, flags: ClusterFlags, stop: &CancellationToken) -> Ownership {
    let flags = ClusterFlags {
        enabled: true,
        node_name: Some(name.to_owned()),
        gossip_listen: Some(LOOPBACK.into()),
        ..flags
    };
    let Joined { ownership, mut member, .. } = start(&flags, "host", LOOPBACK.into()).await.unwrap();
    if let Some(network) = &mut member.network {
        network.keys.look_interval = Duration::from_millis(10);
    }
    tokio::spawn(member.run(stop.clone()));
    ownership.activate().await;
    ownership
}

fn joining(other: &Ownership) -> ClusterFlags {
    ClusterFlags { join_addresses: vec![other.peers()[0].address.clone()], ..flags() }
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
    let stop = CancellationToken::new();
    let one = clustered("one", flags(), &stop).await;
    let other = clustered("other", joining(&one), &stop).await;
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

#[tokio::test]
async fn a_node_waits_for_others_before_it_takes_its_share() {
    let stop = CancellationToken::new();
    let waiting = |flags| ClusterFlags { wait_for_size: 2, ..flags };
    let one = clustered("one", waiting(flags()), &stop).await;
    let shard = one.shard("component", Sharing::Clustered);
    shard.set_keys(keys(0..10));
    assert_eq!(one.peers()[0].state, "viewer");
    assert!(is_idle(&shard).await);
    let other = clustered("other", waiting(joining(&one)), &stop).await;
    let all_take_part = |node: &Ownership| {
        let peers = node.peers();
        peers.len() == 2 && peers.iter().all(|peer| peer.state == "participant")
    };
    until("both take part", || all_take_part(&one) && all_take_part(&other)).await;
    stop.cancel();
}

#[tokio::test]
async fn a_node_goes_ahead_when_the_others_do_not_come_in_time() {
    let stop = CancellationToken::new();
    let patience = Duration::from_millis(50);
    let one =
        clustered("one", ClusterFlags { wait_for_size: 3, wait_timeout: patience, ..flags() }, &stop).await;
    until("it goes ahead", || one.peers()[0].state == "participant").await;
    stop.cancel();
}

#[tokio::test]
async fn a_node_that_still_waits_stops_without_taking_anything() {
    let stop = CancellationToken::new();
    let one = clustered("one", ClusterFlags { wait_for_size: 3, ..flags() }, &stop).await;
    assert!(one.hand_over(PATIENCE).await);
    one.leave().await;
    stop.cancel();
}

/// Three steps, each on both nodes before the next; a node with the old key alone is refused at last.
#[tokio::test]
async fn keys_are_rotated_while_the_nodes_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let (old, new) = (format!("1 {}", "ab".repeat(32)), format!("2 {}", "cd".repeat(32)));
    std::fs::write(&file, &old).unwrap();
    let with_keys = |flags: ClusterFlags| ClusterFlags { keys_file: Some(file.clone()), ..flags };
    let stop = CancellationToken::new();
    let one = clustered("one", with_keys(flags()), &stop).await;
    let other = clustered("other", with_keys(joining(&one)), &stop).await;
    until("they see each other", || one.peers().len() == 2 && other.peers().len() == 2).await;
    for (step, text) in [format!("{old}\n{new}"), format!("{new}\n{old}"), new.clone()].iter().enumerate() {
        std::fs::write(&file, text).unwrap();
        // What one says is heard by the other with whatever keys it has by now.
        let hash = format!("step {step}");
        one.announce_configuration(&hash).await;
        let heard = || other.peers().iter().any(|peer| peer.configuration == hash);
        until("the other has heard it", heard).await;
        assert_eq!((one.peers().len(), other.peers().len()), (2, 2));
    }
    // Both have dropped the old key once a newcomer with the new one is let in.
    let third = clustered("third", with_keys(joining(&one)), &stop).await;
    until("the newcomer is in", || third.peers().len() == 3).await;
    std::fs::write(&file, "1 not a key").unwrap();
    other.announce_configuration("after").await;
    until("the keys stay", || one.peers().iter().any(|peer| peer.configuration == "after")).await;
    stop.cancel();
}

#[tokio::test]
async fn who_was_there_is_written_down_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let one = clustered("one", flags().with_storage(folder.path()), &stop).await;
    let other = clustered("other", joining(&one), &stop).await;
    let file = folder.path().join("cluster-members");
    let address = other.peers().iter().find(|peer| peer.is_self).unwrap().address.parse().unwrap();
    let known = || alloy_cluster::Hint::decode(&std::fs::read(&file).unwrap_or_default());
    until("it is written", || known().members() == [("other".into(), address)]).await;
    stop.cancel();
}

#[tokio::test]
async fn flags_that_cannot_be_are_refused_before_anything_is_bound() {
    let refused = async |change: fn(&mut ClusterFlags)| {
        let mut flags = ClusterFlags { enabled: true, ..flags() };
        change(&mut flags);
        format!("{:#}", start(&flags, "host", LOOPBACK.into()).await.err().expect("it is refused"))
    };
    let error = refused(|flags| flags.discover_peers = Some("provider=k8s".to_owned())).await;
    assert!(error.contains("--cluster.discover-peers is not supported"), "{error}");
    let error = refused(|flags| flags.join_addresses = vec!["alloy:port".to_owned()]).await;
    assert!(error.contains("cannot find members by `alloy:port`: `port` is not a port"), "{error}");
    let error = refused(|flags| flags.keys_file = Some("/nowhere/keys".into())).await;
    assert!(error.contains("cannot read /nowhere/keys (--cluster.keys-file)"), "{error}");
    let error = refused(|flags| flags.zone = "x".repeat(65)).await;
    assert!(error.contains("zone has 65 bytes"), "{error}");
}

#[test]
fn the_defaults_are_those_of_the_command_line() {
    use clap::Parser;
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: ClusterFlags,
    }
    let parse = |arguments: &[&str]| {
        let cli = Cli::try_parse_from([&["alloy"], arguments].concat());
        cli.map(|cli| format!("{:?}", cli.flags)).map_err(|error| error.to_string())
    };
    assert_eq!(parse(&[]), Ok(format!("{:?}", ClusterFlags::default())));
    let flags = ClusterFlags {
        weight: 150,
        timing: Profile::Patient,
        wait_timeout: Duration::from_secs(600),
        ..ClusterFlags::default()
    };
    let text = ["--cluster.weight=1.5", "--cluster.timing=patient", "--cluster.wait-timeout=10m"];
    assert_eq!(parse(&text), Ok(format!("{flags:?}")));
    assert_eq!(parse(&["--cluster.wait-timeout=0"]), parse(&[]));
    assert!(parse(&["--cluster.weight=0"]).unwrap_err().contains("a number from 0.01 to 655"));
    assert!(parse(&["--cluster.rejoin-interval=0s"]).unwrap_err().contains("longer than 0"));
}

/// What a simulation says is what happens, and the ranking of each key says it, too.
#[tokio::test]
async fn a_simulation_moves_what_then_moves() {
    let stop = CancellationToken::new();
    let one = clustered("one", flags(), &stop).await;
    let other = clustered("other", joining(&one), &stop).await;
    let names = (0..200).map(|key| (key, format!("target {key}"))).collect::<Vec<_>>();
    let shards = [&one, &other].map(|node| node.shard("component", Sharing::Clustered));
    shards.iter().for_each(|shard| shard.set_keys(names.clone()));
    until("they share", || one.peers().iter().filter(|peer| peer.phase == "active").count() == 2).await;
    let owners = |node: &Ownership| -> Vec<Option<String>> {
        node.list(&Filter::default()).into_iter().map(|owned| owned.owner).collect()
    };
    let before = owners(&one);

    let plan = Plan { join: vec![Newcomer::parse("third:z:2").unwrap()], ..Plan::default() };
    let told = one.simulate(&plan).unwrap();
    let ranked = one.explain(&Filter::default());
    let third =
        clustered("third", ClusterFlags { zone: "z".into(), weight: 200, ..joining(&one) }, &stop).await;
    until("the third takes part", || one.peers().iter().filter(|peer| peer.phase == "active").count() == 3)
        .await;
    let after = owners(&one);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!((told.keys, told.moved), (200, moved));
    for share in &told.members {
        let has = |owners: &[Option<String>]| {
            owners.iter().filter(|owner| owner.as_ref() == Some(&share.name)).count()
        };
        assert_eq!((share.before, share.after), (has(&before), has(&after)), "{}", share.name);
    }
    assert!(told.flows.iter().all(|flow| flow.to.as_deref() == Some("third") && flow.how == "handed over"));
    for (explained, owner) in ranked.iter().zip(&before) {
        assert_eq!(explained.ranking.len(), 2);
        assert_eq!(Some(&explained.ranking[0].name), explained.owned.owner.as_ref());
        assert_eq!(explained.owned.owner, *owner);
        assert!(explained.because[0].starts_with(owner.as_deref().unwrap()), "{explained:?}");
    }

    let plan = Plan { kill: vec!["third".to_owned()], ..Plan::default() };
    let told = one.simulate(&plan).unwrap();
    assert_eq!(told.moved, moved, "what it took goes back");
    assert!(told.flows.iter().all(|flow| flow.from.as_deref() == Some("third") && flow.how == "taken over"));
    third.leave().await;
    until("the third is gone", || one.peers().len() == 2).await;
    assert_eq!(owners(&one), before);
    let changes: Vec<_> = one.changes().into_iter().filter(|change| change.member == "third").collect();
    assert_eq!(changes.first().map(|change| change.what), Some("a member is up"));
    assert_eq!(changes.last().map(|change| change.what), Some("a member has left"));
    stop.cancel();
}

#[tokio::test]
async fn a_plan_that_cannot_be_is_refused_with_what_is_wrong() {
    let Joined { ownership, .. } = solo().await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let refused = |plan: Plan| ownership.simulate(&plan).unwrap_err().to_string();
    assert_eq!(
        refused(Plan { kill: names(&["you"]), ..Plan::default() }),
        "\"you\" is no member; there are me"
    );
    let join = vec![Newcomer::parse("me").unwrap()];
    assert_eq!(refused(Plan { join, ..Plan::default() }), "\"me\" is a member already");
    for wrong in ["", ":zone", "a:b:none", "a::0", "a::0.00", "a::100", "a::1.", "ä", " a", "a:b:1:"] {
        let error = Newcomer::parse(wrong).unwrap_err().to_string();
        assert!(error.contains("is not NAME[:ZONE[:SHARES]]"), "{wrong}: {error}");
    }
    let third = Newcomer { name: "a".into(), zone: String::new(), weight: 50 };
    assert_eq!(Newcomer::parse("a::0.5").unwrap(), third);
}
