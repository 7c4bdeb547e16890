//! Any bytes as a protobuf page: it is read or refused at a place, and gives no histogram that a receiver would refuse.
#![no_main]

use alloy_bin::testing::exposition::check_protobuf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|page: &[u8]| check_protobuf(page));
