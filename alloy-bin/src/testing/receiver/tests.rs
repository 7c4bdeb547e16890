//! The endpoint records what the encoders make, and answers by its script.

use http_body_util::Full;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

use super::*;
use crate::formats::{
    LOKI_PUSH_HEADERS, LokiPushEncoder, REMOTE_WRITE_HEADERS, RemoteWriteEncoder, Splice, compress,
};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream, SampleBatch};

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// The status, or `None` when there was no answer.
async fn post(url: &str, body: Bytes) -> Option<u16> {
    let headers =
        if url.ends_with(PUSH_PATH) { LOKI_PUSH_HEADERS.as_slice() } else { REMOTE_WRITE_HEADERS.as_slice() };
    post_with(url, headers, body).await
}

async fn post_with(url: &str, headers: &[(&str, &str)], body: Bytes) -> Option<u16> {
    let mut request = Request::post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).unwrap();
    client().request(request).await.ok().map(|response| response.status().as_u16())
}

fn samples(pairs: &[(i64, f64)]) -> Bytes {
    let mut batch = SampleBatch::new(0);
    for (timestamp_ms, value) in pairs {
        batch.push([("__name__", "x")], *timestamp_ms, *value);
    }
    let mut piece = Vec::new();
    RemoteWriteEncoder::new(&Labels::new([("cluster", "a")])).encode(batch.iter(), &mut piece);
    compress(&piece).into()
}

fn lines(pairs: &[(i64, &'static str)]) -> Bytes {
    let entry = |(timestamp_ns, line): &(i64, &'static str)| LogEntry::new(*timestamp_ns, *line);
    let entries = pairs.iter().map(entry).collect();
    let streams = vec![LogStream { labels: Labels::new([("job", "a")]), entries }];
    let batch = LogBatch { streams, ..LogBatch::default() };
    let mut piece = Vec::new();
    LokiPushEncoder::new(&Labels::new::<&str, &str>([])).encode(&batch, &mut piece);
    compress(&piece).into()
}

#[tokio::test]
async fn spliced_requests_arrive_and_what_is_wrong_with_them_is_counted() {
    let receiver = Receiver::start().await.unwrap();
    let mut splice = Splice::new();
    splice.push(samples(&[(1, 1.0), (3, 3.0)])).unwrap();
    splice.push(samples(&[(3, 3.0), (2, 2.0), (1, 5.0)])).unwrap();
    assert_eq!(post(&receiver.write_url(), splice.to_bytes()).await, Some(204));
    let counts = receiver.counts();
    assert_eq!((counts.samples, counts.series), (5, 1));
    assert_eq!(
        (counts.duplicate_samples, counts.conflicting_samples, counts.out_of_order_samples),
        (2, 1, 1)
    );
    receiver.inspect(|recorded| {
        let (labels, series) = recorded.series_with(&[("__name__", "x")]).next().unwrap();
        assert_eq!(labels.get("cluster"), Some("a"));
        assert_eq!(
            series.arrivals.iter().map(|arrival| arrival.timestamp_ms).collect::<Vec<_>>(),
            [1, 3, 3, 2, 1]
        );
    });

    let mut splice = Splice::new();
    splice.push(lines(&[(1, "a"), (2, "b")])).unwrap();
    splice.push(lines(&[(1, "a"), (2, "c")])).unwrap();
    assert_eq!(post(&receiver.push_url(), splice.to_bytes()).await, Some(204));
    let counts = receiver.counts();
    assert_eq!((counts.lines, counts.streams, counts.doubled_lines, counts.out_of_order_lines), (4, 1, 1, 1));
    assert_eq!(receiver.inspect(|recorded| recorded.streams[r#"{job="a"}"#].arrivals.len()), 4);

    receiver.clear();
    assert_eq!(receiver.counts(), Counts::default());
}

#[tokio::test]
async fn answers_follow_the_script() {
    let receiver = Receiver::start().await.unwrap();
    let check = async |answer: Answer, status: Option<u16>, recorded: u64| {
        let before = receiver.counts().recorded_requests;
        receiver.answer_next([answer.clone()]);
        assert_eq!(post(&receiver.write_url(), samples(&[(1, 1.0)])).await, status, "{answer:?}");
        assert_eq!(receiver.counts().recorded_requests - before, recorded, "{answer:?}");
    };
    check(Answer::Accept, Some(204), 1).await;
    check(Answer::AcceptAfter(Duration::from_millis(1)), Some(204), 1).await;
    check(Answer::AcceptButSay(500), Some(500), 1).await;
    check(Answer::AcceptButHangUp, None, 1).await;
    check(Answer::Refuse(503), Some(503), 0).await;
    check(Answer::RefuseFor(429, 7), Some(429), 0).await;
    check(Answer::HangUp, None, 0).await;

    receiver.answer(Answer::Hang);
    let url = receiver.write_url();
    let requests = receiver.counts().requests;
    let hanging = tokio::spawn(async move { post(&url, samples(&[(1, 1.0)])).await });
    receiver.wait_for(Duration::from_secs(10), |counts| counts.requests > requests).await.unwrap();
    receiver.answer(Answer::Accept);
    receiver.down().await;
    assert_eq!(hanging.await.unwrap(), None);
}

#[tokio::test]
async fn what_goes_down_comes_back_on_the_same_port() {
    let receiver = Receiver::start().await.unwrap();
    receiver.down().await;
    assert_eq!(post(&receiver.write_url(), samples(&[])).await, None);
    receiver.up().await.unwrap();
    assert_eq!(post(&receiver.write_url(), samples(&[(1, 1.0)])).await, Some(204));
    let outcome = receiver.wait_for(Duration::from_millis(1), |counts| counts.samples == 2).await;
    assert_eq!(outcome.unwrap_err().samples, 1);
}

#[tokio::test]
async fn a_request_against_the_rules_is_refused_and_remembered() {
    let receiver = Receiver::start().await.unwrap();
    let url = receiver.write_url();
    let unsorted = {
        let mut batch = SampleBatch::new(0);
        batch.push([("b", "1"), ("__name__", "x")], 1, 1.0);
        let mut piece = Vec::new();
        RemoteWriteEncoder::new(&Labels::new::<&str, &str>([])).encode(batch.iter(), &mut piece);
        Bytes::from(compress(&piece))
    };
    assert_eq!(post(&url, Bytes::from_static(b"nonsense")).await, Some(400));
    assert_eq!(post(&url, compress(b"nonsense").into()).await, Some(400));
    assert_eq!(post(&url, unsorted).await, Some(400));
    assert_eq!(post_with(&url, &[], samples(&[(1, 1.0)])).await, Some(400));
    assert_eq!(post(&format!("http://{}/x", receiver.address()), samples(&[])).await, Some(400));
    assert_eq!((receiver.counts().malformed_requests, receiver.counts().samples), (5, 0));
    receiver.inspect(|recorded| {
        assert!(recorded.complaints[2].starts_with("labels are not sorted"), "{:?}", recorded.complaints);
        assert!(recorded.complaints[3].starts_with("header content-type"), "{:?}", recorded.complaints);
    });
}
