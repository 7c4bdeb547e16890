//! An agent as a child process on loopback, for tests and demonstrations that kill it.
//!
//! Only what was started here is ever signalled, and everything that was started here ends with its handle.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// All its arguments.
    pub arguments: Vec<OsString>,
    /// Where it listens, as its arguments say.
    pub address: SocketAddr,
    /// Where its output is appended.
    pub log: PathBuf,
}

/// An agent on loopback, as the flags of `alloy run` say it.
#[derive(Debug, Clone)]
pub struct Flags<'a> {
    /// The configuration file.
    pub config: PathBuf,
    /// Folder for storage and log file.
    pub folder: PathBuf,
    /// Its name, in the cluster and of its storage and log.
    pub name: &'a str,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whom it joins. Empty: it is not in a cluster.
    pub join: &'a [SocketAddr],
}

impl Start {
    /// `PROGRAM run CONFIG` with these flags.
    pub fn new(program: PathBuf, flags: &Flags<'_>) -> Self {
        let storage = flags.folder.join(flags.name);
        let mut arguments = vec![
            "run".into(),
            flags.config.clone().into_os_string(),
            format!("--storage.path={}", storage.display()).into(),
            format!("--server.http.listen-addr={}", flags.address).into(),
        ];
        if !flags.join.is_empty() {
            let join: Vec<String> = flags.join.iter().map(SocketAddr::to_string).collect();
            arguments.extend([
                "--cluster.enabled".into(),
                "--cluster.name=loopback".into(),
                format!("--cluster.node-name={}", flags.name).into(),
                format!("--cluster.join-addresses={}", join.join(",")).into(),
                format!("--cluster.advertise-address={}", flags.address.ip()).into(),
            ]);
        }
        let log = flags.folder.join(format!("{}.log", flags.name));
        Start { program, arguments, address: flags.address, log }
    }
}

/// An agent's process. Dropping it kills it.
pub struct Process {
    start: Start,
    child: Child,
}

impl Process {
    /// Starts the agent and does not wait for it.
    pub fn start(start: Start) -> anyhow::Result<Self> {
        let child = spawn(&start)?;
        Ok(Process { start, child })
    }

    /// Starts it again, with the same arguments. It must have ended.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.is_running()?, "{} still runs", self.start.address);
        self.child = spawn(&self.start)?;
        Ok(())
    }

    /// Its process id: what it uses is in `/proc`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// SIGTERM, and waits for the end. After `patience` it is killed, which is an error.
    pub fn terminate(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        self.ask_to_end()?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill()?;
                bail!("{} did not end within {patience:?} of SIGTERM", self.start.address);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, without waiting.
    pub fn ask_to_end(&mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        Ok(())
    }

    /// SIGHUP: it shall load its configuration anew.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP)?;
        Ok(())
    }

    /// Whether it answers 200 on `/-/ready`.
    pub fn is_ready(&self) -> bool {
        self.get("/-/ready").is_ok()
    }

    /// The body of a GET; an error if the status is not 200.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        get(self.start.address, path)
    }

    /// The most memory that it ever had, as the kernel counts it.
    pub fn memory_bytes_max(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmHWM")?;
        Ok(kib.trim().parse::<u64>()? << 10)
    }

    /// The last lines of its output.
    pub fn last_words(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.start.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.kill();
    }
}

fn spawn(start: &Start) -> anyhow::Result<Child> {
    let open = || -> io::Result<File> { OpenOptions::new().create(true).append(true).open(&start.log) };
    let log = open().with_context(|| format!("cannot write {}", start.log.display()))?;
    Command::new(&start.program)
        .args(&start.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C on the terminal is for the parent alone, which then ends its children.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", start.program.display()))
}

/// The body of a GET over HTTP/1.0, for the agent's own small answers.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    // A reload in a debug build, on a machine that others use too, syncs files and stops components: two seconds were not always
    // enough. Who is dead refuses at once.
    let patience = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    anyhow::ensure!(status == "200", "{address}{path} answers with status {status}: {}", body.trim());
    Ok(body.to_owned())
}

/// Addresses on loopback whose ports are free for TCP and UDP now.
///
/// They are below the range from which the system takes ports for connections: a process that is dead for a while
/// finds its port free when it comes back.
pub fn free_addresses(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    const PORTS: std::ops::Range<u16> = 15_000..32_000;
    // Tests at the same time, in this process or another one, begin at different places.
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let begun = BEGUN.fetch_add(count, Ordering::Relaxed);
    let begin = (std::process::id() as usize * 97 + begun) % PORTS.len();
    let ports = PORTS.cycle().skip(begin).take(PORTS.len());
    let addresses = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let free =
        addresses.filter(|address| TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok());
    let found: Vec<SocketAddr> = free.take(count).collect();
    anyhow::ensure!(found.len() == count, "only {} of {count} free ports on loopback", found.len());
    Ok(found)
}
