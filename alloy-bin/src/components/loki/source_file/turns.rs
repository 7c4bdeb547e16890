//! What the work needs of a [`Shard`]: which files are ours, and what their next owners have to know.

use std::future::Future;
use std::time::SystemTime;

use bytes::Bytes;

use crate::ownership::{Shard, Turn};
use crate::tailing::Position;

/// What the work needs of a [`Shard`].
pub(super) trait Turns: Send {
    fn set_keys(&self, keys: Vec<(u64, String)>);
    fn next(&mut self) -> impl Future<Output = Turn> + Send;
    fn begin(&self, key: u64, state: Option<&Bytes>, from_ns: i64) -> Option<u64>;
    fn progress(&self, key: u64, position: Position, sequence: u64);
    fn stopped(&self, key: u64, state: Option<Bytes>);
    fn stopped_for_good(&self, key: u64, state: Option<Bytes>);
}

impl Turns for Shard {
    fn set_keys(&self, keys: Vec<(u64, String)>) {
        Shard::set_keys(self, keys);
    }

    fn next(&mut self) -> impl Future<Output = Turn> + Send {
        Shard::next(self)
    }

    fn begin(&self, key: u64, state: Option<&Bytes>, from_ns: i64) -> Option<u64> {
        self.begin_tenure(key, state, from_ns, now_ns())
    }

    fn progress(&self, key: u64, position: Position, sequence: u64) {
        let offered = position.intent.map(|intent| (sequence, intent.base_ns));
        self.note_custody(key, position.encode(), position.last_ns, offered);
    }

    fn stopped(&self, key: u64, state: Option<Bytes>) {
        self.end_tenure(key, state);
    }

    fn stopped_for_good(&self, key: u64, state: Option<Bytes>) {
        Shard::stopped_for_good(self, key, state);
    }
}

pub(super) fn now_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
