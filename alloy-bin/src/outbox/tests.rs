//! An outbox against a real endpoint that answers by script.

mod apart;
mod chaos;
mod killed;
mod newer;
mod rejected;

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::formats::{REMOTE_WRITE_HEADERS, RemoteWriteEncoder, compress, join, split};
use crate::telemetry::{Labels, SampleBatch};
use crate::testing::{Answer, Counts, Receiver};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(3600);

/// An endpoint and the options of an outbox that sends to it.
struct World {
    folder: tempfile::TempDir,
    receiver: Receiver,
    options: Options,
}

impl World {
    /// One lane; a request is ten records, and none waits for less.
    async fn new() -> World {
        let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await.unwrap());
        let options = options(folder.path(), &receiver);
        World { folder, receiver, options }
    }

    /// Opens the outbox; an earlier one may need a moment to let go of its log.
    async fn open(&self) -> Outbox {
        eventually("the log is free", async || Outbox::open(self.options.clone()).ok()).await
    }

    async fn counts(&self, reached: impl FnMut(&Counts) -> bool) -> Counts {
        self.receiver.wait_for(PATIENCE, reached).await.expect("it arrives in time")
    }
}

fn options(folder: &Path, receiver: &Receiver) -> Options {
    let headers = REMOTE_WRITE_HEADERS
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let sync_interval = Duration::from_millis(20);
    Options {
        directory: folder.join("log"),
        endpoint: Endpoint {
            name: "test".to_owned(),
            url: receiver.write_url().parse().unwrap(),
            headers: HeaderMap::from_iter(headers),
            newer_headers: None,
            http: Default::default(),
            timeout: Duration::from_secs(10),
            dialect: Dialect::Push,
            takes_spans: false,
        },
        retry: Retry {
            min_backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(20),
            on_too_many_requests: OnTooManyRequests::Retry,
            age_limit: None,
        },
        batching: Batching {
            lanes: 1,
            max_items: 10,
            max_bytes: 1 << 20,
            in_flight_bytes: 8 << 20,
            deadline: LONG,
            form: Form { splice: join, split, newer: None, weigh: Bytes::len },
        },
        log: LogLimits { max_bytes: Some(64 << 20), segment_bytes: 1 << 20, sync_interval, max_age: None },
        clearance: None,
    }
}

/// A record with the sample `number` of the lane's series. Without a metric name the receiver answers 400 to the whole
/// request.
fn record(name: &str, lane: u64, number: i64) -> Piece {
    let lane_text = lane.to_string();
    let mut batch = SampleBatch::new(lane);
    let labels = [("__name__", name), ("lane", &lane_text)];
    batch.push(labels.into_iter().filter(|(_, value)| !value.is_empty()), number, number as f64);
    piece(&batch, number)
}

/// The same with 4 KiB that do not compress beside it: to fill a log.
fn large_record(number: i64) -> Piece {
    let word = |seed| format!("{:016x}", twox_hash::XxHash64::oneshot(seed, &number.to_le_bytes()));
    let filler: String = (0..512).map(word).collect();
    let mut batch = SampleBatch::new(7);
    batch.push([("__name__", "test"), ("lane", "7")], number, number as f64);
    batch.push([("__name__", "filler"), ("filler", &filler)], number, 0.0);
    piece(&batch, number)
}

fn piece(batch: &SampleBatch, number: i64) -> Piece {
    let mut plain = Vec::new();
    RemoteWriteEncoder::new(&Labels::new::<&str, &str>([])).encode(batch.iter(), &mut plain);
    let (lane, body) = (batch.lane(), Bytes::from(compress(&plain)));
    Piece { lane, items: 1, newest_ms: number, tenant: None, origin: None, body }
}

async fn accept(outbox: &Outbox, numbers: std::ops::Range<i64>) {
    for number in numbers {
        outbox.accept(&[record("test", 7, number)]).await.unwrap();
    }
}

