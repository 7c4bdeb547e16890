//! The seeds of the fuzz targets, and inputs that once broke something, as ordinary tests.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks/wal_directory.rs"]
mod wal_directory;
#[path = "../../fuzz/checks/wal_operations.rs"]
mod wal_operations;
#[path = "../../fuzz/checks/wal_segment.rs"]
mod wal_segment;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let seeds: Vec<_> =
        fs::read_dir(folder).expect("seeds").map(|entry| entry.expect("readable").path()).collect();
    assert!(!seeds.is_empty());
    for seed in seeds {
        println!("{}", seed.display());
        check(&fs::read(seed).expect("readable"));
    }
}

#[test]
fn seeds_of_segments() {
    replay("wal_segment", wal_segment::check);
}

#[test]
fn seeds_of_directories() {
    replay("wal_directory", wal_directory::check);
}

#[test]
fn seeds_of_operations() {
    replay("wal_operations", wal_operations::check);
}
