//! A target's life against a server that plays targets, with a receiver that remembers every sample.

use std::collections::BTreeSet;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::formats::{Escaping, Protocol, accept_header};
use crate::graph::{ConsumeError, Consumer};
use crate::http_client::HttpClient;
use crate::scraping::Compression;
use crate::scraping::in_flight::Budget;
use crate::testing::{Behaviour, Targets};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(100);

/// Remembers every sample as `name` or `name{...}`, with its time and value.
#[derive(Default)]
struct Recorder {
    samples: watch::Sender<Vec<Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    name: String,
    labels: String,
    timestamp_ms: i64,
    value: f64,
}

impl Seen {
    fn all(batch: &SampleBatch) -> Vec<Seen> {
        let seen = batch.iter().map(|sample| Seen {
            name: sample.labels.get("__name__").unwrap_or_default().to_owned(),
            labels: sample.labels.to_string(),
            timestamp_ms: sample.timestamp_ms,
            value: sample.value,
        });
        seen.collect()
    }

    fn is_marker(&self) -> bool {
        self.value.to_bits() == crate::telemetry::STALE_NAN.to_bits()
    }
}

#[async_trait]
impl Consumer<SampleBatch> for Recorder {
    async fn consume(&self, batch: &SampleBatch) -> Result<(), ConsumeError> {
        self.samples.send_modify(|samples| samples.extend(Seen::all(batch)));
        Ok(())
    }
}

/// Refuses everything: a full log.
struct Full;

#[async_trait]
impl Consumer<SampleBatch> for Full {
    async fn consume(&self, _batch: &SampleBatch) -> Result<(), ConsumeError> {
        Err(ConsumeError::Full { by: "test".to_owned(), reason: "full".to_owned() })
    }
}

/// One target and what was received of it.
struct World {
    targets: Targets,
    recorder: Arc<Recorder>,
    figures: Arc<ScrapeFigures>,
    spec: Arc<Spec>,
    settings: Settings,
}

/// A running life.
struct Living {
    task: JoinHandle<Ended>,
    stop: CancellationToken,
}

fn common(params: Vec<(String, String)>, job: &str) -> Common {
    let (scheme, path) = ("http".to_owned(), "/metrics".to_owned());
    Common { scheme, path, params, job: job.to_owned(), excluded_labels: Vec::new() }
}

impl World {
    async fn new() -> World {
        let targets = Targets::start(1, 2).await.unwrap();
        let spec = Arc::new(Spec::new(&targets.target(0), &common(Vec::new(), "test")).unwrap());
        let settings = Settings {
            interval: INTERVAL,
            http: HttpClientOptions::default(),
            limits: Limits { timeout: PATIENCE, body_bytes: 1 << 20, compression: Compression::Gzip },
            accept: accept_header(&Protocol::DEFAULT, Escaping::default()),
            fallback: None,
            rules: SeriesRules::default(),
            policy: Policy::default(),
            extra_metrics: false,
            refusal: None,
        };
        World { targets, recorder: Arc::default(), figures: Arc::default(), spec, settings }
    }

    fn slots(&self) -> Slots {
        Slots::new(self.spec.key, INTERVAL.as_millis() as i64)
    }

    fn begin(&self, done_ms: Option<i64>) -> Living {
        self.begin_with(done_ms, self.recorder.clone())
    }

    fn begin_with(&self, done_ms: Option<i64>, receiver: Arc<dyn Consumer<SampleBatch>>) -> Living {
        self.begin_after(Before { done_ms, series: Series::Unknown }, receiver)
    }

    fn begin_after(&self, before: Before, receiver: Arc<dyn Consumer<SampleBatch>>) -> Living {
        let stop = CancellationToken::new();
        let shared = (
            Fetcher::new(HttpClient::new(&self.settings.http)),
            Fanout::new(vec![receiver]),
            self.figures.clone(),
        );
        let settings = Arc::new(self.settings.clone());
        let task = tokio::spawn(live(self.spec.clone(), settings, shared, before, |_, _| {}, stop.clone()));
        Living { task, stop }
    }

