//! Ways for bytes from anywhere to reach the decoders behind the envelopes: for fuzzers.

use std::net::SocketAddr;
use std::time::Instant;

use crate::packet::{self, PacketKind};
use crate::seal::Sealer;
use crate::{Member, Node, Phase, Swim, SwimConfig, Timing};

const CLUSTER: &str = "fuzzed";

/// A node of the cluster whose envelopes [`envelope`] makes.
pub fn fuzzed_node(now: Instant) -> Swim {
    let node = Node { name: "fuzzed".into(), address: ([10, 0, 0, 1], 1).into(), incarnation: 1 };
    let me = Member { phase: Phase::Active, ..Member::new(node) };
    let config = SwimConfig { cluster: CLUSTER.into(), me, timing: Timing::lan(), seed: 1, keys: None };
    Swim::new(now, config).expect("the names are short")
}

/// A payload in an envelope that is right; the kind is taken modulo their number.
pub fn envelope(kind: u8, digest: u64, payload: &[u8]) -> Vec<u8> {
    let kinds = [PacketKind::Swim, PacketKind::Accuse, PacketKind::Watch, PacketKind::Beat];
    let node = Node { name: "sender".into(), address: SocketAddr::from(([10, 0, 0, 2], 1)), incarnation: 1 };
    let mut sealer = Sealer::new(None, 1, &node);
    let kind = kinds[usize::from(kind) % kinds.len()];
    packet::seal(&mut sealer, packet::cluster_hash(CLUSTER), kind, digest, payload).to_vec()
}

/// Decodes a hello, and what follows a frame's length; says whether they are whole.
#[cfg(feature = "tokio")]
pub fn decode_link(bytes: &[u8]) -> (bool, bool) {
    let hello = crate::frame::Hello::decode(bytes);
    if let Ok(hello) = &hello {
        let again = crate::frame::Hello::decode(&hello.encode());
        assert_eq!(again.as_ref(), Ok(hello), "what decodes encodes to the same");
    }
    let frame = crate::frame::Frame::decode(bytes::Bytes::copy_from_slice(bytes));
    if let Ok(frame) = &frame {
        let (head, payload) = frame.encode();
        assert_eq!([&head[4..], &payload].concat(), bytes, "what decodes encodes to the same");
    }
    (hello.is_ok(), frame.is_ok())
}
