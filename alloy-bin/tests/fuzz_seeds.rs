//! The seeds of the fuzz targets, as ordinary tests: what a fuzzer has found stays found.

use std::path::Path;

use alloy_bin::testing::exposition::{check_protobuf, check_text};
use alloy_bin::testing::language::{check_evaluation, check_syntax};
use alloy_bin::testing::loki_push::check_push;
#[cfg(feature = "otelcol")]
use alloy_bin::testing::otlp::{check_json, check_message, check_packed};
use alloy_bin::testing::stages::check_stages;

#[path = "../../fuzz/checks/follower.rs"]
mod follower;

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
fn seeds_of_the_follower_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/follower");
    let seeds: Vec<_> = std::fs::read_dir(folder).expect("the target's seeds").collect();
    assert!(seeds.len() > 4, "{} seeds", seeds.len());
    for seed in seeds {
        let path = seed.expect("readable").path();
        println!("{}", path.display());
        follower::check(&std::fs::read(path).expect("readable"));
    }
}

#[test]
fn random_files_are_followed_line_by_line() {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for _ in 0..3000 {
        let length = 3 + usize::from(next()) * 3;
        // Line feeds, and the bytes of UTF-16 and its mark, more often than others.
        let bytes: Vec<u8> = (0..length)
            .map(|_| match next() % 8 {
                0 => b'\n',
                1 => 0,
                2 => [0xff, 0xfe, b'\r', 0xd8, 0xdc, 0xef][usize::from(next()) % 6],
                _ => next(),
            })
            .collect();
        follower::check(&bytes);
    }
}

#[test]
fn seeds_of_the_stages_hold() {
    replay("stages", check_stages);
}

#[test]
fn seeds_of_pushes_hold() {
    replay_bytes("loki_push_decode", |seed| check_push(&seed));
}

#[test]
fn pushes_with_some_bytes_changed_hold() {
    let mut state = 11_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/loki_push_decode");
    let seeds = std::fs::read_dir(folder).expect("the target's seeds");
    let mut paths: Vec<_> = seeds.map(|seed| seed.expect("readable").path()).collect();
    paths.sort();
    for path in paths {
        let seed = std::fs::read(&path).expect("readable");
        for _ in 0..2000 {
            let mut body = seed.clone();
            for _ in 0..=below(3) {
                let at = below(body.len());
                match below(4) {
                    0 => body[at] = below(256) as u8,
                    1 => body[at] ^= 1 << below(8),
                    2 => drop(body.remove(at)),
                    _ => body.insert(at, b"\\\"{}[],=\x0a\x12\xff\x00"[below(12)]),
                }
            }
            // Shown if it breaks something.
            println!("{}", body.escape_ascii());
            check_push(&body);
        }
    }
}

#[test]
fn seeds_of_pages_hold() {
    replay_bytes("exposition_text", |seed| check_text(&seed));
    replay_bytes("exposition_protobuf", |seed| check_protobuf(&seed));
}

#[cfg(feature = "otelcol")]
#[test]
fn seeds_of_otlp_hold() {
    replay_bytes("otlp_message", |seed| {
        check_message(&seed);
        check_packed(&seed);
    });
    replay_bytes("otlp_json", |seed| check_json(&seed));
}
