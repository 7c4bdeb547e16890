//! The log on disk and the log in memory give the same answers to the same calls.

use std::sync::Arc;

use alloy_wal::conformance::{append, read_all, small_options};
use alloy_wal::{ConsumerId, FaultyStorage, Item, Log, MemoryLog, Options, Result, Start, Wal};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Call {
    Append(u64),
    Write,
    Sync,
    Acknowledge(usize, u64, u64),
    SaveCursors,
    Release,
    Prepare,
    Read(u64),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (1u64..6).prop_map(Call::Append),
        2 => Just(Call::Write),
        1 => Just(Call::Sync),
        4 => (0usize..2, 0u64..10, 0u64..20).prop_map(|(who, ahead, count)| Call::Acknowledge(who, ahead, count)),
        1 => Just(Call::SaveCursors),
        1 => Just(Call::Release),
        1 => Just(Call::Prepare),
        2 => (0u64..200).prop_map(Call::Read),
    ]
}

/// Everything that both must agree on. Positions below `from` may be freed earlier by one than by the other.
#[derive(Debug, PartialEq)]
struct Answer {
    error: bool,
    staged: u64,
    written: u64,
    cursors: Vec<(u64, u64, u64, u64)>,
    items: Vec<Item>,
}

fn answer(log: &dyn Wal, ids: &[ConsumerId], call: &Call) -> Answer {
    let mut items = Vec::new();
    let result: Result<()> = match *call {
        Call::Append(count) => append(log, count),
        Call::Write => log.write().map(drop),
        Call::Sync => log.sync().map(drop),
        Call::Acknowledge(who, ahead, count) => log.cursor(ids[who]).and_then(|cursor| {
            let start = cursor.acknowledged + ahead;
            log.acknowledge(ids[who], start..start + count)
        }),
        // Synced before: how much a write syncs on its own is each log's affair.
        Call::SaveCursors => log.sync().and_then(|_| log.save_cursors()),
        Call::Release => log.sync().and_then(|_| log.release(0)).map(drop),
        Call::Prepare => log.prepare(),
        Call::Read(from) => {
            let lowest = ids.iter().map(|&id| log.cursor(id).expect("known").acknowledged).min();
            read_all(log, from.max(lowest.unwrap_or(0))).map(|read| items = read)
        }
    };
    let cursor = |&id: &ConsumerId| {
        let cursor = log.cursor(id).expect("known");
        (cursor.acknowledged, cursor.saved, cursor.ahead, cursor.lag_records)
    };
    let now = log.watermarks();
    Answer {
        error: result.is_err(),
        staged: now.staged,
        written: now.written,
        cursors: ids.iter().map(cursor).collect(),
        items,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn disk_and_memory_agree(calls in prop::collection::vec(call(), 1..120)) {
        // Large enough that no limit is met: the two count bytes differently.
        let options = Options { max_bytes: 4 << 20, max_staged_bytes: 4 << 20, ..small_options() };
        let disk = Log::open_on(Arc::new(FaultyStorage::new(0)), options.clone()).expect("opens");
        let memory = MemoryLog::new(options).expect("valid");
        let ids = |log: &dyn Wal| ["a", "b"].map(|name| log.consumer(name, Start::Oldest).expect("created"));
        let (on_disk, in_memory) = (ids(&disk), ids(&memory));
        for call in &calls {
            prop_assert_eq!(answer(&disk, &on_disk, call), answer(&memory, &in_memory, call), "{:?}", call);
        }
    }
}
