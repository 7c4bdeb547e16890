//! The binary `alloy`: arguments, signals, exit code.
#![forbid(unsafe_code)]

fn main() {}
