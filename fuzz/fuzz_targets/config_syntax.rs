//! Any text as a configuration: it is parsed or refused, and formatting changes no meaning and is stable.
#![no_main]

use alloy_bin::testing::language::check_syntax;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| check_syntax(text));
