//! The seeds of the fuzz targets, as ordinary tests: what a fuzzer has found stays found.

use std::path::Path;

use alloy_bin::testing::exposition::{check_protobuf, check_text};
use alloy_bin::testing::language::{check_evaluation, check_syntax};

fn replay(target: &str, check: fn(&str)) {
    let text = |seed: Vec<u8>| String::from_utf8(seed).expect("seeds of the language are text");
    replay_bytes(target, |seed| check(&text(seed)));
}

fn replay_bytes(target: &str, check: impl Fn(Vec<u8>)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for seed in std::fs::read_dir(&folder).expect("the target's seeds") {
        let path = seed.expect("readable").path();
        check(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        count += 1;
    }
    assert!(count > 4, "{count} seeds in {}", folder.display());
}

#[test]
fn seeds_of_the_syntax_hold() {
    replay("config_syntax", check_syntax);
}

#[test]
fn seeds_of_the_evaluation_hold() {
    replay("config_evaluate", check_evaluation);
    replay("config_syntax", check_evaluation);
}

#[test]
fn seeds_of_pages_hold() {
    replay_bytes("exposition_text", |seed| check_text(&seed));
    replay_bytes("exposition_protobuf", |seed| check_protobuf(&seed));
}
