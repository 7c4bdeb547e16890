//! `journalctl` as a child process, on a thread of its own.

use std::io::{self, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::entries::{self, Entry};
use super::{Entries, Selection};

/// Entries that come together are a batch, up to so many or so many bytes.
const BATCH_ENTRIES: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;

/// A batch that is not full waits no longer than this, and only while more is there.
const BATCH_WAIT: Duration = Duration::from_millis(100);

/// How much is kept of what it says when it fails.
const COMPLAINT_BYTES_MAX: u64 = 4096;

/// A running `journalctl`. Dropping it ends the process.
pub(super) struct Journalctl {
    child: Child,
    pub(super) entries: Entries,
}

impl Journalctl {
    /// Starts it behind that entry, or where the selection begins.
    pub(super) fn start(selection: &Selection, cursor: Option<&str>) -> io::Result<Self> {
        let mut command = Command::new("journalctl");
        command.args(arguments(selection, cursor)).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot start journalctl, which is part of systemd: {error}"),
            )
        })?;
        let stdout = child.stdout.take().expect("it is a pipe");
        let stderr = child.stderr.take().expect("it is a pipe");
        // One batch is delivered while the next one is read; the rest waits in the pipe and in the journal.
        let (sender, entries) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || read(stdout, stderr, &sender));
        Ok(Journalctl { child, entries })
    }
}

impl Drop for Journalctl {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(selection: &Selection, cursor: Option<&str>) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--output=export", "--follow", "--no-tail", "--quiet", "--no-pager"].map(str::to_owned).into();
    if let Some(path) = &selection.path {
        arguments.push(format!("--directory={}", path.display()));
    }
    arguments.push(match cursor {
        Some(cursor) => format!("--after-cursor={cursor}"),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("--since=@{}", now.saturating_sub(selection.max_age).as_secs())
        }
    });
    arguments.push("--".to_owned());
    arguments.extend(selection.matches.iter().cloned());
    arguments
}

/// Reads until the process ends or nobody listens.
fn read(stdout: ChildStdout, stderr: ChildStderr, sender: &mpsc::Sender<io::Result<Vec<Entry>>>) {
    let mut stream = BufReader::with_capacity(64 << 10, stdout);
    let end = loop {
        match read_batch(&mut stream) {
            Ok(batch) if batch.is_empty() => break None,
            Ok(batch) => {
                if sender.blocking_send(Ok(batch)).is_err() {
                    return;
                }
            }
            Err(error) => break Some(error),
        }
    };
    let error = end.unwrap_or_else(|| {
        let mut complaint = String::new();
        // What it says is for people; without it there still is that it ended.
        let _ = stderr.take(COMPLAINT_BYTES_MAX).read_to_string(&mut complaint);
        io::Error::other(format!("journalctl has ended: {}", complaint.trim()))
    });
    let _ = sender.blocking_send(Err(error));
}

/// At least one entry, and those that are there already; none: the stream has ended.
fn read_batch(stream: &mut BufReader<ChildStdout>) -> io::Result<Vec<Entry>> {
    let (mut batch, mut bytes, begun) = (Vec::new(), 0, Instant::now());
    while let Some(entry) = entries::read_entry(stream)? {
        bytes += entry.0.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        batch.push(entry);
        let is_full = batch.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES || begun.elapsed() >= BATCH_WAIT;
        // An entry that has begun in the buffer is written to its end at once, so to read it does not take long.
        if is_full || stream.buffer().is_empty() {
            break;
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journalctl_is_asked_for_what_the_block_says() {
        let matches = vec!["_SYSTEMD_UNIT=a.service".to_owned(), "PRIORITY=3".to_owned()];
        let selection =
            Selection { path: Some("/journal".into()), matches, max_age: Duration::from_secs(60) };
        let asked = arguments(&selection, Some("s=1"));
        assert_eq!(
            asked[5..],
            ["--directory=/journal", "--after-cursor=s=1", "--", "_SYSTEMD_UNIT=a.service", "PRIORITY=3"]
        );
        let fresh = arguments(&Selection { path: None, matches: Vec::new(), ..selection }, None);
        assert!(fresh[5].starts_with("--since=@1") && fresh[6] == "--", "{fresh:?}");
    }
}
