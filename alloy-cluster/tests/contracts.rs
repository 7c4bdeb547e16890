//! Every implementation of `Membership` and `Transport` in this crate keeps the contract.

use std::net::SocketAddr;
use std::sync::Arc;

use alloy_cluster::testing::{check_membership, check_transport};
use alloy_cluster::{ClusterConfig, LinkListen, Member, Membership, Node, Phase, Solo, Udp, bind};

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn node() -> Node {
    Node { name: "me".into(), address: any_port(), incarnation: 1 }
}

#[tokio::test]
async fn solo_keeps_the_contract() {
    let me = Member::new(node());
    let solo = Arc::new(Solo::new(me));
    let waiting = solo.clone();
    let waiter = tokio::spawn(async move { waiting.changed(1).await });
    tokio::task::yield_now().await;
    check_membership(solo).await;
    assert!(waiter.await.expect("no panic").epoch() > 1, "a change wakes who waits");
}

#[tokio::test]
async fn cluster_keeps_the_contract() {
    let config = ClusterConfig::new("contract", node());
    let (cluster, driver) = bind(config, any_port(), LinkListen::Own).await.expect("loopback binds");
    let run = tokio::spawn(driver.run());
    check_membership(Arc::new(cluster.clone())).await;
    run.await.expect("the driver ends after the goodbye");
    cluster.set_phase(Phase::Active).await;
}

#[tokio::test]
async fn udp_keeps_the_contract() {
    let one = Udp::bind(any_port()).await.expect("loopback binds");
    let other = Udp::bind(any_port()).await.expect("loopback binds");
    let nowhere = {
        let gone = Udp::bind(any_port()).await.expect("loopback binds");
        alloy_cluster::Transport::local_address(&gone)
    };
    check_transport(&one, &other, nowhere).await;
}

#[tokio::test]
async fn what_does_not_fit_into_a_packet_is_refused() {
    let check = async |change: fn(&mut ClusterConfig), expected: &str| {
        let mut config = ClusterConfig::new("name", node());
        change(&mut config);
        let error = bind(config, any_port(), LinkListen::Own).await.err().expect("it is refused");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(|config| config.name = String::new(), "cluster name").await;
    check(|config| config.node.name = "x".repeat(200).as_str().into(), "node name").await;
    check(|config| config.zone = "x".repeat(65), "zone").await;
    check(|config| config.version = "x".repeat(33), "version").await;
    check(|config| config.metadata = vec![0; 513], "metadata").await;
    check(|config| config.weight = 0, "weight").await;
}
