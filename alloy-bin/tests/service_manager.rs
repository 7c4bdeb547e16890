//! What systemd hears of an agent that it has started, over a real datagram socket.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The agent, and where it tells how it goes.
struct World {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
    agent: Child,
}

impl World {
    fn new(environment: &[(&str, &str)]) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a free path");
        // A debug build on a busy machine takes its time.
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
        std::fs::write(folder.path().join("a.alloy"), "logging { }\n").expect("writable");
        let agent = Command::new(env!("CARGO_BIN_EXE_alloy"))
            .args(["run", "a.alloy", "--storage.path=data", "--server.http.listen-addr=127.0.0.1:0"])
            .current_dir(folder.path())
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        World { folder, socket, agent }
    }

    fn hear(&self) -> String {
        let mut told = [0; 4096];
        let length = self.socket.recv(&mut told).expect("a datagram");
        String::from_utf8_lossy(&told[..length]).into_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.agent), signal).expect("it runs");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

#[test]
fn systemd_hears_that_it_is_ready_reloads_and_stops() {
    let mut world = World::new(&[]);
    assert_eq!(world.hear(), "READY=1");
    for (text, word) in [("logging {\n}\n", "was loaded"), ("logging", "does not run")] {
        std::fs::write(world.folder.path().join("a.alloy"), text).expect("writable");
        world.signal(Signal::HUP);
        let told = world.hear();
        let since = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("it begins");
        assert!(since.parse::<u64>().is_ok_and(|microseconds| microseconds > 0), "{told}");
        let told = world.hear();
        assert!(told.starts_with("READY=1\nSTATUS=") && told.contains(word), "{told}");
    }
    world.signal(Signal::TERM);
    assert_eq!(world.hear(), "STOPPING=1");
    assert!(world.agent.wait().expect("it ends").success());
}

#[test]
fn a_watchdog_hears_again_and_again_that_it_lives() {
    let world = World::new(&[("WATCHDOG_USEC", "20000")]);
    assert_eq!(world.hear(), "READY=1");
    for _ in 0..3 {
        assert_eq!(world.hear(), "WATCHDOG=1");
    }
    let other = World::new(&[("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")]);
    assert_eq!(other.hear(), "READY=1");
    other.signal(Signal::TERM);
    assert_eq!(other.hear(), "STOPPING=1", "another process is watched");
}
