//! Any bytes as a page of text, in both formats: the parser and a slow grammar find the same on it.
#![no_main]

use alloy_bin::testing::exposition::check_text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|page: &[u8]| check_text(page));
