//! Three nodes in one program on loopback: who owns what, while one of them leaves and one dies.
//!
//! Run: `cargo run -p examples --example cluster_only`

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_cluster::{
    Cluster, ClusterConfig, Event, Handover, HandoverOptions, LinkListen, Membership, Node, Phase,
    Rendezvous, bind,
};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};

const KEYS: u64 = 12;
const CHANNEL: &str = "keys";

/// Follows the view with a handover, and "acts" on keys by printing.
async fn own(cluster: Cluster) {
    let mut handover = Handover::new(cluster.me().clone(), HandoverOptions::default(), Arc::new(Rendezvous));
    let mut incoming = cluster.incoming().expect("nobody has taken it before");
    handover.set_keys(Instant::now(), 0..KEYS);
    let mut view = cluster.view();
    handover.set_view(Instant::now(), view.clone());
    loop {
        let due = handover.poll_deadline().unwrap_or(Instant::now() + Duration::from_secs(60));
        tokio::select! {
            next = cluster.changed(view.epoch()) => {
                view = next;
                handover.set_view(Instant::now(), view.clone());
            }
            Some(message) = incoming.recv() => {
                handover.handle_message(Instant::now(), &message.from, &message.payload);
            }
            () = sleep_until(due.into()) => handover.handle_timeout(Instant::now()),
        }
        while let Some(event) = handover.poll_event() {
            let now = Instant::now();
            match event {
                Event::Start { key, origin, .. } => {
                    println!("  {} starts key {key}: {origin:?}", cluster.me());
                    handover.update_state(now, key, Bytes::from(format!("last touched by {}", cluster.me())));
                }
                // A real owner would flush here, and only then say that it has stopped.
                Event::Stop { key } => handover.handle_stopped(now, key, None),
            }
        }
        while let Some((to, message)) = handover.poll_message() {
            cluster.send(&to, CHANNEL, message);
        }
    }
}

struct Running {
    cluster: Cluster,
    driver: JoinHandle<()>,
    owner: JoinHandle<()>,
}

async fn start(name: &str, join: Vec<String>) -> Result<Running, alloy_cluster::Error> {
    let anywhere: SocketAddr = ([127, 0, 0, 1], 0).into();
    let node = Node { name: name.into(), address: anywhere, incarnation: 1 };
    let config = ClusterConfig { join, ..ClusterConfig::new("example", node) };
    let (cluster, driver) = bind(config, anywhere, LinkListen::Own).await?;
    let driver = tokio::spawn(driver.run());
    let owner = tokio::spawn(own(cluster.clone()));
    cluster.set_phase(Phase::Active).await;
    Ok(Running { cluster, driver, owner })
}

#[tokio::main]
async fn main() -> Result<(), alloy_cluster::Error> {
    println!("one starts alone and owns everything");
    let one = start("one", vec![]).await?;
    let seed = vec![one.cluster.node().address.to_string()];
    sleep(Duration::from_secs(1)).await;

    println!("two and three join: they take their shares");
    let two = start("two", seed.clone()).await?;
    let three = start("three", seed).await?;
    sleep(Duration::from_secs(2)).await;

    println!("two leaves in order: its keys are handed over first");
    two.cluster.set_phase(Phase::Leaving).await;
    sleep(Duration::from_secs(2)).await;
    two.cluster.leave().await;
    two.owner.abort();

    println!("three dies without a word: its keys start again from their copies");
    three.driver.abort();
    three.owner.abort();
    sleep(Duration::from_secs(4)).await;

    let names: Vec<_> = one.cluster.view().members().iter().map(|member| member.node.name.clone()).collect();
    println!("left are {names:?}");
    one.owner.abort();
    one.cluster.leave().await;
    Ok(())
}
