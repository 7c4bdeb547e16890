//! What must hold for any bytes that claim to be OTLP.

use std::time::Instant;

use bytes::Bytes;

use crate::formats::{
    Compression, Deltas, Packing, PrometheusOptions, Resource, check_otlp, join_otlp, join_packed,
    otlp_from_json, otlp_part, otlp_to_loki, packed_plain_bytes, print_otlp, split_packed, unpack,
};
use crate::telemetry::{OtlpBatch, Signal};

/// They are taken or refused. What is taken can be printed, compressed, taken apart and joined, and every part is taken, too; and
/// it can be translated, each item once or not at all.
pub fn check_message(body: &[u8]) {
    for signal in Signal::ALL {
        if let Ok(batch) = check_otlp(signal, Bytes::copy_from_slice(body)) {
            check_batch(&batch);
        }
    }
}

/// They are taken or refused as JSON; what is taken is a message, and no larger than it may be.
pub fn check_json(text: &[u8]) {
    const BYTES_MAX: usize = 1 << 16;
    for signal in Signal::ALL {
        if let Ok(batch) = otlp_from_json(signal, text, BYTES_MAX) {
            assert!(batch.body.len() <= BYTES_MAX + 8, "{} bytes", batch.body.len());
            check_batch(&batch);
        }
    }
}

/// They are unpacked or refused, and never to more than the limit.
pub fn check_packed(body: &[u8]) {
    const BYTES_MAX: usize = 1 << 16;
    for compression in
        [Compression::None, Compression::Gzip, Compression::Deflate, Compression::Zstd, Compression::Snappy]
    {
        if let Ok(plain) = unpack(Bytes::copy_from_slice(body), compression, BYTES_MAX) {
            assert!(plain.len() <= BYTES_MAX);
        }
    }
    // A log may be damaged; what is read from it may be anything.
    let body = Bytes::copy_from_slice(body);
    split_packed(&body);
    let _ = (packed_plain_bytes(&body), join_packed(&[body.clone(), body]));
}

fn check_batch(batch: &OtlpBatch) {
    print_otlp(batch);
    translate(batch);
    let middle = batch.items / 2;
    let parts = [otlp_part(batch, 0, middle), otlp_part(batch, middle, batch.items)];
    for part in &parts {
        let again = check_otlp(part.signal, part.body.clone()).expect("a part is a message");
        assert_eq!(again.items, part.items);
    }
    let joined = join_otlp(&parts).expect("two parts");
    assert_eq!(check_otlp(joined.signal, joined.body).expect("a message").items, batch.items);
    let piece = Packing::Gzip(1).pack(batch.signal, &batch.body);
    let request = join_packed(&[piece.clone(), piece]).expect("both are alike");
    let plain = unpack(request.slice(6..), Compression::Gzip, batch.body.len() * 2).expect("what was packed");
    assert!(plain == [&batch.body[..], &batch.body[..]].concat());
}

fn translate(batch: &OtlpBatch) {
    let options = PrometheusOptions {
        target_info: true,
        scope_info: true,
        scope_labels: true,
        suffixes: true,
        resource_labels: true,
        keep_identifying: true,
    };
    match batch.signal {
        Signal::Metrics => {
            let mut deltas = Deltas::default();
            let mut dropped = 0;
            for resource in Resource::all(&batch.body) {
                let translated = resource.translate(options, &deltas, Instant::now());
                let histograms = translated.samples.iter().filter_map(|sample| sample.histogram());
                assert!(histograms.map(|histogram| histogram.fault()).all(|fault| fault.is_none()));
                dropped += translated.dropped;
                deltas.commit(translated.additions);
            }
            assert!(dropped <= batch.items.into());
        }
        Signal::Logs => {
            let (lines, dropped, _) = otlp_to_loki(batch, 0, 1);
            assert_eq!(lines.len() as u64 + dropped, u64::from(batch.items));
        }
        Signal::Traces => {}
    }
}
