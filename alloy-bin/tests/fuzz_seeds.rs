//! The seeds of the fuzz targets, as ordinary tests: what a fuzzer has found stays found.

use std::path::Path;

use alloy_bin::testing::language::{check_evaluation, check_syntax};
use alloy_bin::testing::stages::check_stages;

fn replay(target: &str, check: fn(&str)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for seed in std::fs::read_dir(&folder).expect("the target's seeds") {
        let path = seed.expect("readable").path();
        check(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
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
fn seeds_of_the_stages_hold() {
    replay("stages", check_stages);
}
