//! The rivals' own calls.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Put;

/// A manager that never checkpoints.
#[derive(Debug)]
struct Keep;

impl okaywal::LogManager for Keep {
    fn recover(&mut self, _entry: &mut okaywal::Entry<'_>) -> io::Result<()> {
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: okaywal::EntryId,
        _entries: &mut okaywal::SegmentReader,
        _log: &okaywal::WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

pub fn okaywal(directory: &Path) -> Put {
    let log = okaywal::Configuration::default_for(directory)
        .preallocate_bytes(64 << 20)
        .buffer_bytes(256 << 10)
        .checkpoint_after_bytes(u64::MAX)
        .open(Keep)
        .expect("opens");
    Box::new(move |_, records, _| {
        let mut entry = log.begin_entry().expect("begun");
        for record in records {
            entry.write_chunk(record).expect("written");
        }
        entry.commit().expect("synced");
    })
}

pub fn open_raft_engine(directory: &Path) -> raft_engine::Engine {
    let config = raft_engine::Config {
        dir: directory.display().to_string(),
        batch_compression_threshold: raft_engine::ReadableSize(0),
        target_file_size: raft_engine::ReadableSize::mb(64),
        enable_log_recycle: true,
        prefill_for_recycle: true,
        ..Default::default()
    };
    raft_engine::Engine::open(config).expect("opens")
}

pub fn raft_engine(directory: &Path) -> Put {
    let engine = open_raft_engine(directory);
    Box::new(move |writer, records, sync| {
        let mut batch = raft_engine::LogBatch::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            // It keeps the newest value of a key in memory, so keys come round.
            let key = (index as u64 % 1024).to_be_bytes().to_vec();
            batch.put(writer as u64 + 1, key, record.to_vec()).expect("a key that it allows");
        }
        engine.write(&mut batch, sync).expect("written");
    })
}

pub fn nano_wal(directory: &Path) -> Put {
    let hour = Duration::from_secs(3600);
    let options = nano_wal::WalOptions { retention: hour, segment_duration: hour };
    let log = nano_wal::Wal::new(directory, "bench", options).expect("opens");
    Box::new(move |_, records, sync| {
        let groups = records.len().div_ceil(200);
        for (index, group) in records.chunks(200).enumerate() {
            let entries: Vec<_> =
                group.iter().map(|record| nano_wal::WriteEntry { header: None, content: record }).collect();
            let last = index + 1 == groups;
            log.append_batch(&entries, 1_700_000_000_000, sync && last).expect("written");
        }
    })
}

pub fn open_commitlog(directory: &Path) -> commitlog::CommitLog {
    let mut options = commitlog::LogOptions::new(directory);
    options.segment_max_bytes(64 << 20).message_max_bytes(4 << 20);
    commitlog::CommitLog::new(options).expect("opens")
}

pub fn commitlog(directory: &Path) -> Put {
    let log = Mutex::new(open_commitlog(directory));
    Box::new(move |_, records, _| {
        let mut messages: commitlog::message::MessageBuf = records.iter().collect();
        log.lock().unwrap_or_else(PoisonError::into_inner).append(&mut messages).expect("written");
    })
}