/// A sending outbox.
struct Sending {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn send(outbox: &Outbox) -> Sending {
    let stop = CancellationToken::new();
    let (outbox, token) = (outbox.clone(), stop.clone());
    Sending { stop, task: tokio::spawn(async move { outbox.run(token, PATIENCE).await }) }
}

impl Sending {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// As a crash would: nothing more is sent, nothing is closed.
    async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

async fn eventually<T>(what: &str, attempt: impl AsyncFn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn figure(outbox: &Outbox, figure: fn(&Figures) -> &AtomicU64, value: u64) {
    let count = || figure(outbox.figures()).load(Ordering::Relaxed);
    eventually("the figure has its value", async || (count() == value).then_some(())).await;
}

fn count(figure: &AtomicU64) -> u64 {
    figure.load(Ordering::Relaxed)
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it does not hang")
}

/// The numbers that arrived in that lane, in the order of their arrival.
fn arrived(receiver: &Receiver, lane: u64) -> Vec<i64> {
    let lane = lane.to_string();
    receiver.inspect(|recorded| {
        let labels = [("__name__", "test"), ("lane", lane.as_str())];
        let series = recorded.series_with(&labels).flat_map(|(_, series)| &series.arrivals);
        series.map(|arrival| arrival.timestamp_ms).collect()
    })
}

#[tokio::test]
async fn what_was_accepted_is_delivered_in_order_and_in_full_requests() {
    let world = World::new().await;
    let outbox = world.open().await;
    accept(&outbox, 0..30).await;
    let sending = send(&outbox);
    let counts = world.counts(|counts| counts.samples == 30).await;
    assert_eq!((counts.requests, counts.malformed_requests), (3, 0));
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(0..30));
    figure(&outbox, |figures| &figures.sent_items, 30).await;
    let figures = outbox.figures();
    assert_eq!((count(&figures.accepted_items), count(&figures.requests)), (30, 3));
    assert_eq!(figures.newest_sent_ms.load(Ordering::Relaxed), 29);
    assert_eq!(outbox.log().lag_records, 0);

    accept(&outbox, 30..33).await;
    sending.stop().await;
    assert_eq!(arrived(&world.receiver, 7).len(), 33, "stopping does not wait for a request to fill up");
}

#[tokio::test]
async fn a_page_that_is_larger_than_a_segment_is_taken_in_parts() {
    let world = World::new().await;
    let outbox = world.open().await;
    let sending = send(&outbox);
    let pieces: Vec<Piece> = (0..240).map(large_record).collect();
    let bytes: usize = pieces.iter().map(|piece| piece.body.len()).sum();
    assert!(bytes as u64 > world.options.log.segment_bytes, "{bytes} bytes would fit into one batch");
    bounded(outbox.accept(&pieces)).await.expect("there is room");
    bounded(outbox.flush(PATIENCE)).await;
    assert_eq!(world.counts(|counts| counts.samples == 480).await.out_of_order_samples, 0);
    drop(sending);
}

#[tokio::test]
async fn a_record_that_is_refused_for_good_costs_only_itself() {
    let world = World::new().await;
    let outbox = world.open().await;
    accept(&outbox, 0..4).await;
    outbox.accept(&[record("", 7, 4)]).await.unwrap();
    accept(&outbox, 5..20).await;
    let sending = send(&outbox);
    let counts = world.counts(|counts| counts.samples == 19).await;
    assert_eq!(counts.malformed_requests, 5, "ten, five, three, two, and the bad one alone");
    assert_eq!(counts.requests, 9 + 1);
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter((0..20).filter(|number| *number != 4)));
    sending.stop().await;
    assert_eq!(count(&outbox.figures().rejected_items), 1);
    assert_eq!(count(&outbox.figures().sent_items), 19);
    assert_eq!(outbox.log().lag_records, 0, "the bad one is not in the way");
}

#[tokio::test]
async fn too_many_requests_are_repeated_when_the_endpoint_says_so() {
    let world = World::new().await;
    world.receiver.answer_next([Answer::RefuseFor(429, 1)]);
    let outbox = world.open().await;
    accept(&outbox, 0..10).await;
    let started = Instant::now();
    let sending = send(&outbox);
    let counts = world.counts(|counts| counts.samples == 10).await;
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(counts.requests, 2);
    sending.stop().await;
    assert_eq!(count(&outbox.figures().retried_items), 10);
}

#[tokio::test]
async fn too_many_requests_drop_data_where_the_configuration_wants_it() {
    let mut world = World::new().await;
    world.options.retry.on_too_many_requests = OnTooManyRequests::Drop;
    world.options.batching.max_items = 1;
    world.receiver.answer_next([Answer::RefuseFor(429, 3600)]);
    let outbox = world.open().await;
    accept(&outbox, 0..2).await;
    let sending = send(&outbox);
    world.counts(|counts| counts.samples == 1).await;
    sending.stop().await;
    assert_eq!(arrived(&world.receiver, 7), [1]);
    assert_eq!(count(&outbox.figures().rejected_items), 1);
}

#[tokio::test]
async fn an_endpoint_that_fails_is_asked_until_it_takes_the_data() {
    let mut world = World::new().await;
    world.options.endpoint.timeout = Duration::from_millis(200);
    let failures =
        [Answer::Refuse(500), Answer::Refuse(503), Answer::HangUp, Answer::Hang, Answer::Refuse(504)];
    world.receiver.answer_next(failures.into_iter().chain(vec![Answer::Refuse(500); 20]));
    let outbox = world.open().await;
    accept(&outbox, 0..10).await;
    let sending = send(&outbox);
    let counts = world.counts(|counts| counts.samples > 0).await;
    assert_eq!((counts.requests, counts.samples, counts.duplicate_samples), (26, 10, 0));
    sending.stop().await;
    assert_eq!(count(&outbox.figures().retried_items), 250);
    assert_eq!(count(&outbox.figures().rejected_items), 0);
}

#[tokio::test]
async fn an_agent_that_crashes_goes_on_at_the_exact_record() {
    let world = World::new().await;
    let outbox = world.open().await;
    accept(&outbox, 0..10).await;
    let sending = send(&outbox);
    figure(&outbox, |figures| &figures.sent_items, 10).await;
    world.receiver.down().await;
    accept(&outbox, 10..40).await;
    figure(&outbox, |figures| &figures.sent_items, 10).await;
    sending.crash().await;
    drop(outbox);

    let outbox = world.open().await;
    assert_eq!(outbox.log().lag_records, 30);
    let sending = send(&outbox);
    world.receiver.up().await.unwrap();
    world.counts(|counts| counts.samples >= 40).await;
    sending.stop().await;
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(0..40));
}

