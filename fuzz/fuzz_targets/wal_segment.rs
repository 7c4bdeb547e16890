//! `checks/wal_segment.rs` says what must hold.
#![no_main]

#[path = "../checks/wal_segment.rs"]
mod wal_segment;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wal_segment::check(bytes));
