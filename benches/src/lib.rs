//! Benchmarks: ratios against something in the same run.
//!
//! | module | what it measures |
//! | --- | --- |
//! | `wal` | `alloy-wal` beside what the machine can do; `rivals/` adds other logs (a workspace of its own) |
#![forbid(unsafe_code)]

pub mod wal;