/// The folder is copied while the outbox works, as power loss would leave it at best: records may come twice,
/// none is lost, none is out of order with what was never acknowledged.
#[tokio::test]
async fn a_copy_of_a_working_log_loses_nothing() {
    let mut world = World::new().await;
    let outbox = world.open().await;
    accept(&outbox, 0..10).await;
    let sending = send(&outbox);
    figure(&outbox, |figures| &figures.sent_items, 10).await;
    world.receiver.answer(Answer::Refuse(500));
    accept(&outbox, 10..30).await;
    let copy = world.folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&world.options.directory).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    sending.crash().await;
    world.receiver.answer(Answer::Accept);

    world.options.directory = copy;
    let outbox = world.open().await;
    let sending = send(&outbox);
    world.counts(|counts| counts.samples - counts.duplicate_samples >= 30).await;
    sending.stop().await;
    let arrived = arrived(&world.receiver, 7);
    assert!(arrived.ends_with(&Vec::from_iter(10..30)), "{arrived:?}");
    assert_eq!(world.receiver.counts().conflicting_samples, 0);
}

#[tokio::test]
async fn a_lost_acknowledgement_doubles_only_what_was_in_flight() {
    let world = World::new().await;
    world.receiver.answer_next([Answer::Accept, Answer::AcceptButSay(500), Answer::AcceptButHangUp]);
    let outbox = world.open().await;
    accept(&outbox, 0..40).await;
    let sending = send(&outbox);
    let counts = world.counts(|counts| counts.samples == 60).await;
    sending.stop().await;
    assert_eq!((counts.duplicate_samples, counts.conflicting_samples), (20, 0));
    let expected: Vec<i64> = (0..10).chain(10..20).chain(10..20).chain(10..20).chain(20..40).collect();
    assert_eq!(arrived(&world.receiver, 7), expected);
}

#[tokio::test]
async fn a_full_log_refuses_and_takes_again_when_the_endpoint_is_back() {
    let mut world = World::new().await;
    world.options.log.segment_bytes = 64 << 10;
    world.options.log.max_bytes = Some(320 << 10);
    world.receiver.answer(Answer::Refuse(500));
    let outbox = world.open().await;
    let sending = send(&outbox);
    let mut next = 0;
    let refusal = loop {
        match bounded(outbox.accept(&[large_record(next)])).await {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
        assert!(next < 100, "320 KiB do not hold 100 records of 4 KiB");
    };
    assert!(matches!(refusal, Error::Full(_)), "{refusal:?}");
    assert!(next > 10, "it took only {next}");
    assert_eq!(count(&outbox.figures().refused_items), 1);
    assert!(outbox.log().disk_bytes <= 320 << 10, "{:?}", outbox.log());

    world.receiver.answer(Answer::Accept);
    eventually("the log has room again", async || outbox.accept(&[large_record(next)]).await.ok()).await;
    sending.stop().await;
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(0..=next));
}

