//! Ten processes in ten network namespaces: kill, SIGSTOP, a partition that drops packets, heal.
//!
//! Needs root and `ip`; without them it prints why and passes. Loss and delay are made by `tc netem`; where the kernel has none,
//! the nodes themselves lose and delay the datagrams that they send, and their streams are as fast as they are. The namespaces are named after the process, and are removed in
//! the end whatever happens.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_cluster::{
    Cluster, ClusterConfig, Driver, LinkListen, Membership, Node, Phase, Transport, Udp, bind, bind_with,
};
use rand::RngExt;
use tokio::net::TcpListener;

const NODES: usize = 10;
const NODE_VARIABLE: &str = "ALLOY_CLUSTER_NAMESPACE_NODE";
/// Set if the kernel does not shape.
const SHAPE_VARIABLE: &str = "ALLOY_CLUSTER_NAMESPACE_SHAPE";
/// What is lost of 1,000 datagrams, and how late the others come, in milliseconds.
const LOST: u32 = 10;
const DELAY_MS: std::ops::Range<u64> = 5..15;
/// How long a process is stopped.
const STOPPED: Duration = Duration::from_secs(10);

fn address(index: usize) -> String {
    format!("10.213.7.{}", index + 1)
}

/// What each process runs: a node that prints its view whenever that changes. Does nothing in an ordinary run.
#[tokio::test]
async fn node_of_a_namespace() {
    let Ok(index) = std::env::var(NODE_VARIABLE) else { return };
    let index: usize = index.parse().expect("the parent gives a number");
    let here: SocketAddr = format!("{}:7946", address(index)).parse().expect("an address");
    let node = Node { name: format!("node-{index}").as_str().into(), address: here, incarnation: 1 };
    let join = (0..3).map(|seed| format!("{}:7946", address(seed))).collect();
    let config = ClusterConfig { join, phase: Phase::Active, ..ClusterConfig::new("namespaces", node) };
    let (cluster, driver) = if std::env::var(SHAPE_VARIABLE).is_ok() {
        bind_shaped(config, here).await
    } else {
        bind(config, here, LinkListen::Own).await.expect("the address is this namespace's")
    };
    let running = tokio::spawn(driver.run());
    let mut view = cluster.view();
    // A parent that died must not leave its children behind.
    let end = Instant::now() + Duration::from_secs(180);
    while Instant::now() < end {
        let names: Vec<_> = view.members().iter().map(|member| member.node.name.as_str()).collect();
        println!("view {}", names.join(" "));
        tokio::select! {
            next = cluster.changed(view.epoch()) => view = next,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    running.abort();
}

/// A node whose datagrams are lost and late.
async fn bind_shaped(config: ClusterConfig, here: SocketAddr) -> (Cluster, Driver) {
    let udp = Udp::bind(here).await.expect("the address is this namespace's");
    let listener = TcpListener::bind(here).await.expect("the address is this namespace's");
    let (cluster, driver) = bind_with(config, Box::new(Shaped(Arc::new(udp)))).expect("the names are short");
    let accepting = cluster.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            accepting.accept(stream).await;
        }
    });
    (cluster, driver)
}

struct Shaped(Arc<Udp>);

#[async_trait::async_trait]
impl Transport for Shaped {
    fn local_address(&self) -> SocketAddr {
        self.0.local_address()
    }

    async fn send(&self, to: SocketAddr, packet: &[u8]) -> std::io::Result<()> {
        if rand::rng().random_range(0..1000) >= LOST {
            let (udp, packet) = (self.0.clone(), packet.to_vec());
            let delay = Duration::from_millis(rand::rng().random_range(DELAY_MS));
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _lost_as_any_other = udp.send(to, &packet).await;
            });
        }
        Ok(())
    }

    async fn receive(&self, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
        self.0.receive(buffer).await
    }
}

