//! What an endpoint refuses for a part of it is taken apart, down to the series.

use super::*;
use crate::formats::decompress;
use crate::testing::messages::WriteRequest;

/// One scrape of the lane: so many series, of which some have no metric name, which the receiver refuses.
fn scrape(lane: u64, number: i64, series: usize, bad: &[usize]) -> Piece {
    let lane_text = lane.to_string();
    let mut batch = SampleBatch::new(lane);
    for index in 0..series {
        let index_text = format!("{index:05}");
        let name = if bad.contains(&index) { "" } else { "test" };
        let labels = [("__name__", name), ("index", &index_text), ("lane", &lane_text)];
        batch.push(labels.into_iter().filter(|(_, value)| !value.is_empty()), number, index as f64);
    }
    Piece { items: series as u32, ..piece(&batch, number) }
}

async fn bad_series_cost_themselves(series: usize, bad: &[usize], requests_max: u64) {
    let world = World::new().await;
    let outbox = world.open().await;
    let sending = send(&outbox);
    outbox.accept(&[scrape(7, 1, series, bad)]).await.unwrap();
    bounded(outbox.flush(PATIENCE)).await;
    let counts = world.receiver.counts();
    assert_eq!(counts.samples, (series - bad.len()) as u64, "bad: {bad:?}");
    assert!(counts.requests <= requests_max, "bad: {bad:?}, {} requests", counts.requests);
    let figures = outbox.figures();
    assert_eq!(count(&figures.rejected_by_reason[Rejection::Invalid as usize]), bad.len() as u64);
    assert_eq!(
        (count(&figures.sent_items), count(&figures.rejected_items)),
        (counts.samples, bad.len() as u64)
    );
    assert_eq!((counts.duplicate_samples, outbox.log().lag_records), (0, 0));
    sending.stop().await;
}

#[tokio::test]
async fn one_bad_series_of_thousands_is_the_only_one_that_is_lost() {
    for bad in [0, 1, 777, 1000, 1998, 1999] {
        bad_series_cost_themselves(2000, &[bad], 2 * 11 + 1).await;
    }
    bad_series_cost_themselves(2000, &[3, 1500], 100).await;
    bad_series_cost_themselves(1, &[0], 1).await;
}

/// Thirty bad series among thirty-two cost no more requests than one among two thousand may, and the next such request costs less.
#[tokio::test]
async fn where_all_is_refused_few_requests_are_spent() {
    let world = World::new().await;
    let outbox = world.open().await;
    let sending = send(&outbox);
    let all = Vec::from_iter(0..2000);
    let mut before = 0;
    let mut spent = Vec::new();
    for number in 0..10 {
        outbox.accept(&[scrape(7, number, 2000, &all)]).await.unwrap();
        bounded(outbox.flush(PATIENCE)).await;
        let requests = world.receiver.counts().requests;
        spent.push(requests - before);
        before = requests;
    }
    assert!(spent[0] <= 129, "{spent:?}");
    assert_eq!(spent[9], 3, "{spent:?}");
    assert_eq!(count(&outbox.figures().rejected_items), 20_000);
    // As soon as taking apart saves something, there is patience again.
    outbox.accept(&[scrape(7, 10, 2000, &[0])]).await.unwrap();
    outbox.accept(&[scrape(7, 11, 2000, &[0])]).await.unwrap();
    bounded(outbox.flush(PATIENCE)).await;
    assert_eq!(world.receiver.counts().samples, 1000 + 1999);
    sending.stop().await;
}

#[tokio::test]
async fn the_scrapes_of_a_target_stay_in_order_around_a_bad_series() {
    let mut world = World::new().await;
    world.options.batching.max_items = 1000;
    let outbox = world.open().await;
    for number in 0..40 {
        outbox.accept(&[scrape(7, number, 20, &[number as usize % 20])]).await.unwrap();
    }
    let sending = send(&outbox);
    bounded(outbox.flush(PATIENCE)).await;
    sending.stop().await;
    let counts = world.receiver.counts();
    assert_eq!((counts.out_of_order_samples, counts.duplicate_samples), (0, 0));
    let figures = outbox.figures();
    assert_eq!(count(&figures.sent_items) + count(&figures.rejected_items), 800);
    assert_eq!(counts.samples, count(&figures.sent_items));
    assert!(counts.samples > 400, "{counts:?}");
}

