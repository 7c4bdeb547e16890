//! Any bytes as a request of OTLP in JSON: refused, or a message that could have come in protobuf.
#![no_main]

use alloy_bin::testing::otlp::check_json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| check_json(text));