    /// Waits until that many samples of that name are there, and gives them.
    async fn samples(&self, name: &str, count: usize) -> Vec<Seen> {
        let mut samples = self.recorder.samples.subscribe();
        let reached = samples.wait_for(|all| all.iter().filter(|seen| seen.name == name).count() >= count);
        let all = tokio::time::timeout(PATIENCE, reached).await.expect("they come in time").unwrap().clone();
        all.into_iter().filter(|seen| seen.name == name).collect()
    }

    /// The times of all samples of that name so far.
    fn times(&self, name: &str) -> Vec<i64> {
        let samples = self.recorder.samples.borrow();
        samples.iter().filter(|seen| seen.name == name).map(|seen| seen.timestamp_ms).collect()
    }

    fn markers(&self) -> BTreeSet<String> {
        let samples = self.recorder.samples.borrow();
        samples.iter().filter(|seen| seen.is_marker()).map(|seen| seen.labels.clone()).collect()
    }
}

impl Living {
    async fn end(self) -> Ended {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time").unwrap()
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Lives follow each other as owners do, each with what the last one left. A slot that a busy machine misses is counted,
/// so the sum is exact whatever happens.
#[tokio::test]
async fn slots_are_taken_exactly_once_through_all_owners() {
    let world = World::new().await;
    let mut done_ms = None;
    for owner in 1..=4 {
        let living = world.begin(done_ms);
        world.samples("up", owner * 3).await;
        let ended = living.end().await;
        assert_eq!(ended.last_slot_ms, world.times("up").last().copied(), "what was taken is handed over");
        done_ms = ended.last_slot_ms;
    }
    let times = world.times("up");
    assert!(times.is_sorted_by(|before, after| before < after), "no slot is taken twice: {times:?}");
    let slots = world.slots();
    assert!(
        times.iter().all(|time| slots.last(*time) == *time),
        "each sample has its slot's time: {times:?}"
    );
    let passed = (times[times.len() - 1] - times[0]) / INTERVAL.as_millis() as i64 + 1;
    assert_eq!(passed as u64, times.len() as u64 + count(&world.figures.missed), "{times:?}");
    assert_eq!(times, world.times("scrape_duration_seconds"));
    assert_eq!(count(&world.figures.scrapes) + count(&world.figures.failures), times.len() as u64);
    assert_eq!(world.targets.scrapes(0).len(), times.len(), "nobody asks more often than that");
}

#[tokio::test]
async fn an_owner_that_comes_late_catches_up_one_slot_and_counts_the_rest() {
    let world = World::new().await;
    let (interval_ms, began_ms) = (INTERVAL.as_millis() as i64, now_ms());
    let done_ms = world.slots().last(began_ms) - 10 * interval_ms;
    let living = world.begin(Some(done_ms));
    let first_ms = world.samples("up", 1).await[0].timestamp_ms;
    living.end().await;
    assert!(first_ms <= now_ms() && first_ms > began_ms - interval_ms, "the latest slot is taken at once");
    assert!(count(&world.figures.caught_up) >= 1);
    let skipped = (first_ms - done_ms) / interval_ms - 1;
    assert!(skipped >= 9 && count(&world.figures.missed) >= skipped as u64, "{skipped}, {:?}", world.figures);
}

#[tokio::test]
async fn a_life_that_stops_ends_no_series_and_its_farewell_ends_all() {
    let world = World::new().await;
    let living = world.begin(None);
    world.samples("up", 2).await;
    let mut ended = living.end().await;
    assert_eq!(world.markers(), BTreeSet::new(), "the next owner goes on with the series");

    let farewell = Seen::all(&ended.farewell());
    assert!(farewell.iter().all(Seen::is_marker), "{farewell:?}");
    let had: BTreeSet<String> =
        world.recorder.samples.borrow().iter().map(|seen| seen.labels.clone()).collect();
    assert_eq!(farewell.iter().map(|seen| seen.labels.clone()).collect::<BTreeSet<_>>(), had);
    assert_eq!(had.len(), 3 + 5, "the page's and the agent's own");
}

/// A target that is gone and comes back is scraped in its next slot: a marker with the time of that slot would be
/// another value for the same moment, which endpoints refuse.
#[tokio::test]
async fn a_farewell_is_behind_the_last_sample_and_never_in_a_slot() {
    let world = World::new().await;
    let living = world.begin(None);
    world.samples("up", 1).await;
    let mut ended = living.end().await;
    let last_ms = ended.last_slot_ms.unwrap();
    let next_ms = world.slots().after(last_ms);
    for marker in Seen::all(&ended.farewell()) {
        let time_ms = marker.timestamp_ms;
        assert!(last_ms < time_ms && time_ms < next_ms, "{last_ms} < {time_ms} < {next_ms}");
    }
}

#[tokio::test]
async fn a_target_that_fails_is_down_in_its_slots_and_its_series_end() {
    let mut world = World::new().await;
    world.settings.limits.timeout = INTERVAL;
    world.settings.limits.body_bytes = 64 << 10;
    for behaviour in [
        Behaviour::Status(500),
        Behaviour::Hang,
        Behaviour::HangUp,
        Behaviour::Garbage,
        Behaviour::Endless,
        Behaviour::Slow(PATIENCE),
    ] {
        world.recorder = Arc::default();
        world.figures = Arc::default();
        world.targets.behave(0, Behaviour::Text);
        let living = world.begin(None);
        world.samples("test_gauge", 2).await;
        world.targets.behave(0, behaviour);
        let mut up = world.samples("up", 2).await;
        while up.last().is_none_or(|last| last.value != 0.0) {
            up = world.samples("up", up.len() + 1).await;
        }
        let up = world.samples("up", up.len() + 1).await;
        let down = up.iter().filter(|seen| seen.value == 0.0).count();
        assert!(down >= 2, "{behaviour:?}: {up:?}");
        assert!(up.iter().all(|seen| world.slots().last(seen.timestamp_ms) == seen.timestamp_ms));
        living.end().await;
        let markers = world.markers();
        assert_eq!(markers.len(), 3, "{behaviour:?}: each series of the page ends once: {markers:?}");
        assert!(count(&world.figures.failures) >= 2, "{behaviour:?}: {:?}", world.figures);
    }
}

impl World {
    /// All series that had a value.
    fn series(&self) -> BTreeSet<String> {
        let samples = self.recorder.samples.borrow();
        samples.iter().filter(|seen| !seen.is_marker()).map(|seen| seen.labels.clone()).collect()
    }

    /// One life under these settings, and its first slot under others; the series with a value of each, and what is marked.
    async fn change(&mut self, change: impl FnOnce(&mut World)) -> [BTreeSet<String>; 3] {
        let living = self.begin(None);
        self.samples("up", 2).await;
        let ended = living.end().await;
        assert_eq!(self.markers(), BTreeSet::new());
        let before = self.series();
        change(self);
        self.recorder = Arc::default();
        let living = self.begin_after(ended.into_before(), self.recorder.clone());
        self.samples("scrape_duration_seconds", 3).await;
        living.end().await;
        let markers = self.recorder.samples.borrow().iter().filter(|seen| seen.is_marker()).count();
        assert_eq!(markers, self.markers().len(), "one marker is enough");
        [before, self.series(), self.markers()]
    }
}

#[tokio::test]
async fn series_that_go_on_through_a_change_of_settings_get_no_marker_and_the_others_one() {
    let [before, after, marked] = World::new().await.change(|_| {}).await;
    assert_eq!((before.len(), after, marked), (8, before, BTreeSet::new()), "nothing has changed");

    let mut world = World::new().await;
    let [before, after, marked] = world.change(|world| world.targets.behave(0, Behaviour::Status(500))).await;
    assert_eq!((marked.len(), &marked | &after), (3, before), "the page's series, seen by the life before");

    let mut world = World::new().await;
    let renamed = |world: &mut World| {
        let spec = Spec::new(&world.targets.target(0), &common(Vec::new(), "other")).unwrap();
        assert_eq!(spec.key, world.spec.key);
        world.spec = Arc::new(spec);
    };
    let [before, after, marked] = world.change(renamed).await;
    assert!(after.iter().all(|series| series.contains("job=\"other\"")), "{after:?}");
    assert_eq!((marked, after.len()), (before, 8), "all have another name now");

    let mut world = World::new().await;
    world.settings.extra_metrics = true;
    let [before, after, marked] = world.change(|world| world.settings.extra_metrics = false).await;
    assert_eq!((marked.len(), &marked | &after), (3, before), "what is not said any more");

    let mut world = World::new().await;
    let [before, after, marked] = world.change(|world| world.settings.interval *= 2).await;
    assert_eq!((after, marked), (before, BTreeSet::new()), "only the pace is another");
}

#[tokio::test]
async fn a_life_that_takes_no_slot_hands_on_what_it_was_given() {
    let mut world = World::new().await;
    let living = world.begin(None);
    world.samples("up", 1).await;
    let before = living.end().await.into_before();
    let had = world.series();
    // Its slots are a day apart.
    let settings = world.settings.clone();
    world.settings.interval = Duration::from_secs(86_400);
    world.settings.extra_metrics = true;
    let stopped = world.begin_after(before, world.recorder.clone()).end().await;
    world.settings = settings;
    world.targets.behave(0, Behaviour::Status(500));
    let third = world.begin_after(stopped.into_before(), world.recorder.clone());
    tokio::time::timeout(PATIENCE, async {
        while world.markers().is_empty() {
            world.samples("up", world.times("up").len() + 1).await;
        }
    })
    .await
    .expect("they end in time");
    let mut ended = third.end().await;
    assert_eq!(world.markers().len(), 3, "the first life's page");
    let own: BTreeSet<String> = Seen::all(&ended.farewell()).into_iter().map(|seen| seen.labels).collect();
    assert_eq!(&own | &world.markers(), had, "nothing that was never written is ended");
}

/// There is no memory but what every page has, and the pages of the healthy ones need more, as do two of the hanging ones:
/// one goes on at a time, the two may not keep the others waiting, and each healthy page is taken in its slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_targets_that_hang_cost_the_others_no_slot() {
    const HANGING: usize = 1_000;
    const HEALTHY: usize = 20;
    const SLOTS: usize = 3;
    let targets = Targets::start(HANGING + HEALTHY, 2_000).await.unwrap();
    (0..HANGING).for_each(|index| targets.behave(index, Behaviour::Stall(8 << 10)));
    (0..2).for_each(|index| targets.behave(index, Behaviour::Stall(64 << 10)));
    let interval = Duration::from_secs(3);
    let limits = Limits { timeout: interval, ..World::new().await.settings.limits };
    let settings = Settings { interval, limits, ..World::new().await.settings };
    let fetcher = Fetcher::within(HttpClient::new(&settings.http), Budget::new(0));
    let settings = Arc::new(settings);
    let (hanging, healthy) = (Arc::<ScrapeFigures>::default(), Arc::<ScrapeFigures>::default());
    let recorder = Arc::<Recorder>::default();
    let stop = CancellationToken::new();
    let lives: Vec<_> = (0..HANGING + HEALTHY)
        .map(|index| {
            let spec = Spec::new(&targets.target(index), &common(Vec::new(), "test")).unwrap();
            let is_healthy = index >= HANGING;
            let receivers: Vec<Arc<dyn Consumer<SampleBatch>>> =
                if is_healthy { vec![recorder.clone()] } else { Vec::new() };
            let figures = if is_healthy { &healthy } else { &hanging };
            let shared = (fetcher.clone(), Fanout::new(receivers), figures.clone());
            let (spec, settings) = (Arc::new(spec), settings.clone());
            tokio::spawn(live(spec, settings, shared, Before::default(), |_, _| {}, stop.clone()))
        })
        .collect();
    let mut samples = recorder.samples.subscribe();
    let slots_taken = |all: &Vec<Seen>| all.iter().filter(|seen| seen.name == "up").count();
    let reached = samples.wait_for(|all| slots_taken(all) >= HEALTHY * SLOTS);
    tokio::time::timeout(PATIENCE, reached).await.expect("in time").unwrap();
    stop.cancel();
    for life in lives {
        life.await.unwrap();
    }
    assert_eq!((count(&healthy.failures), count(&healthy.missed)), (0, 0), "{healthy:?}");
    assert!(count(&healthy.scrapes) >= (HEALTHY * SLOTS) as u64);
    assert!(count(&hanging.failures) >= HANGING as u64 && count(&hanging.scrapes) == 0, "{hanging:?}");
}

#[tokio::test]
async fn samples_that_nobody_takes_are_counted() {
    let world = World::new().await;
    let living = world.begin_with(None, Arc::new(Full));
    tokio::time::timeout(PATIENCE, async {
        while count(&world.figures.refused_samples) < 16 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("two pages are refused in time");
    let ended = living.end().await;
    assert!(ended.last_slot_ms.is_some(), "the slot is past, taken or not");
    assert_eq!(count(&world.figures.refused_samples) % 8, 0, "three of the page and five of the agent's own");
}

#[tokio::test]
async fn what_is_said_of_a_scrape_can_be_more() {
    let mut world = World::new().await;
    world.settings.extra_metrics = true;
    world.settings.policy.sample_limit = 7;
    let living = world.begin(None);
    let value = async |name: &str| world.samples(name, 1).await[0].value;
    assert_eq!(value("scrape_sample_limit").await, 7.0);
    assert_eq!(value("scrape_timeout_seconds").await, PATIENCE.as_secs_f64());
    assert!(value("scrape_body_size_bytes").await > 100.0);
    let farewell = Seen::all(&living.end().await.farewell());
    assert!(farewell.iter().any(|seen| seen.name == "scrape_body_size_bytes" && seen.is_marker()));

    let mut world = World::new().await;
    world.settings.extra_metrics = true;
    world.settings.limits.body_bytes = 10;
    let living = world.begin(None);
    assert_eq!(world.samples("scrape_body_size_bytes", 1).await[0].value, -1.0);
    living.end().await;
}

#[tokio::test]
async fn too_many_targets_are_all_down() {
    let mut world = World::new().await;
    world.settings.refusal = Some("2 targets are more than 1 (target_limit)".to_owned());
    let living = world.begin(None);
    assert_eq!(world.samples("up", 1).await[0].value, 0.0);
    living.end().await;
    assert!(world.targets.scrapes(0).is_empty());
}

#[test]
fn a_target_says_where_its_page_is_and_what_it_is_called() {
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let params = [("a".to_owned(), "1 2".to_owned()), ("b".to_owned(), "&".to_owned())];
        let shown = match Spec::new(&Target(pairs.collect()), &common(params.to_vec(), "job")) {
            Ok(spec) => spec.url.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    };
    check(&[("__address__", "h:1")], "http://h:1/metrics?a=1%202&b=%26");
    check(&[("__address__", "h"), ("__metrics_path__", "x"), ("__param_a", "3")], "http://h/x?a=3&b=%26");
    check(&[("__address__", "h:1"), ("__scheme__", "https")], "https://h:1/metrics?a=1%202&b=%26");
    check(
        &[("__address__", "h"), ("__scheme__", "ftp")],
        "target h: the scheme \"ftp\" is not supported; http and https are",
    );
    check(&[("job", "x")], "target : has no label __address__");
    check(
        &[("__address__", "a b")],
        "target a b: \"http://a b/metrics?a=1%202&b=%26\" is not a URL: invalid uri character",
    );
}
