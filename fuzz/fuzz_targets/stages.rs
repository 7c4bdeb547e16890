//! Every stage over any text: nothing panics, text stays text, and how a batch is cut makes no difference to what is not joined.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| alloy_bin::testing::stages::check_stages(text));
