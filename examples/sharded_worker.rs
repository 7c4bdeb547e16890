//! A job runner: 10,000 jobs shared by four workers, each job run by one of them at a time, and its progress kept while
//! workers come, leave and die.
//!
//! A job counts; the count is its state. In the end nothing but what a crash may cost is missing.
//!
//! Run: `cargo run --release -p examples --example sharded_worker`

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_cluster::{
    Cluster, ClusterConfig, Event, Handover, HandoverOptions, KeyRing, LinkListen, Membership, Node, Phase,
    Rendezvous, bind,
};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, sleep_until};

const JOBS: u64 = 10_000;
const STEP: Duration = Duration::from_millis(200);

/// What a worker does now: the count of each of its jobs.
type Running = Arc<Mutex<HashMap<u64, u64>>>;

fn count(state: Option<Bytes>) -> u64 {
    state.and_then(|state| state.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn state(count: u64) -> Bytes {
    Bytes::copy_from_slice(&count.to_le_bytes())
}

/// Runs the jobs that this worker owns.
async fn work(cluster: Cluster, running: Running) {
    let mut handover = Handover::new(cluster.me().clone(), HandoverOptions::default(), Arc::new(Rendezvous));
    let mut incoming = cluster.incoming().expect("nobody has taken it before");
    let mut step = interval(STEP);
    let mut view = cluster.view();
    handover.set_keys(Instant::now(), 0..JOBS);
    handover.set_view(Instant::now(), view.clone());
    loop {
        let due = handover.poll_deadline().unwrap_or(Instant::now() + Duration::from_secs(60));
        tokio::select! {
            next = cluster.changed(view.epoch()) => {
                view = next;
                handover.set_view(Instant::now(), view.clone());
            }
            Some(message) = incoming.recv() => handover.handle_message(Instant::now(), &message.from, &message.payload),
            () = sleep_until(due.into()) => handover.handle_timeout(Instant::now()),
            _ = step.tick() => {
                for (job, count) in running.lock().expect("nobody panics").iter_mut() {
                    *count += 1;
                    handover.update_state(Instant::now(), *job, state(*count));
                }
            }
        }
        let mut running = running.lock().expect("nobody panics");
        while let Some(event) = handover.poll_event() {
            match event {
                Event::Start { key, state, .. } => drop(running.insert(key, count(state))),
                Event::Stop { key } => {
                    let last = running.remove(&key).map(state);
                    handover.handle_stopped(Instant::now(), key, last);
                }
            }
        }
        drop(running);
        while let Some((to, message)) = handover.poll_message() {
            cluster.send(&to, "jobs", message);
        }
    }
}

struct Worker {
    cluster: Cluster,
    running: Running,
    tasks: [JoinHandle<()>; 2],
}

async fn start(name: &str, join: Vec<String>) -> Result<Worker, alloy_cluster::Error> {
    let anywhere: SocketAddr = ([127, 0, 0, 1], 0).into();
    let node = Node { name: name.into(), address: anywhere, incarnation: 1 };
    let mut config = ClusterConfig { join, ..ClusterConfig::new("jobs", node) };
    // A real key is 32 random bytes that all workers are given.
    config.keys = Some(KeyRing::new(
        std::num::NonZeroU8::MIN,
        *b"an example's key, known to anyone"[..32].first_chunk().expect("32 bytes"),
    ));
    let (cluster, driver) = bind(config, anywhere, LinkListen::Own).await?;
    let running = Running::default();
    let tasks = [tokio::spawn(driver.run()), tokio::spawn(work(cluster.clone(), running.clone()))];
    cluster.set_phase(Phase::Active).await;
    Ok(Worker { cluster, running, tasks })
}

/// Prints how many jobs each has, and that none runs twice.
fn report(what: &str, workers: &[&Worker]) {
    let mut all: HashMap<u64, u32> = HashMap::new();
    let mut shares = Vec::new();
    let mut steps = 0;
    for worker in workers {
        let running = worker.running.lock().expect("nobody panics");
        running.keys().for_each(|job| *all.entry(*job).or_default() += 1);
        steps += running.values().sum::<u64>();
        shares.push(format!("{} {}", worker.cluster.me(), running.len()));
    }
    let twice = all.values().filter(|count| **count > 1).count();
    println!(
        "{what}: {}; {} jobs run, {twice} of them twice, {steps} steps done",
        shares.join(", "),
        all.len()
    );
}

#[tokio::main]
async fn main() -> Result<(), alloy_cluster::Error> {
    let a = start("a", vec![]).await?;
    let seed = vec![a.cluster.node().address.to_string()];
    let (b, c) = (start("b", seed.clone()).await?, start("c", seed.clone()).await?);
    sleep(Duration::from_secs(2)).await;
    report("three workers", &[&a, &b, &c]);

    let d = start("d", seed).await?;
    sleep(Duration::from_secs(2)).await;
    report("a fourth", &[&a, &b, &c, &d]);

    b.cluster.set_phase(Phase::Leaving).await;
    sleep(Duration::from_secs(2)).await;
    b.cluster.leave().await;
    b.tasks.iter().for_each(JoinHandle::abort);
    report("b has left in order", &[&a, &c, &d]);

    c.tasks.iter().for_each(JoinHandle::abort);
    sleep(Duration::from_secs(4)).await;
    report("c has died", &[&a, &d]);
    Ok(())
}
