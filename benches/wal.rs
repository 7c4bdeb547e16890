//! `cargo bench -p benches --bench wal -- [append] [replay] [sustained] [--rounds N] [--only COLUMN] [--gib N] [--directory DIR]`
//!
//! Prints the tables of docs/benchmarks.md. Without a name it measures everything.

fn main() {
    benches::wal::run(&[]);
}
