//! Any text as a configuration: evaluating and decoding it ends, in bounded memory, and prints no secret.
#![no_main]

use alloy_bin::testing::language::check_evaluation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| check_evaluation(text));