fn run(line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Namespaces on one bridge. Dropping it kills the processes and removes everything.
struct Lab {
    prefix: String,
    nodes: Vec<Running>,
    is_shaped_by_kernel: bool,
}

struct Running {
    child: Child,
    view: Arc<Mutex<Vec<String>>>,
}

impl Lab {
    fn new() -> Result<Self, String> {
        let prefix = format!("al{}", std::process::id() % 100_000);
        let mut lab = Lab { prefix, nodes: Vec::new(), is_shaped_by_kernel: false };
        let prefix = lab.prefix.clone();
        run(&format!("ip netns add {prefix}b"))?;
        run(&format!("ip -n {prefix}b link add br0 type bridge"))?;
        run(&format!("ip -n {prefix}b link set br0 up"))?;
        let mut netem = Ok(());
        for index in 0..NODES {
            let space = format!("{prefix}n{index}");
            run(&format!("ip netns add {space}"))?;
            run(&format!("ip -n {space} link add eth0 type veth peer name v{index} netns {prefix}b"))?;
            run(&format!("ip -n {prefix}b link set v{index} master br0 up"))?;
            run(&format!("ip -n {space} addr add {}/24 dev eth0", address(index)))?;
            run(&format!("ip -n {space} link set eth0 up"))?;
            run(&format!("ip -n {space} link set lo up"))?;
            if netem.is_ok() {
                let shape = "netem delay 10ms 5ms loss 1%";
                netem = run(&format!("ip netns exec {space} tc qdisc add dev eth0 root {shape}"));
            }
        }
        match netem {
            Ok(()) => lab.is_shaped_by_kernel = true,
            Err(reason) => println!("the nodes lose and delay their datagrams themselves: {reason}"),
        }
        Ok(lab)
    }

    fn start(&mut self) {
        let program = std::env::current_exe().expect("the test's own program");
        for index in 0..NODES {
            let mut command = Command::new("ip");
            if !self.is_shaped_by_kernel {
                command.env(SHAPE_VARIABLE, "1");
            }
            let mut child = command
                .args(["netns", "exec", &format!("{}n{index}", self.prefix)])
                .arg(&program)
                .args(["--exact", "node_of_a_namespace", "--nocapture"])
                .env(NODE_VARIABLE, index.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .expect("ip runs");
            let view = Arc::new(Mutex::new(Vec::new()));
            let (seen, output) = (view.clone(), child.stdout.take().expect("it is piped"));
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    // The test's own words may stand before ours.
                    if let Some((_, names)) = line.split_once("view ") {
                        let names = names.split(' ').map(str::to_owned).collect();
                        *seen.lock().expect("nobody panics") = names;
                    }
                }
            });
            self.nodes.push(Running { child, view });
        }
    }

    fn signal(&self, index: usize, signal: &str) {
        run(&format!("kill -{signal} {}", self.nodes[index].child.id())).expect("it runs");
    }

    /// Drops (or no longer drops) what goes between two nodes, both ways.
    fn block(&self, verb: &str, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let line = format!("ip -n {}n{from} route {verb} blackhole {}/32", self.prefix, address(to));
            run(&line).expect("the route can be changed");
        }
    }

    /// Waits until these nodes see exactly `expected`, and says how long that took.
    fn until(&self, what: &str, who: &[usize], expected: &[usize]) -> Duration {
        let began = Instant::now();
        let mut wanted: Vec<String> = expected.iter().map(|index| format!("node-{index}")).collect();
        wanted.sort();
        loop {
            let seen = |index: &usize| self.nodes[*index].view.lock().expect("nobody panics").clone();
            if who.iter().all(|index| seen(index) == wanted) {
                println!("{what}: {:.1?}", began.elapsed());
                return began.elapsed();
            }
            let views: Vec<_> = who.iter().map(seen).collect();
            assert!(began.elapsed() < Duration::from_secs(40), "{what}: {views:?}, wanted {wanted:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ended_already = node.child.kill();
            let _ended_already = node.child.wait();
        }
        for index in 0..NODES {
            let _was_not_made = run(&format!("ip netns del {}n{index}", self.prefix));
        }
        let _was_not_made = run(&format!("ip netns del {}b", self.prefix));
    }
}

#[test]
fn ten_processes_survive_kill_stop_and_partition() {
    if std::env::var(NODE_VARIABLE).is_ok() {
        return;
    }
    let mut lab = match Lab::new() {
        Ok(lab) => lab,
        Err(reason) => return println!("skipped: {reason}"),
    };
    lab.start();
    let all: Vec<usize> = (0..NODES).collect();
    lab.until("ten find each other", &all, &all);

    lab.signal(9, "KILL");
    let nine: Vec<usize> = (0..9).collect();
    let took = lab.until("a kill is known to all", &nine, &nine);
    assert!(took < Duration::from_secs(8), "{took:?}");

    lab.signal(8, "STOP");
    let stopped = Instant::now();
    let eight: Vec<usize> = (0..8).collect();
    lab.until("a stopped process is taken for dead", &eight, &eight);
    std::thread::sleep(STOPPED.saturating_sub(stopped.elapsed()));
    lab.signal(8, "CONT");
    lab.until("it comes back by itself", &nine, &nine);

    let (near, far): (Vec<usize>, Vec<usize>) = nine.iter().partition(|index| **index < 3);
    for one in &near {
        far.iter().for_each(|other| lab.block("add", *one, *other));
    }
    lab.until("the small side of a partition", &near, &near);
    lab.until("the large side", &far, &far);
    for one in &near {
        far.iter().for_each(|other| lab.block("del", *one, *other));
    }
    let took = lab.until("healed", &nine, &nine);
    assert!(took < Duration::from_secs(20), "{took:?}");
}