/// The record is acknowledged behind its last part only: what is killed in between sends all of it again.
#[tokio::test]
async fn a_crash_between_the_parts_of_a_record_loses_none() {
    let mut world = World::new().await;
    world.options.endpoint.timeout = LONG;
    let outbox = world.open().await;
    outbox.accept(&[scrape(7, 1, 8, &[5])]).await.unwrap();
    // The whole is refused, the first half taken, then nothing more comes back.
    world.receiver.answer_next([Answer::Accept, Answer::Accept, Answer::Hang]);
    let sending = send(&outbox);
    let flushing = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.flush(PATIENCE).await }
    });
    world.counts(|counts| counts.requests == 3).await;
    assert_eq!(world.receiver.counts().samples, 4);
    flushing.abort();
    sending.crash().await;
    drop((flushing.await, outbox));
    let outbox = world.open().await;
    assert_eq!(outbox.log().lag_records, 1);
    let sending = send(&outbox);
    bounded(outbox.flush(PATIENCE)).await;
    sending.stop().await;
    let counts = world.receiver.counts();
    assert_eq!((counts.samples, counts.duplicate_samples, counts.conflicting_samples), (11, 4, 0));
}

#[test]
fn the_halves_of_a_request_are_the_whole_in_order() {
    use crate::formats::{LokiPushEncoder, Part};
    use crate::telemetry::{LogBatch, LogEntry, LogStream};
    use prost::Message as _;

    let whole = scrape(7, 1, 5, &[]).body;
    let [left, right] = split(&whole).expect("five series");
    assert_eq!((left.items, right.items), (2, 3));
    let plain = |body: &[u8]| decompress(body).unwrap();
    assert_eq!([plain(&left.body), plain(&right.body)].concat(), plain(&whole));
    assert_eq!(WriteRequest::decode(plain(&right.body).as_slice()).unwrap().timeseries.len(), 3);
    assert_eq!(split(&scrape(7, 1, 1, &[]).body), None);
    assert_eq!(split(b"no block"), None);
    assert_eq!(split(&compress(b"\x0a\x7f")), None);

    let stream = |label: &str, lines: i64| LogStream {
        labels: Labels::new([("a", label)]),
        entries: (0..lines).map(|number| LogEntry::new(number, "x")).collect(),
    };
    let batch =
        LogBatch { streams: vec![stream("1", 4), stream("2", 1), stream("3", 2)], ..LogBatch::default() };
    let mut push = Vec::new();
    LokiPushEncoder::new(&Labels::new::<&str, &str>([])).encode(&batch, &mut push);
    let [Part { items: left, .. }, Part { items: right, .. }] =
        split(&compress(&push)).expect("three streams");
    assert_eq!((left, right), (4, 3), "lines are counted, not streams");
    only_stream(&compress(&push));
}

/// Down to one line, whose stream has its labels.
fn only_stream(streams: &[u8]) {
    use crate::formats::{Part, read_loki_push};
    let read = |body: &[u8]| read_loki_push(&decompress(body).unwrap().into(), 100).unwrap();
    let [Part { body: first, .. }, _] = split(streams).unwrap();
    let [whole] = read(&first).try_into().unwrap();
    let [left, right] = split(&first).expect("four lines");
    let mut entries = Vec::new();
    for half in [left, right] {
        let [stream] = read(&half.body).try_into().unwrap();
        assert_eq!((half.items, stream.entries.len(), &stream.labels), (2, 2, &whole.labels));
        let [one, _] = split(&half.body).expect("two lines");
        assert_eq!(split(&one.body), None);
        entries.extend(stream.entries);
    }
    assert_eq!(entries, whole.entries);
}
