//! Every implementation in this crate keeps the contract.

use std::sync::Arc;

use alloy_wal::conformance::{Subject, Survives, check};
use alloy_wal::{Crash, FaultyStorage, Log, MemoryLog, Options, Result, Wal};

struct OnDisk(tempfile::TempDir);

impl Subject for OnDisk {
    fn create(&mut self, options: Options) -> Result<Arc<dyn Wal>> {
        self.0 = tempfile::tempdir().expect("a temporary directory");
        self.restart(options)
    }

    fn restart(&mut self, options: Options) -> Result<Arc<dyn Wal>> {
        Ok(Arc::new(Log::open(self.0.path(), options)?))
    }

    fn survives(&self) -> Survives {
        Survives::Process
    }
}

struct OnFaultyDisk(FaultyStorage, Crash);

impl Subject for OnFaultyDisk {
    fn create(&mut self, options: Options) -> Result<Arc<dyn Wal>> {
        self.0 = FaultyStorage::new(self.0.calls());
        Ok(Arc::new(Log::open_on(Arc::new(self.0.clone()), options)?))
    }

    fn restart(&mut self, options: Options) -> Result<Arc<dyn Wal>> {
        self.0 = self.0.restart(self.1);
        Ok(Arc::new(Log::open_on(Arc::new(self.0.clone()), options)?))
    }

    fn survives(&self) -> Survives {
        if self.1 == Crash::Power { Survives::Power } else { Survives::Process }
    }
}

struct InMemory;

impl Subject for InMemory {
    fn create(&mut self, options: Options) -> Result<Arc<dyn Wal>> {
        Ok(Arc::new(MemoryLog::new(options)?))
    }

    fn restart(&mut self, options: Options) -> Result<Arc<dyn Wal>> {
        self.create(options)
    }

    fn survives(&self) -> Survives {
        Survives::Nothing
    }
}

#[test]
fn the_log_on_disk_keeps_the_contract() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    check(&mut OnDisk(directory)).expect("no error");
}

#[test]
fn the_log_keeps_the_contract_when_processes_die() {
    check(&mut OnFaultyDisk(FaultyStorage::new(1), Crash::Process)).expect("no error");
}

#[test]
fn the_log_keeps_the_contract_when_power_fails() {
    for seed in 0..20 {
        println!("seed {seed}");
        check(&mut OnFaultyDisk(FaultyStorage::new(seed), Crash::Power)).expect("no error");
    }
}

#[test]
fn the_log_in_memory_keeps_the_contract() {
    check(&mut InMemory).expect("no error");
}
