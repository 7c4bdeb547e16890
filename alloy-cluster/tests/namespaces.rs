//! Ten processes in ten network namespaces: kill, SIGSTOP, a partition that drops packets, heal.
//!
//! Needs root and `ip`; without them it prints why and passes. Loss and delay need `tc netem` in the kernel; without that it
//! prints so and goes on over a network that loses nothing. The namespaces are named after the process, and are removed in
//! the end whatever happens.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_cluster::{ClusterConfig, LinkListen, Membership, Node, Phase, bind};

const NODES: usize = 10;
const NODE_VARIABLE: &str = "ALLOY_CLUSTER_NAMESPACE_NODE";

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
    let (cluster, driver) =
        bind(config, here, LinkListen::Own).await.expect("the address is this namespace's");
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
}

struct Running {
    child: Child,
    view: Arc<Mutex<Vec<String>>>,
}

impl Lab {
    fn new() -> Result<Self, String> {
        let lab = Lab { prefix: format!("al{}", std::process::id() % 100_000), nodes: Vec::new() };
        let prefix = &lab.prefix;
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
        if let Err(reason) = netem {
            println!("without loss and delay: {reason}");
        }
        Ok(lab)
    }

    fn start(&mut self) {
        let program = std::env::current_exe().expect("the test's own program");
        for index in 0..NODES {
            let mut child = Command::new("ip")
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
    let eight: Vec<usize> = (0..8).collect();
    lab.until("a stopped process is taken for dead", &eight, &eight);
    std::thread::sleep(Duration::from_secs(6));
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
