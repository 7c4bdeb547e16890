//! What must hold for any bytes that are pushed.

use bytes::Bytes;

use crate::formats::{LokiPushEncoder, PushedStream, read_loki_json, read_loki_push};
use crate::telemetry::{Labels, LogBatch, LogStream};

/// Far below what these bytes could claim to hold.
const MOST: usize = 1000;

/// The bytes as protobuf and as JSON: read or refused, and what was read is read again from what the encoder makes of it.
pub fn check_push(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    for streams in [read_loki_push(&body, MOST), read_loki_json(&body, MOST)].into_iter().flatten() {
        let held = |stream: &PushedStream| 1 + stream.entries.len();
        assert!(streams.iter().map(held).sum::<usize>() <= MOST);
        let sound = streams.into_iter().filter_map(|stream| {
            let labels = Labels::new(stream.labels.ok()?);
            Some(LogStream { labels, entries: stream.entries }).filter(|stream| !stream.entries.is_empty())
        });
        let streams: Vec<LogStream> = sound.collect();
        // The encoder leaves out the label that names the tenant.
        if streams.iter().any(|stream| stream.labels.get(crate::telemetry::TENANT_LABEL).is_some()) {
            continue;
        }
        let mut piece = Vec::new();
        let batch = LogBatch { streams, ..LogBatch::default() };
        LokiPushEncoder::new(&Labels::new::<&str, &str>([])).encode(&batch, &mut piece);
        let again = read_loki_push(&piece.into(), MOST).expect("the encoder's own");
        assert_eq!(again.len(), batch.streams.len());
        for (again, before) in again.into_iter().zip(batch.streams) {
            assert_eq!(Labels::new(again.labels.expect("the encoder's own")), before.labels);
            assert_eq!(again.entries, before.entries);
        }
    }
}
