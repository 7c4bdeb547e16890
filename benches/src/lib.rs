//! Benchmarks: ratios against something in the same run.
