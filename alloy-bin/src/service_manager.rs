//! Tells the service manager how it goes, as sd_notify(3) says: one datagram to the socket that `NOTIFY_SOCKET` names. Without
//! the variable nothing happens.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Who has started the agent, if it wants to hear of it.
pub struct ServiceManager(Option<UnixDatagram>);

impl ServiceManager {
    /// The one that the environment names.
    pub fn from_environment() -> ServiceManager {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return ServiceManager(None) };
        match connect(&name) {
            Ok(socket) => ServiceManager(Some(socket)),
            Err(error) => {
                tracing::warn!(socket = %name.display(), %error, "cannot reach the service manager");
                ServiceManager(None)
            }
        }
    }

    /// Sends lines such as `READY=1`.
    pub fn tell(&self, lines: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|socket| socket.send(lines.as_bytes())) {
            tracing::warn!(%error, lines, "the service manager cannot be told");
        }
    }

    /// Says that the configuration is being loaded, and how it went.
    pub async fn reloading(&self, reload: impl Future<Output = Result<(), String>>) {
        let now = clock_gettime(ClockId::Monotonic);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
        let status = match reload.await {
            Ok(()) => "the configuration was loaded",
            Err(_) => "the new configuration does not run, the old one goes on; the log says why",
        };
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Says that the agent lives, twice as often as it has to, for as long as somebody waits for it to end.
    pub async fn watchdog(self: std::sync::Arc<Self>) {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let (Some(within @ 1..), true) = (number("WATCHDOG_USEC"), meant) else { return };
        let mut turns = tokio::time::interval(Duration::from_micros(within.div_ceil(2)));
        loop {
            turns.tick().await;
            self.tell("WATCHDOG=1");
        }
    }
}

/// A path, or with `@` in front a name in Linux' abstract namespace.
fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not hold the agent.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_paths_or_abstract_names() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("socket");
        let abstract_name = format!("alloy-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("a short name");
        for (bound, name) in [
            (UnixDatagram::bind(&path), path.into_os_string()),
            (UnixDatagram::bind_addr(&address), format!("@{abstract_name}").into()),
        ] {
            let manager = ServiceManager(Some(connect(&name).expect("somebody listens")));
            manager.tell("READY=1");
            let mut told = [0; 100];
            let length = bound.expect("a free name").recv(&mut told).expect("a datagram");
            assert_eq!(&told[..length], b"READY=1");
        }
        assert!(connect(OsStr::new("/nowhere/at/all")).is_err());
    }
}
