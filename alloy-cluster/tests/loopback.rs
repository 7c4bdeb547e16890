//! Three real nodes over loopback UDP and TCP: they find each other, one leaves, one is dropped without a word.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use alloy_cluster::{Cluster, ClusterConfig, ClusterEvent, LinkListen, Membership, Node, Phase, bind};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn start(name: &str, join: Vec<String>) -> (Cluster, JoinHandle<()>) {
    let node = Node { name: name.into(), address: any_port(), incarnation: 1 };
    let config = ClusterConfig { join, ..ClusterConfig::new("loopback", node) };
    let (cluster, driver) = bind(config, any_port(), LinkListen::Own).await.expect("loopback binds");
    (cluster, tokio::spawn(driver.run()))
}

/// Waits until the view satisfies, and says how long that took.
async fn until(cluster: &Cluster, what: &str, is_so: impl Fn(&alloy_cluster::View) -> bool) -> Duration {
    let started = Instant::now();
    let wait = async {
        let mut view = cluster.view();
        while !is_so(&view) {
            view = cluster.changed(view.epoch()).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{}: {what}: {:?}", cluster.me(), cluster.view()));
    started.elapsed()
}

#[tokio::test]
async fn three_nodes_meet_talk_and_part() {
    let (a, run_a) = start("a", vec!["no-such-host.invalid".into()]).await;
    let seed = vec![a.node().address.to_string()];
    let (b, run_b) = start("b", seed.clone()).await;
    let (c, run_c) = start("c", seed).await;

    let is_full = |view: &alloy_cluster::View| view.members().len() == 3;
    for cluster in [&a, &b, &c] {
        until(cluster, "sees three", is_full).await;
        cluster.set_phase(Phase::Active).await;
        assert_eq!(cluster.view().member(cluster.me()).map(|me| me.phase), Some(Phase::Active));
    }
    for cluster in [&a, &b, &c] {
        let all_active = |view: &alloy_cluster::View| view.members().iter().all(|m| m.phase == Phase::Active);
        until(cluster, "sees all active", all_active).await;
    }
    assert_eq!(a.view().digest(), c.view().digest());

    let mut incoming = b.incoming().expect("taken once");
    assert!(b.incoming().is_none());
    for number in 0..100_u8 {
        a.send(b.me(), "numbers", Bytes::from(vec![number; 1000]));
    }
    for number in 0..100_u8 {
        let message = timeout(PATIENCE, incoming.recv()).await.expect("in time").expect("open");
        assert_eq!((message.from.as_str(), message.channel.as_str()), ("a", "numbers"));
        assert_eq!(message.payload, vec![number; 1000]);
    }

    c.leave().await;
    run_c.await.expect("the driver ends by itself");
    for cluster in [&a, &b] {
        let took = until(cluster, "knows that c left", |view| view.members().len() == 2).await;
        assert!(took < Duration::from_millis(600), "{took:?}");
    }
    run_b.abort();
    let took = until(&a, "knows that b died", |view| view.members().len() == 1).await;
    println!("a dropped node was known down after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    run_a.abort();
}

#[tokio::test]
async fn links_arrive_through_a_port_shared_with_the_caller() {
    let listener = TcpListener::bind(any_port()).await.expect("loopback binds");
    let address = listener.local_addr().expect("bound");
    let node = Node { name: "shared".into(), address, incarnation: 1 };
    let config = ClusterConfig::new("loopback", node);
    let Ok((shared, driver)) = bind(config, address, LinkListen::Shared).await else {
        return; // The port is free for TCP and taken for UDP: nothing to test here today.
    };
    let run = tokio::spawn(driver.run());
    let accepting = shared.clone();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut first = [0; 4];
            while stream.peek(&mut first).await.is_ok_and(|len| len < 4) {
                tokio::task::yield_now().await;
            }
            assert_eq!(first, alloy_cluster::LINK_MAGIC);
            accepting.accept(stream).await;
        }
    });
    let (other, run_other) = start("other", vec![address.to_string()]).await;
    until(&other, "sees two", |view| view.members().len() == 2).await;
    let mut incoming = shared.incoming().expect("taken once");
    other.send(shared.me(), "greeting", Bytes::from_static(b"hello"));
    let message = timeout(PATIENCE, incoming.recv()).await.expect("in time").expect("open");
    assert_eq!(message.payload, "hello");
    for task in [run, server, run_other] {
        task.abort();
    }
}

/// The file is empty at first, and gets the other's address while the node already runs.
#[tokio::test]
async fn a_file_of_addresses_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("members");
    std::fs::write(&path, "# nobody yet\n").expect("written");
    let (one, run_one) = start("one", Vec::new()).await;
    let (other, run_other) = start("other", vec![format!("file+{}", path.display())]).await;
    other.set_phase(Phase::Active).await;
    assert_eq!(other.view().members().len(), 1, "an empty file is nobody to wait for");
    std::fs::write(&path, format!("\n{} # one\n", one.node().address)).expect("written");
    until(&other, "has read it again", |view| view.members().len() == 2).await;
    run_one.abort();
    run_other.abort();
}

#[tokio::test]
async fn a_file_that_is_damaged_is_told_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("members");
    std::fs::write(&path, "10.0.0.1\nno host\n").expect("written");
    let text = format!("file+{}", path.display());
    let (cluster, run) = start("one", vec![text.clone()]).await;
    let mut events = cluster.events().expect("taken once");
    let told = async {
        loop {
            if let Some(ClusterEvent::JoinFailed { address, reason }) = events.recv().await {
                return (address, reason);
            }
        }
    };
    let (address, reason) = timeout(PATIENCE, told).await.expect("in time");
    assert_eq!(address, text);
    assert_eq!(reason, "line 2: `no host` is neither an address nor the name of a host");
    run.abort();
}

#[tokio::test]
async fn a_text_that_nobody_can_be_found_by_is_refused() {
    for (text, expected) in [
        ("alloy:port", "cannot find members by `alloy:port`: `port` is not a port"),
        (
            "srv+alloy",
            "cannot find members by `srv+alloy`: `srv+` is none of dns+, dnssrv+, dnssrvnoa+ and file+",
        ),
    ] {
        let node = Node { name: "me".into(), address: any_port(), incarnation: 1 };
        let config = ClusterConfig { join: vec![text.into()], ..ClusterConfig::new("loopback", node) };
        let error = bind(config, any_port(), LinkListen::Own).await.err().expect("it is refused");
        assert_eq!(error.to_string(), expected);
    }
}
