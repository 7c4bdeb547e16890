//! A cluster over a transport of one's own: here datagrams through memory, with a fifth of them lost.
//!
//! Whatever carries datagrams will do (QUIC, a serial bus, a test): implement `Transport`, check it with
//! `alloy_cluster::testing::check_transport`, and give it to `bind_with`. Streams between members stay TCP; one who has no
//! use for them, as here, gets along without: gossip alone brings the views together, only later.
//!
//! Run: `cargo run -p examples --example own_transport`

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_cluster::{ClusterConfig, Membership, Node, Phase, Transport, bind_with};
use async_trait::async_trait;
use tokio::sync::mpsc;

type Datagram = (SocketAddr, Vec<u8>);

/// Everybody's mailbox.
#[derive(Clone, Default)]
struct Ether {
    mailboxes: Arc<Mutex<HashMap<SocketAddr, mpsc::Sender<Datagram>>>>,
    sent: Arc<AtomicU64>,
}

struct Plug {
    address: SocketAddr,
    ether: Ether,
    mailbox: tokio::sync::Mutex<mpsc::Receiver<Datagram>>,
}

impl Ether {
    fn plug(&self, address: SocketAddr) -> Plug {
        let (sender, receiver) = mpsc::channel(256);
        self.mailboxes.lock().expect("no code panics while holding it").insert(address, sender);
        Plug { address, ether: self.clone(), mailbox: receiver.into() }
    }
}

#[async_trait]
impl Transport for Plug {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    async fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        let is_lost = self.ether.sent.fetch_add(1, Ordering::Relaxed) % 5 == 4;
        let mailboxes = self.ether.mailboxes.lock().expect("no code panics while holding it");
        if let Some(mailbox) = mailboxes.get(&to).filter(|_| !is_lost) {
            // A full mailbox loses datagrams, as a socket's buffer does.
            let _full_or_gone = mailbox.try_send((self.address, packet.to_vec()));
        }
        Ok(())
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.mailbox.lock().await.recv().await;
        let (from, packet) = received.ok_or(io::ErrorKind::BrokenPipe)?;
        buffer[..packet.len()].copy_from_slice(&packet);
        Ok((packet.len(), from))
    }
}

#[tokio::main]
async fn main() -> Result<(), alloy_cluster::Error> {
    let ether = Ether::default();
    let address = |index: u8| SocketAddr::from(([192, 0, 2, index], 1));
    let mut clusters = Vec::new();
    for index in 1..=5 {
        let node =
            Node { name: format!("plug-{index}").as_str().into(), address: address(index), incarnation: 1 };
        let join = vec![address(1).to_string()];
        let config = ClusterConfig { join, phase: Phase::Active, ..ClusterConfig::new("ether", node) };
        let (cluster, driver) = bind_with(config, Box::new(ether.plug(address(index))))?;
        tokio::spawn(driver.run());
        clusters.push(cluster);
    }
    for cluster in &clusters {
        if let Err(view) = cluster.wait_for_size(5, Duration::from_secs(20)).await {
            println!("{} sees only {} members", cluster.me(), view.members().len());
        }
    }
    // Who is there is known; what each is ready for follows by gossip.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for cluster in &clusters {
        println!("{} sees {:016x}", cluster.me(), cluster.view().digest());
    }
    println!("plug-5 leaves");
    clusters[4].leave().await;
    let mut view = clusters[0].view();
    while view.members().len() > 4 {
        view = clusters[0].changed(view.epoch()).await;
    }
    println!(
        "plug-1 sees {} members; {} datagrams were sent",
        view.members().len(),
        ether.sent.load(Ordering::Relaxed)
    );
    Ok(())
}
