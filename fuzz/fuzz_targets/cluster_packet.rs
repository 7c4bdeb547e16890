//! Datagrams from anywhere, to a node in the clear and to one with keys.
#![no_main]

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use alloy_cluster::testing::{envelope, fuzzed_node};
use alloy_cluster::{KeyRing, Swim};
use libfuzzer_sys::fuzz_target;

/// More answers to one packet than anybody may cause.
const ANSWERS_MAX: usize = 64;

fn take(swim: &mut Swim, now: Instant, packet: &[u8]) {
    swim.handle_packet(now, ([10, 0, 0, 2], 1).into(), packet);
    let answers = std::iter::from_fn(|| swim.poll_packet()).count();
    assert!(answers <= ANSWERS_MAX, "{answers} answers to one packet");
    while swim.poll_message().is_some() {}
    while swim.poll_event().is_some() {}
    assert!(swim.view().members().iter().any(|member| member.node.name.as_str() == "fuzzed"));
}

fuzz_target!(|packets: Vec<(u8, u64, Vec<u8>)>| {
    let mut now = Instant::now();
    let mut open = fuzzed_node(now);
    let mut sealed = fuzzed_node(now);
    sealed.set_keys(Some(KeyRing::new(NonZeroU8::MIN, [7; 32])));
    let before = sealed.view().digest();
    for (kind, digest, payload) in packets.iter().take(64) {
        take(&mut open, now, payload);
        take(&mut open, now, &envelope(*kind, *digest, payload));
        take(&mut sealed, now, payload);
        take(&mut sealed, now, &envelope(*kind, *digest, payload));
        now += Duration::from_millis(u64::from(*kind));
        open.handle_timeout(now);
    }
    assert_eq!(sealed.view().digest(), before, "without the key nothing changes a view");
});
