//! File systems: how full they are. One that does not answer, such as NFS whose server is gone, holds a thread and not the scrape.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{StatFs, statfs};

use super::host::{Host, Metric, gauge, malformed, read};
use crate::telemetry::Page;

#[derive(Debug, Clone)]
struct Mount {
    device: String,
    point: String,
    fs_type: String,
    is_read_only: bool,
}

/// How full what is mounted at a point is.
type Ask = dyn Fn(&str) -> Option<StatFs> + Send + Sync;

type Stuck = Arc<Mutex<BTreeSet<String>>>;

pub(super) fn filesystem(host: &Host, page: &mut Page) -> io::Result<()> {
    let timeout = host.arguments.filesystem.mount_timeout;
    let root = host.arguments.rootfs_path.clone();
    let ask = move |point: &str| statfs(root.join(point.trim_start_matches('/'))).ok();
    ask_all(mounts(host)?, &host.stuck, timeout, Arc::new(ask), |mount, stats| put(page, mount, stats))
}

/// Asks with one thread for all. When it hangs, it is left behind with the mount that it hangs on, and another asks for the rest;
/// until it is back, nobody asks for that mount again.
fn ask_all(
    mut left: Vec<Mount>,
    stuck: &Stuck,
    timeout: Duration,
    ask: Arc<Ask>,
    mut take: impl FnMut(&Mount, Option<StatFs>),
) -> io::Result<()> {
    for mount in left.extract_if(.., |mount| lock(stuck).contains(&mount.point)) {
        take(&mount, None);
    }
    while !left.is_empty() {
        let (answer, answers) = mpsc::channel();
        let (ask, stuck_too, points) = (ask.clone(), stuck.clone(), left.clone());
        thread::Builder::new().name("statfs".to_owned()).spawn(move || {
            for mount in points {
                let stats = ask(&mount.point);
                // Under the lock, so that either side sees what the other has done.
                let mut stuck = lock(&stuck_too);
                if stuck.remove(&mount.point) {
                    tracing::info!(mountpoint = mount.point, "a file system answers again");
                    return;
                }
                if answer.send(stats).is_err() {
                    return;
                }
            }
        })?;
        let mut answered = 0;
        for mount in &left {
            answered += 1;
            match answers.recv_timeout(timeout) {
                Ok(stats) => take(mount, stats),
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the thread is gone")),
                Err(RecvTimeoutError::Timeout) => {
                    let mut stuck = lock(stuck);
                    if let Ok(stats) = answers.try_recv() {
                        take(mount, stats);
                        continue;
                    }
                    stuck.insert(mount.point.clone());
                    tracing::warn!(mountpoint = mount.point, "a file system does not answer");
                    take(mount, None);
                    break;
                }
            }
        }
        left.drain(..answered);
    }
    Ok(())
}

fn lock(stuck: &Stuck) -> MutexGuard<'_, BTreeSet<String>> {
    stuck.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those to be shown, each once: the init process's, which in a container are the host's.
fn mounts(host: &Host) -> io::Result<Vec<Mount>> {
    let options = &host.arguments.filesystem;
    let file = match read(&host.proc("1/mounts")) {
        // The init process may be hidden.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            read(&host.proc("mounts"))
        }
        file => file,
    }?;
    let root = host.arguments.rootfs_path.to_string_lossy();
    let (mut mounts, mut seen) = (Vec::new(), BTreeSet::new());
    for line in file.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [device, point, fs_type, flags, ..] = fields[..] else { return Err(malformed(line)) };
        let point = point.replace("\\040", " ").replace("\\011", "\t");
        let point = match point.strip_prefix(root.trim_end_matches('/')) {
            Some("") => "/".to_owned(),
            Some(inside) if inside.starts_with('/') => inside.to_owned(),
            _ => point,
        };
        let is_shown = options.mount_points.shows(&point) && options.fs_types.shows(fs_type);
        if is_shown && seen.insert((device.to_owned(), point.clone(), fs_type.to_owned())) {
            let is_read_only = flags.split(',').any(|flag| flag == "ro");
            mounts.push(Mount {
                device: device.to_owned(),
                point,
                fs_type: fs_type.to_owned(),
                is_read_only,
            });
        }
    }
    Ok(mounts)
}

fn put(page: &mut Page, mount: &Mount, stats: Option<StatFs>) {
    let labels =
        [("device", mount.device.as_str()), ("mountpoint", &mount.point), ("fstype", &mount.fs_type)];
    let error = gauge(
        "node_filesystem_device_error",
        "Whether an error occurred while getting statistics for the given device.",
    );
    error.put(page, &labels, f64::from(stats.is_none()));
    let Some(stats) = stats else { return };
    let block = stats.f_bsize as f64;
    #[rustfmt::skip]
    let table: [(Metric, f64); 6] = [
        (gauge("node_filesystem_size_bytes", "Filesystem size in bytes."), stats.f_blocks as f64 * block),
        (gauge("node_filesystem_free_bytes", "Filesystem free space in bytes."), stats.f_bfree as f64 * block),
        (gauge("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes."), stats.f_bavail as f64 * block),
        (gauge("node_filesystem_files", "Filesystem total file nodes."), stats.f_files as f64),
        (gauge("node_filesystem_files_free", "Filesystem total free file nodes."), stats.f_ffree as f64),
        (gauge("node_filesystem_readonly", "Filesystem read-only status."), f64::from(mount.is_read_only)),
    ];
    for (metric, value) in table {
        metric.put(page, &labels, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mount hangs in the middle of three. The scrape gets the others and an error for it; the next one does not wait for it; when
    /// it is back, it is asked again.
    #[test]
    fn a_mount_that_hangs_costs_one_timeout_and_comes_back() {
        let mounts: Vec<Mount> = ["/a", "/stuck", "/z"]
            .map(|point| Mount {
                device: String::new(),
                point: point.to_owned(),
                fs_type: String::new(),
                is_read_only: false,
            })
            .into();
        let (release, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let ask = Arc::new(move |point: &str| {
            if point == "/stuck" {
                let _ = wait.lock().unwrap().recv();
            }
            statfs("/").ok()
        });
        let stuck = Stuck::default();
        let answered = |timeout| {
            let mut seen = Vec::new();
            ask_all(mounts.clone(), &stuck, timeout, ask.clone(), |mount, stats| {
                seen.push((mount.point.clone(), stats.is_some()));
            })
            .unwrap();
            seen.sort();
            seen.into_iter().map(|(_, is_there)| is_there).collect::<Vec<_>>()
        };
        assert_eq!(answered(Duration::from_millis(200)), [true, false, true]);
        // Nothing is left that could hang: the timeout is never reached.
        assert_eq!(answered(Duration::from_secs(3600)), [true, false, true]);
        drop(release);
        while lock(&stuck).contains("/stuck") {
            thread::yield_now();
        }
        assert_eq!(answered(Duration::from_secs(3600)), [true, true, true]);
    }
}
