//! `checks/wal_directory.rs` says what must hold.
#![no_main]

#[path = "../checks/wal_directory.rs"]
mod wal_directory;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wal_directory::check(bytes));
