//! The seeds of the fuzz targets, as ordinary tests: what a fuzzer has found stays found.

use std::path::Path;

use alloy_bin::testing::language::{check_evaluation, check_syntax};
#[cfg(feature = "otelcol")]
use alloy_bin::testing::otlp::{check_json, check_message, check_packed};

fn replay(target: &str, check: fn(&str)) {
    replay_bytes(target, |bytes| check(std::str::from_utf8(bytes).expect("text")));
}

fn replay_bytes(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for seed in std::fs::read_dir(&folder).expect("the target's seeds") {
        let path = seed.expect("readable").path();
        check(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
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

#[cfg(feature = "otelcol")]
#[test]
fn seeds_of_otlp_hold() {
    replay_bytes("otlp_message", |body| {
        check_message(body);
        check_packed(body);
    });
    replay_bytes("otlp_json", check_json);
}
