//! Any bytes as a request of OTLP: taken or refused; what is taken can be taken apart and joined.
#![no_main]

use alloy_bin::testing::otlp::{check_message, check_packed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    check_message(body);
    check_packed(body);
});
