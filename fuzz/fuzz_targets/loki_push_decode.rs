//! Any bytes as a push, in protobuf and in JSON: read or refused, and what was read means the same when it is written again.
#![no_main]

use alloy_bin::testing::loki_push::check_push;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| check_push(body));
