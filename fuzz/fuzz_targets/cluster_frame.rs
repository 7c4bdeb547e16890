//! What comes over a link: hellos, frames, full states, messages of the hand-over.
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use alloy_cluster::testing::{decode_link, fuzzed_node};
use alloy_cluster::{Handover, HandoverOptions, Member, Node, Phase, Rendezvous, View};
use libfuzzer_sys::fuzz_target;

fn member(name: &str) -> Member {
    let node = Node { name: name.into(), address: ([10, 0, 0, 1], 1).into(), incarnation: 1 };
    Member { phase: Phase::Active, ..Member::new(node) }
}

fuzz_target!(|frames: Vec<Vec<u8>>| {
    let now = Instant::now();
    let mut swim = fuzzed_node(now);
    let options = HandoverOptions { unknown_keys_max: 100, ..HandoverOptions::default() };
    let mut handover = Handover::new("me".into(), options, Arc::new(Rendezvous));
    handover.set_keys(now, 0..50);
    handover.set_view(now, Arc::new(View::new(1, vec![member("me"), member("peer")])));
    for bytes in frames.iter().take(64) {
        let _whole = decode_link(bytes);
        swim.handle_message(now, &"peer".into(), bytes);
        handover.handle_message(now, &"peer".into(), bytes);
        while let Some(event) = handover.poll_event() {
            if let alloy_cluster::Event::Stop { key } = event {
                handover.handle_stopped(now, key, None);
            }
        }
        while handover.poll_message().is_some() {}
    }
    assert!(handover.stats(now).keys <= 150 + 1, "memory is bounded");
    assert!(swim.view().members().iter().any(|member| member.node.name.as_str() == "fuzzed"));
});
