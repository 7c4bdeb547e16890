//! Remote-write 2.0 where the endpoint takes it, and 1.0 where it does not.

use super::*;
use crate::formats::{
    REMOTE_WRITE_2_HEADERS, RemoteWrite2Encoder, Sends, is_remote_write_2, join_remote_write_2,
    older_remote_write,
};
use crate::testing::Newer;
use crate::testing::messages::WriteRequest;

async fn world() -> World {
    let mut world = World::new().await;
    speak_newer(&mut world.options);
    world
}

/// Asks the endpoint for 2.0 first.
pub(super) fn speak_newer(options: &mut Options) {
    options.batching.form.newer = Some(NewerForm {
        is: is_remote_write_2,
        splice: join_remote_write_2,
        older: older_remote_write,
        written_headers: &["x-prometheus-remote-write-samples-written"],
    });
    let mut headers = options.endpoint.headers.clone();
    for (name, value) in REMOTE_WRITE_2_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    options.endpoint.newer_headers = Some(headers);
}

/// The same record in 2.0.
pub(super) fn in_newer(older: Piece) -> Piece {
    let plain = crate::formats::decompress(&older.body).unwrap();
    let request = <WriteRequest as prost::Message>::decode(plain.as_slice()).unwrap();
    let mut batch = SampleBatch::new(older.lane);
    for series in &request.timeseries {
        let labels = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
        batch.push(labels, series.samples[0].timestamp, series.samples[0].value);
    }
    let mut plain = Vec::new();
    let encoder = RemoteWrite2Encoder::new(&Labels::new::<&str, &str>([]), Sends::default());
    assert_eq!(encoder.encode(batch.iter(), &[], &mut plain), older.items);
    Piece { body: Bytes::from(compress(&plain)), ..older }
}

/// A record of two series; without a metric name the receiver refuses the first.
fn newer_record(name: &str, number: i64) -> Piece {
    let mut batch = SampleBatch::new(7);
    let labels = [("__name__", name), ("lane", "7")];
    batch.push(labels.into_iter().filter(|(_, value)| !value.is_empty()), number, number as f64);
    batch.push([("__name__", "other")], number, 1.0);
    in_newer(Piece { items: 2, ..piece(&batch, number) })
}

async fn accept_newer(outbox: &Outbox, numbers: std::ops::Range<i64>) {
    for number in numbers {
        outbox.accept(&[newer_record("test", number)]).await.unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_that_takes_2_0_gets_it_in_full_requests() {
    let world = world().await;
    let outbox = world.open().await;
    accept_newer(&outbox, 0..10).await;
    let sending = send(&outbox);
    bounded(outbox.flush(PATIENCE)).await;
    sending.stop().await;
    let counts = world.receiver.counts();
    assert_eq!((counts.requests, counts.newer_requests, counts.malformed_requests), (2, 2, 0));
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(0..10));
    assert_eq!((count(&outbox.figures().sent_items), outbox.wants_newer()), (20, true));
}

/// Whether it says so or only finds nothing in the request: what is in the log arrives in 1.0, and what was in it in 1.0 before.
#[tokio::test]
async fn an_endpoint_that_does_not_take_2_0_gets_1_0_until_the_next_start() {
    for newer in [Newer::Refuses, Newer::Ignores] {
        let world = world().await;
        world.receiver.newer(newer);
        let outbox = world.open().await;
        accept(&outbox, 0..3).await;
        accept_newer(&outbox, 3..10).await;
        accept(&outbox, 10..12).await;
        accept_newer(&outbox, 12..40).await;
        let sending = send(&outbox);
        bounded(outbox.flush(PATIENCE)).await;
        sending.stop().await;
        let counts = world.receiver.counts();
        assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(0..40), "{newer:?}");
        assert_eq!((counts.newer_requests, counts.duplicate_samples, counts.malformed_requests), (0, 0, 0));
        assert_eq!(counts.requests, counts.recorded_requests + 1, "{newer:?}: it is asked once");
        assert_eq!(count(&outbox.figures().sent_items), 5 + 2 * 35);
        assert!(!outbox.wants_newer());
        drop(outbox);
        world.receiver.newer(Newer::Takes);
        let outbox = world.open().await;
        assert!(outbox.wants_newer());
        accept_newer(&outbox, 40..41).await;
        let sending = send(&outbox);
        bounded(outbox.flush(PATIENCE)).await;
        sending.stop().await;
        assert_eq!(world.receiver.counts().newer_requests, 1);
    }
}

#[tokio::test]
async fn records_of_2_0_reach_an_endpoint_that_is_configured_for_1_0_again() {
    let mut world = world().await;
    world.options.endpoint.newer_headers = None;
    let outbox = world.open().await;
    accept_newer(&outbox, 0..10).await;
    let sending = send(&outbox);
    bounded(outbox.flush(PATIENCE)).await;
    sending.stop().await;
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(0..10));
    assert_eq!(world.receiver.counts().newer_requests, 0);
}

/// A receiver of 2.0 takes the good series and says how many they were: nothing is sent again.
#[tokio::test]
async fn what_the_endpoint_has_written_of_a_refused_request_is_counted_as_sent() {
    let world = world().await;
    let outbox = world.open().await;
    accept_newer(&outbox, 0..2).await;
    outbox.accept(&[newer_record("", 2)]).await.unwrap();
    accept_newer(&outbox, 3..5).await;
    let sending = send(&outbox);
    bounded(outbox.flush(PATIENCE)).await;
    sending.stop().await;
    let counts = world.receiver.counts();
    assert_eq!((counts.requests, counts.samples, counts.duplicate_samples), (1, 9, 0));
    let figures = outbox.figures();
    assert_eq!((count(&figures.sent_items), count(&figures.rejected_items)), (9, 1));
    assert_eq!(outbox.log().lag_records, 0);
}

/// One that writes nothing and says so is helped as with 1.0.
#[tokio::test]
async fn a_record_of_2_0_is_taken_apart_where_nothing_of_it_was_written() {
    let world = world().await;
    world.receiver.answer_next([Answer::RefuseSaying(400, "out of order sample")]);
    let outbox = world.open().await;
    outbox.accept(&[newer_record("test", 1)]).await.unwrap();
    let sending = send(&outbox);
    bounded(outbox.flush(PATIENCE)).await;
    sending.stop().await;
    let counts = world.receiver.counts();
    assert_eq!((counts.requests, counts.newer_requests, counts.samples), (3, 2, 2));
    assert_eq!(count(&outbox.figures().rejected_items), 0);
}