/// What is said on this thread.
#[derive(Clone, Default)]
struct Said(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_log_that_refuses_says_so_once_and_not_for_each_batch() {
    let mut world = World::new().await;
    world.options.log.segment_bytes = 64 << 10;
    world.options.log.max_bytes = Some(320 << 10);
    let outbox = world.open().await;
    let said = Said::default();
    let writer = said.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // NOTE: while there is only one, a thread without it that comes by first decides for all that nobody listens.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    for number in 0..100 {
        let _ = bounded(outbox.accept(&[large_record(number)])).await;
    }
    let refused = count(&outbox.figures().refused_items);
    assert!((50..90).contains(&refused), "{refused}");
    let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("the log refuses data")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("the log is full") && lines[0].contains("test"),
        "{said}"
    );
}

#[tokio::test]
async fn durable_waits_for_the_sync() {
    let mut world = World::new().await;
    world.options.log.sync_interval = LONG;
    let outbox = world.open().await;
    let sending = send(&outbox);
    let synced = outbox.log().syncs;
    accept(&outbox, 0..1).await;
    let early = tokio::time::timeout(Duration::from_millis(100), outbox.durable()).await;
    assert!(early.is_err() && outbox.log().syncs == synced, "nothing is synced yet");
    let (durable, ()) = tokio::join!(tokio::time::timeout(PATIENCE, outbox.durable()), sending.stop());
    durable.expect("the last sync makes it durable");
    assert!(outbox.log().syncs > synced);
}

#[tokio::test]
async fn lanes_keep_their_order_whatever_the_endpoint_does() {
    const LANES: u64 = 12;
    const RECORDS: i64 = 40;
    let mut world = World::new().await;
    world.options.batching.lanes = 4;
    world.options.batching.max_items = 7;
    world.options.batching.deadline = Duration::from_millis(5);
    let slow = |millis| Answer::AcceptAfter(Duration::from_millis(millis));
    let script = [
        slow(30),
        Answer::Refuse(500),
        slow(3),
        Answer::HangUp,
        Answer::Accept,
        Answer::Refuse(429),
        slow(12),
    ];
    world.receiver.answer_next((0..10).flat_map(|_| script.clone()));
    let outbox = world.open().await;
    let sending = send(&outbox);
    for number in 0..RECORDS {
        let pieces: Vec<Piece> = (0..LANES).map(|lane| record("test", lane, number)).collect();
        outbox.accept(&pieces).await.unwrap();
    }
    let counts = world.counts(|counts| counts.samples == LANES * RECORDS as u64).await;
    sending.stop().await;
    assert_eq!((counts.duplicate_samples, counts.out_of_order_samples), (0, 0));
    for lane in 0..LANES {
        assert_eq!(arrived(&world.receiver, lane), Vec::from_iter(0..RECORDS), "lane {lane}");
    }
}

#[tokio::test]
async fn a_lane_that_hangs_does_not_hold_up_the_others() {
    let mut world = World::new().await;
    world.options.batching.lanes = 2;
    world.options.batching.max_items = 1;
    world.options.endpoint.timeout = LONG;
    world.receiver.answer_next([Answer::Hang]);
    let outbox = world.open().await;
    let sending = send(&outbox);
    outbox.accept(&[record("test", 0, 0)]).await.unwrap();
    world.counts(|counts| counts.requests == 1).await;
    for number in 0..20 {
        outbox.accept(&[record("test", 1, number)]).await.unwrap();
    }
    world.counts(|counts| counts.samples == 20).await;
    assert_eq!(arrived(&world.receiver, 1), Vec::from_iter(0..20));
    figure(&outbox, |figures| &figures.sent_items, 20).await;
    assert_eq!(outbox.log().lag_records, 1, "only the one that hangs is left");
    sending.crash().await;
}

#[tokio::test]
async fn a_closed_outbox_refuses_instead_of_hanging() {
    let world = World::new().await;
    let outbox = world.open().await;
    send(&outbox).stop().await;
    let refused = bounded(outbox.accept(&[record("test", 7, 0)])).await;
    assert!(matches!(refused, Err(Error::Failed(_))), "{refused:?}");
    assert_eq!(count(&outbox.figures().refused_items), 1);
    drop(outbox);
    assert_eq!(world.open().await.log().lag_records, 0, "what was refused is not in the log");
}

#[tokio::test]
async fn two_outboxes_do_not_share_a_log() {
    let world = World::new().await;
    let _first = world.open().await;
    let Err(error) = Outbox::open(world.options.clone()) else { panic!("the log is open already") };
    assert!(format!("{error:#}").contains("log"), "{error:#}");
}
