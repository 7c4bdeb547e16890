//! `checks/wal_operations.rs` says what must hold.
#![no_main]

#[path = "../checks/wal_operations.rs"]
mod wal_operations;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wal_operations::check(bytes));
