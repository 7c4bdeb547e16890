//! What all logs of the process may take together, `--storage.max-size`: shared equally among those that say nothing of their
//! own, anew whenever one is opened or closed.

use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, Weak};

use alloy_wal::Log;
use anyhow::{Context, bail};

use super::LogLimits;
use crate::config::ByteSize;

static BUDGET: Mutex<Budget> = Mutex::new(Budget { bytes: None, logs: Vec::new() });

/// The value of `--storage.max-size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxSize {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the file system.
    Percent(u64),
}

impl FromStr for MaxSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a size such as 8GiB, or a share of the file system such as 80%";
        match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(MaxSize::Percent)
            }
            None => ByteSize::parse(text).map(|size| MaxSize::Bytes(size.0)),
        }
        .ok_or(EXPECTED)
    }
}

/// Logs that are opened from now on share this.
pub fn limit_logs(size: MaxSize, storage: &Path) -> anyhow::Result<()> {
    let bytes = match size {
        MaxSize::Bytes(bytes) => bytes,
        MaxSize::Percent(percent) => {
            let of = || format!("cannot tell how large the file system of {} is", storage.display());
            let system = rustix::fs::statvfs(storage).with_context(of)?;
            system.f_blocks * system.f_frsize / 100 * percent
        }
    };
    BUDGET.lock().expect("no code panics while holding it").bytes = Some(bytes);
    tracing::info!(bytes, "all logs together may take this (--storage.max-size)");
    Ok(())
}

/// Gives an open log its share, and the others theirs.
pub(super) fn join(log: &Arc<Log>, limits: &LogLimits) -> anyhow::Result<Share> {
    BUDGET.lock().expect("no code panics while holding it").join(log, limits)?;
    Ok(Share)
}

/// A log's part. Dropped behind the log, it goes to the others.
pub(super) struct Share;

impl Drop for Share {
    fn drop(&mut self) {
        // The others had enough with less.
        let _ = BUDGET.lock().map(|mut budget| budget.share());
    }
}

struct Budget {
    /// `None`: there is none, and each log has a default of its own.
    bytes: Option<u64>,
    /// The logs, and what each of them says of itself: its limit, or the least that it needs.
    logs: Vec<(Weak<Log>, Result<u64, u64>)>,
}

impl Budget {
    fn join(&mut self, log: &Arc<Log>, limits: &LogLimits) -> anyhow::Result<()> {
        self.logs.push((Arc::downgrade(log), limits.max_bytes.ok_or(limits.least_bytes())));
        self.share().inspect_err(|_| drop(self.logs.pop()))
    }

    fn share(&mut self) -> anyhow::Result<()> {
        let Some(bytes) = self.bytes else { return Ok(()) };
        self.logs.retain(|(log, _)| log.strong_count() > 0);
        let rest = bytes.saturating_sub(self.logs.iter().filter_map(|(_, own)| own.ok()).sum());
        let sharing: Vec<_> =
            self.logs.iter().filter_map(|(log, own)| own.err().zip(log.upgrade())).collect();
        let share = rest / sharing.len().max(1) as u64;
        let least = sharing.iter().map(|(least, _)| *least).max().unwrap_or_default();
        if share < least {
            bail!(
                "{} logs share {} of --storage.max-size, and each needs {} at least: enlarge it, or set segment_bytes to less",
                sharing.len(),
                ByteSize(rest),
                ByteSize(least),
            );
        }
        sharing.iter().try_for_each(|(_, log)| Ok(log.set_max_bytes(share)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_size_or_a_share() {
        let check = |text: &str, expected| assert_eq!(text.parse::<MaxSize>().ok(), expected, "{text}");
        check("8GiB", Some(MaxSize::Bytes(8 << 30)));
        check("80%", Some(MaxSize::Percent(80)));
        check("0%", None);
        check("101%", None);
        check("much", None);
    }

    #[test]
    fn logs_share_what_is_left_and_one_too_many_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let open = |name: &str| {
            let limits =
                alloy_wal::Options { segment_bytes: 1 << 20, max_bytes: 5 << 20, ..Default::default() };
            Arc::new(Log::open(folder.path().join(name), limits).expect("opens"))
        };
        let sharing = LogLimits { segment_bytes: 1 << 20, max_bytes: None, ..LogLimits::default() };
        let own = LogLimits { max_bytes: Some(6 << 20), ..sharing };
        let mut budget = Budget { bytes: Some(17 << 20), logs: Vec::new() };
        let share = |log: &Log| log.max_bytes() >> 20;

        let (first, second, third) = (open("first"), open("second"), open("third"));
        budget.join(&first, &sharing).expect("there is room");
        assert_eq!(share(&first), 17);
        budget.join(&second, &own).expect("there is room");
        assert_eq!(share(&first), 11);
        budget.join(&third, &sharing).expect("there is room");
        assert_eq!((share(&first), share(&third)), (5, 5));
        let error = budget.join(&open("fourth"), &sharing).expect_err("there is no room").to_string();
        assert!(
            error.starts_with("3 logs share 11MiB of --storage.max-size, and each needs 5MiB"),
            "{error}"
        );

        drop(second);
        budget.share().expect("more than before");
        assert_eq!((share(&first), share(&third)), (8, 8));
    }
}
