//! The component in a graph of three: something that finds targets, the scraper, something that takes samples.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::watch;

use tokio::task::JoinHandle;

use super::*;
use crate::config::{Body, Decode, Value};
use crate::graph::{
    Checked, ConsumeError, Consumer, Exports, Graph, Host, MetricsReceiver, Registration, export,
};
use crate::ownership::{self, ClusterFlags, Ownership};
use crate::server::Components as _;
use crate::telemetry::{Collect as _, STALE_NAN, SampleBatch, Target};
use crate::testing::{Behaviour, Targets};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the components of one world share with its test, by the folder of their storage.
#[derive(Clone, Default)]
struct Shared {
    exports: Arc<Mutex<Option<Exports>>>,
    samples: watch::Sender<Vec<Seen>>,
    /// What the second sink has.
    elsewhere: watch::Sender<Vec<Seen>>,
}

/// A sample: its series, time and value.
type Seen = (String, i64, f64);

static WORLDS: LazyLock<Mutex<HashMap<std::path::PathBuf, Shared>>> = LazyLock::new(Mutex::default);

fn shared(context: &Context) -> Shared {
    WORLDS.lock().unwrap()[context.storage.parent().unwrap()].clone()
}

struct Nothing;

impl Decode for Nothing {
    fn decode(_: &mut Body<'_>) -> Self {
        Nothing
    }
}

/// `test.discovery`: exports what the test says.
struct Discovery;

#[async_trait]
impl Component for Discovery {
    const NAME: &'static str = "test.discovery";
    const EXPORTS: &'static [ExportType] = &[("targets", export::targets)];
    type Arguments = Nothing;

    fn build(_: Nothing, context: Context) -> anyhow::Result<Self> {
        context.exports.set("targets", Value::array([]));
        *shared(&context).exports.lock().unwrap() = Some(context.exports.clone());
        Ok(Discovery)
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, _: Nothing) -> anyhow::Result<()> {
        Ok(())
    }
}

/// `test.sink`: remembers every sample.
struct Sink(watch::Sender<Vec<Seen>>);

#[async_trait]
impl Component for Sink {
    const NAME: &'static str = "test.sink";
    const EXPORTS: &'static [ExportType] = &[("receiver", export::metrics_receiver)];
    type Arguments = Nothing;

    fn build(_: Nothing, context: Context) -> anyhow::Result<Self> {
        let Shared { samples, elsewhere, .. } = shared(&context);
        let samples = if context.id.ends_with(".b") { elsewhere } else { samples };
        context.exports.set("receiver", Value::from(Arc::new(Sink(samples.clone())) as MetricsReceiver));
        Ok(Sink(samples))
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, _: Nothing) -> anyhow::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Consumer<SampleBatch> for Sink {
    async fn consume(&self, batch: &SampleBatch) -> Result<(), ConsumeError> {
        let seen = batch.iter().map(|sample| (sample.labels.to_string(), sample.timestamp_ms, sample.value));
        self.0.send_modify(|samples| samples.extend(seen));
        Ok(())
    }
}

struct World {
    targets: Targets,
    shared: Shared,
    graph: Arc<Graph>,
    ownership: Ownership,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

fn configuration(sink: &str, more: &str) -> String {
    format!(
        r#"
        test.discovery "a" {{ }}
        test.sink "a" {{ }}
        test.sink "b" {{ }}
        prometheus.scrape "a" {{
            targets         = test.discovery.a.targets
            forward_to      = [test.sink.{sink}.receiver]
            scrape_interval = "250ms"
            scrape_timeout  = "250ms"
            {more}
        }}"#
    )
}

impl World {
    /// Runs the three with these targets, in an agent that is alone and not ready yet.
    async fn new(targets: usize) -> World {
        let http = SocketAddr::from(([127, 0, 0, 1], 1));
        let ownership = ownership::start(&ClusterFlags::default(), "host", http).await.unwrap().ownership;
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("main.alloy");
        std::fs::write(&config, configuration("a", "")).unwrap();
        let shared = Shared::default();
        WORLDS.lock().unwrap().insert(folder.path().to_owned(), shared.clone());
        let registrations =
            [Registration::of::<Discovery>(), Registration::of::<Sink>(), Registration::of::<Scrape>()];
        let (storage, cluster_name) = (folder.path().to_owned(), String::new());
        let host = Host { storage, ownership: ownership.clone(), cluster_name };
        let checked = Checked::load(&config, &registrations, "host").unwrap();
        let graph = Arc::new(checked.build(host, |_| ()).await.unwrap());
        let (stop, running) = (CancellationToken::new(), graph.clone());
        let token = stop.clone();
        let running = Some(tokio::spawn(async move { running.run(token).await }));
        let targets = Targets::start(targets, 2).await.unwrap();
        World { targets, shared, graph, ownership, stop, running, folder }
    }

