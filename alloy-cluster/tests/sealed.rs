//! Clusters whose packets and streams are sealed: strangers stay out, keys change without a break.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use alloy_cluster::testing::{Network, NetworkOptions};
use alloy_cluster::{
    Cluster, ClusterConfig, ClusterEvent, Hint, KeyRing, LinkListen, Membership, Node, Phase, bind,
};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn id(id: u8) -> NonZeroU8 {
    NonZeroU8::new(id).expect("tests do not use 0")
}

fn old() -> KeyRing {
    KeyRing::new(id(1), [1; 32])
}

fn new() -> KeyRing {
    KeyRing::new(id(2), [2; 32])
}

fn sealed(seed: u64, keys: Option<KeyRing>) -> Network {
    let mut network = Network::new(NetworkOptions { keys, ..NetworkOptions::bad(seed) }, 20);
    for index in 0..5 {
        network.start(&format!("node-{index}"));
    }
    network.run_until("settled", ms(30_000), |network| network.agrees() && network.is_settled());
    network.run_for(ms(3000), |_| {});
    network
}

/// Gives each node the ring, one after the other, while nobody may lose sight of anybody.
fn replace(network: &mut Network, ring: &KeyRing) {
    for index in 0..5 {
        network.set_keys(&format!("node-{index}"), Some(ring.clone()));
        network.run_for(ms(1500), |network| assert!(network.agrees(), "{}", network.describe()));
    }
}

#[test]
fn keys_change_without_a_break() {
    let (mut unsealed, mut received) = (0, 0);
    for seed in 0..12 {
        let mut network = sealed(seed, Some(old()));
        for ring in [old().opens(id(2), [2; 32]), new().opens(id(1), [1; 32]), new()] {
            replace(&mut network, &ring);
        }
        for name in network.names() {
            let stats = network.swim(name.as_str()).stats();
            unsealed += stats.unsealed;
            received += stats.packets_received;
        }
    }
    // The network doubles 2 % of the packets; beside the doubles nothing is refused. One node in one run has too few packets
    // to tell 2 % from 4 %.
    println!("{unsealed} of {received} refused");
    assert!((10..30).contains(&(unsealed * 1000 / received)), "{unsealed} of {received}");
}

#[test]
fn a_cluster_in_the_clear_is_sealed_without_a_break() {
    let mut network = sealed(1, None);
    let in_the_clear = network.events("node-0").iter().filter(|event| **event == ClusterEvent::InTheClear);
    assert_eq!(in_the_clear.count(), 1, "it is said once");
    for ring in [old().still_plain(), old().opens_plain(), old()] {
        replace(&mut network, &ring);
    }
}

#[test]
fn without_the_key_nobody_joins_and_a_repeated_packet_does_nothing() {
    let mut network = sealed(2, Some(old()));
    let before = network.view("node-0").clone();
    let recorded = network.last_packet_to("node-0").expect("it runs").clone();
    let refused = network.swim("node-0").stats().unsealed;
    for _ in 0..100 {
        network.inject("node-0", &recorded);
    }
    assert_eq!(network.swim("node-0").stats().unsealed, refused + 100, "each repeat is refused");
    network.start("stranger");
    network.set_keys("stranger", Some(KeyRing::new(id(1), [9; 32])));
    network.run_for(ms(20_000), |_| {});
    assert!(network.view("node-0").member(&"stranger".into()).is_none());
    assert_eq!(network.view("node-0").digest(), before.digest());
}

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn start(name: &str, join: &[String], keys: Option<KeyRing>) -> (Cluster, JoinHandle<()>) {
    let node = Node { name: name.into(), address: any_port(), incarnation: 1 };
    let config = ClusterConfig { join: join.to_vec(), keys, ..ClusterConfig::new("sealed", node) };
    let (cluster, driver) = bind(config, any_port(), LinkListen::Own).await.expect("loopback binds");
    (cluster, tokio::spawn(driver.run()))
}

#[tokio::test]
async fn sealed_streams_carry_messages_while_the_keys_change() {
    let (a, run_a) = start("a", &[], Some(old())).await;
    let join = [a.node().address.to_string()];
    let (b, run_b) = start("b", &join, Some(old())).await;
    let (stranger, run_stranger) = start("stranger", &join, Some(KeyRing::new(id(1), [9; 32]))).await;
    for cluster in [&a, &b] {
        cluster.wait_for_size(2, PATIENCE).await.expect("they find each other");
    }
    let mut incoming = b.incoming().expect("taken once");
    let mut next = 0_u8;
    for ring in [old(), old().opens(id(2), [2; 32]), new().opens(id(1), [1; 32]), new()] {
        a.set_keys(Some(ring.clone())).await;
        b.set_keys(Some(ring)).await;
        for _ in 0..20 {
            a.send(b.me(), "numbers", Bytes::from(vec![next; 5000]));
            let message = timeout(PATIENCE, incoming.recv()).await.expect("in time").expect("open");
            assert_eq!(message.payload, vec![next; 5000]);
            next += 1;
        }
    }
    let alone = stranger.wait_for_size(2, ms(100)).await.expect_err("without the key it sees nobody");
    assert_eq!(alone.members().len(), 1);
    let mut events = stranger.events().expect("taken once");
    let too_small = ClusterEvent::TooSmall { members: 1, wanted: 2 };
    while timeout(PATIENCE, events.recv()).await.expect("in time").expect("open") != too_small {}
    for task in [run_a, run_b, run_stranger] {
        task.abort();
    }
}

#[tokio::test]
async fn a_node_that_knew_others_waits_for_them_and_then_says_that_it_is_alone() {
    let (a, run_a) = start("a", &[], None).await;
    let (b, run_b) = start("b", &[a.node().address.to_string()], None).await;
    let view = b.wait_for_size(2, PATIENCE).await.expect("they find each other");
    let hint = Hint::decode(&Hint::of(&view, b.me()).encode());
    run_b.abort();

    // No list of addresses at all, as after a total failure of DNS: the hint leads back.
    let again = |incarnation| {
        let node = Node { name: "b".into(), address: any_port(), incarnation };
        let mut config = ClusterConfig { hint: hint.clone(), ..ClusterConfig::new("sealed", node) };
        config.timing.isolation_patience = ms(1500);
        config.join_timeout = ms(100);
        config
    };
    let (b, driver) = bind(again(2), any_port(), LinkListen::Own).await.expect("loopback binds");
    let run_b = tokio::spawn(driver.run());
    b.wait_for_size(2, PATIENCE).await.expect("the hint leads back");
    run_a.abort();
    run_b.abort();

    let (b, driver) = bind(again(3), any_port(), LinkListen::Own).await.expect("loopback binds");
    let mut events = b.events().expect("taken once");
    let run_b = tokio::spawn(driver.run());
    let began = std::time::Instant::now();
    b.set_phase(Phase::Active).await;
    assert!(began.elapsed() >= ms(1400), "it has waited for those it knew: {:?}", began.elapsed());
    let alone = ClusterEvent::StartedAlone { known: 1 };
    while timeout(PATIENCE, events.recv()).await.expect("in time").expect("open") != alone {}
    run_b.abort();
}
