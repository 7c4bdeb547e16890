//! `checks/follower.rs` says what must hold.
#![no_main]

#[path = "../checks/follower.rs"]
mod follower;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| follower::check(bytes));