    /// Discovery finds these, and perhaps something that is no target.
    fn discover(&self, indexes: &[usize], mistake: Option<Target>) {
        let found = indexes.iter().map(|index| self.targets.target(*index)).chain(mistake);
        let exports = self.shared.exports.lock().unwrap().clone().unwrap();
        exports.set("targets", Value::array(found.map(|target| Value::from(&target))));
    }

    async fn reload(&self, sink: &str, more: &str) {
        std::fs::write(self.folder.path().join("main.alloy"), configuration(sink, more)).unwrap();
        self.graph.reload().await.unwrap();
    }

    async fn wait_for(&self, what: &str, reached: impl Fn(&[Seen]) -> bool) {
        let mut samples = self.shared.samples.subscribe();
        let found = tokio::time::timeout(PATIENCE, samples.wait_for(|all| reached(all))).await.map(drop);
        found.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    /// The series of that target that have come to their end.
    fn ended(&self, target: usize) -> BTreeSet<String> {
        let samples = self.shared.samples.borrow();
        ended(&samples, target).collect()
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        let running = self.running.take().expect("it is stopped once");
        tokio::time::timeout(PATIENCE, running).await.expect("it stops in time").unwrap();
    }
}

fn of(seen: &Seen, target: usize) -> bool {
    seen.0.contains(&format!("instance=\"target-{target}\""))
}

fn ended(samples: &[Seen], target: usize) -> impl Iterator<Item = String> {
    let markers =
        samples.iter().filter(move |seen| of(seen, target) && seen.2.to_bits() == STALE_NAN.to_bits());
    markers.map(|seen| seen.0.clone())
}

fn is_up(samples: &[Seen], target: usize, times: usize) -> bool {
    let up = |seen: &&Seen| of(seen, target) && seen.0.contains("__name__=\"up\"") && seen.2 == 1.0;
    samples.iter().filter(up).count() >= times
}

#[tokio::test]
async fn the_series_of_a_target_that_is_gone_end_and_those_of_others_go_on() {
    let mut world = World::new(2).await;
    world.discover(&[0, 1], None);
    world.wait_for("both are up", |all| is_up(all, 0, 2) && is_up(all, 1, 2)).await;
    world.discover(&[1], None);
    world.wait_for("eight series end", |all| ended(all, 0).count() >= 8).await;
    let asked = world.targets.scrapes(0).len();
    let seen = world.shared.samples.borrow().len();
    world.wait_for("the other goes on", |all| is_up(&all[seen..], 1, 3)).await;
    assert_eq!(world.targets.scrapes(0).len(), asked, "it is not asked any more");
    assert_eq!(world.ended(1), BTreeSet::new());

    world.discover(&[0, 1], None);
    let seen = world.shared.samples.borrow().len();
    world.wait_for("it comes back", |all| is_up(&all[seen..], 0, 2)).await;
    world.stop().await;
    let samples = world.shared.samples.borrow();
    let mut points: Vec<(&str, i64)> =
        samples.iter().map(|(series, time, _)| (series.as_str(), *time)).collect();
    points.sort_unstable();
    let doubled: Vec<_> = points.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(doubled.is_empty(), "no moment has two values: {doubled:?}");
}

#[tokio::test]
async fn the_series_that_other_settings_rename_end_and_new_receivers_get_what_follows() {
    let mut world = World::new(1).await;
    world.discover(&[0], None);
    world.wait_for("it is up", |all| is_up(all, 0, 2)).await;
    let before: BTreeSet<String> =
        world.shared.samples.borrow().iter().map(|(series, ..)| series.clone()).collect();
    world.reload("a", r#"job_name = "other""#).await;
    world
        .wait_for("it is up under another name", |all| {
            all.iter()
                .any(|(series, ..)| series.contains("__name__=\"up\"") && series.contains("job=\"other\""))
        })
        .await;
    world.wait_for("eight series end", |all| ended(all, 0).count() >= 8).await;
    assert_eq!((world.ended(0), before.len()), (before, 8));

    world.reload("b", r#"job_name = "other""#).await;
    let mut elsewhere = world.shared.elsewhere.subscribe();
    let reached = elsewhere.wait_for(|all| is_up(all, 0, 3));
    tokio::time::timeout(PATIENCE, reached).await.expect("the new receiver gets samples").unwrap();
    world.stop().await;
    let (first, second) = (world.shared.samples.borrow(), world.shared.elsewhere.borrow());
    let last_ms = first.iter().map(|(_, time_ms, _)| *time_ms).max();
    assert!(second.iter().all(|(_, time_ms, _)| Some(*time_ms) > last_ms), "no slot goes to both");
    assert_eq!(world.ended(0).len(), 8, "and no series ends for it");
}

#[tokio::test]
async fn the_series_of_a_block_that_a_reload_removes_end() {
    let mut world = World::new(2).await;
    world.discover(&[0, 1], None);
    world.wait_for("both are up", |all| is_up(all, 0, 2) && is_up(all, 1, 2)).await;
    let before: BTreeSet<String> =
        world.shared.samples.borrow().iter().map(|(series, ..)| series.clone()).collect();
    let without = configuration("a", "").split("prometheus.scrape").next().unwrap().to_owned();
    std::fs::write(world.folder.path().join("main.alloy"), without).unwrap();
    world.graph.reload().await.unwrap();
    assert_eq!(&world.ended(0) | &world.ended(1), before);
    world.stop().await;
}

#[tokio::test]
async fn an_agent_that_stops_ends_no_series() {
    let mut world = World::new(2).await;
    world.discover(&[0, 1], None);
    world.wait_for("both are up", |all| is_up(all, 0, 2) && is_up(all, 1, 2)).await;
    world.stop().await;
    assert_eq!((world.ended(0), world.ended(1)), (BTreeSet::new(), BTreeSet::new()));
}

#[tokio::test]
async fn a_target_that_cannot_be_one_is_left_out_and_shows_in_the_health() {
    let mut world = World::new(1).await;
    world.discover(&[0], Some(Target(BTreeMap::from([("job".to_owned(), "x".to_owned())]))));
    world.wait_for("the good one is up", |all| is_up(all, 0, 1)).await;
    let unhealthy = world.graph.unhealthy();
    let reason = "1 targets cannot be scraped; the first: target : has no label __address__";
    assert_eq!(unhealthy, [("prometheus.scrape.a".to_owned(), reason.to_owned())]);
    world.discover(&[], None);
    world.wait_for("the good one ends", |all| ended(all, 0).count() >= 8).await;
    assert_eq!(world.graph.unhealthy(), []);
    world.stop().await;
}

#[tokio::test]
async fn failures_are_counted() {
    let mut world = World::new(2).await;
    world.targets.behave(0, Behaviour::Status(500));
    world.discover(&[0, 1], None);
    world.wait_for("the good one is up", |all| is_up(all, 1, 3)).await;
    world.stop().await;
    let mut page = Page::default();
    world.graph.collect(&mut page);
    let page = page.render();
    let value = |name: &str| -> usize {
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{{"))).expect(name);
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let failures = value("alloy_scrape_failures_total");
    assert!(failures >= 1 && value("alloy_scrape_pages_total") >= 3, "{page}");
    assert_eq!(world.ownership.list(&Default::default()).len(), 2);
}

#[test]
fn native_histograms_need_the_protocol_that_has_them() {
    use crate::config::{Scope, decode_block};
    use crate::formats::{Escaping, Histograms, Protocol, accept_header};
    use crate::syntax::{Sources, ast::Statement, parse};

    let decode = |inside: &str| {
        let mut sources = Sources::default();
        let text = format!("prometheus.scrape \"a\" {{\ntargets = []\nforward_to = []\n{inside}\n}}");
        let id = sources.add("main.alloy", text);
        let (file, _) = parse(&sources, id);
        let Statement::Block(block) = &file.statements[0] else { panic!("it is a block") };
        decode_block::<Arguments>(block, &Scope::default())
            .map(|arguments| arguments.options.settings)
            .map(|settings| (settings.accept, settings.policy.histograms))
            .map_err(|diagnostics| diagnostics.render(&sources))
    };
    let asks = |protocols: &[Protocol]| accept_header(protocols, Escaping::default());
    let (default, all) = (asks(&Protocol::DEFAULT), asks(&Protocol::ALL));
    assert_eq!(decode(""), Ok((default.clone(), Histograms::Classic)));
    let (native, classic) = ("scrape_native_histograms = true", "scrape_classic_histograms = true");
    assert_eq!(decode(native), Ok((all.clone(), Histograms::Native)));
    assert_eq!(decode(&format!("{native}\n{classic}")), Ok((all.clone(), Histograms::Both)));
    assert_eq!(decode(classic), Ok((default, Histograms::Classic)));
    assert_eq!(decode("enable_protobuf_negotiation = true"), Ok((all.clone(), Histograms::Classic)));
    let only_text = "scrape_protocols = [\"PrometheusText0.0.4\"]";
    for (inside, expected) in [
        (format!("{native}\n{only_text}"), "needs \"PrometheusProto\""),
        (format!("enable_protobuf_negotiation = true\n{only_text}"), "only one of them can be set"),
        ("scrape_protocols = [\"Text\"]".to_owned(), "\"Text\" is not supported here"),
    ] {
        assert!(decode(&inside).unwrap_err().contains(expected), "{inside}");
    }
}
