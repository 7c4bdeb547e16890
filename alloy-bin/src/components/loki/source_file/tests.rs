//! The component on real files in paused time: every line exactly once.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::graph::{ConsumeError, Consumer};
use crate::ownership::{Origin, Sharing};
use crate::tailing::Encoding;
use crate::telemetry::Target;

mod arguments;
mod crashes;

/// Longer than anything that is waited for; time is paused, so it costs nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Takes lines, unless it is told to have no room.
#[derive(Default)]
struct Receiver {
    taken: Mutex<Vec<(String, i64, String)>>,
    is_full: AtomicBool,
    refusals: AtomicBool,
    changed: Notify,
    not_durable: AtomicBool,
    /// Batches that were taken: the path, the first line's time, how many lines.
    batches: Mutex<Vec<(String, i64, usize)>>,
    /// The agent dies while so many batches more are taken.
    dies: Mutex<Option<(usize, Death)>>,
    is_dead: AtomicBool,
}

/// The moment in which an agent is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// The batch is announced, and not in the receiver's log.
    BeforeTaken,
    /// The batch is in the receiver's log, and not accepted.
    AfterTaken,
}

#[async_trait]
impl Consumer<LogBatch> for Receiver {
    async fn consume(&self, batch: &LogBatch) -> Result<(), ConsumeError> {
        if self.is_full.load(Relaxed) {
            self.refusals.store(true, Relaxed);
            self.changed.notify_waiters();
            return Err(ConsumeError::Full { by: "test".to_owned(), reason: "told so".to_owned() });
        }
        let death = self.death();
        if death == Some(Death::BeforeTaken) {
            self.die().await;
        }
        for stream in &batch.streams {
            let mut taken = self.taken.lock().unwrap();
            let path = stream.labels.get("filename").unwrap().to_owned();
            let first_ns = stream.entries[0].timestamp_ns;
            self.batches.lock().unwrap().push((path, first_ns, stream.entries.len()));
            for entry in &stream.entries {
                let line = String::from_utf8(entry.line.to_vec()).unwrap();
                taken.push((stream.labels.get("filename").unwrap().to_owned(), entry.timestamp_ns, line));
            }
        }
        if death == Some(Death::AfterTaken) {
            self.die().await;
        }
        self.changed.notify_waiters();
        Ok(())
    }

    async fn durable(&self) {
        if self.not_durable.load(Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

impl Receiver {
    /// Whether the agent dies now.
    fn death(&self) -> Option<Death> {
        let mut dies = self.dies.lock().unwrap();
        match dies.as_mut() {
            Some((0, _)) => dies.take().map(|(_, death)| death),
            Some((batches, _)) => {
                *batches -= 1;
                None
            }
            None => None,
        }
    }

    async fn die(&self) {
        self.is_dead.store(true, Relaxed);
        self.changed.notify_waiters();
        std::future::pending().await
    }

    async fn wait(&self, is_so: impl Fn(&Receiver) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if is_so(self) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain, taken: {:?}", self.lines());
        }
    }

    async fn wait_for(&self, lines: usize) {
        self.wait(|receiver| receiver.taken.lock().unwrap().len() >= lines).await;
    }

    fn lines(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().map(|(_, _, line)| line.clone()).collect()
    }

    fn assert_times_grow(&self) {
        let taken = self.taken.lock().unwrap();
        let paths: BTreeSet<&str> = taken.iter().map(|(path, _, _)| path.as_str()).collect();
        for path in paths {
            let times: Vec<i64> = taken.iter().filter(|entry| entry.0 == path).map(|entry| entry.1).collect();
            assert!(times.is_sorted_by(|a, b| a < b), "{path}: {times:?}");
        }
    }
}

/// A cluster of one, or a hand that gives turns; remembers what was said.
#[derive(Clone, Default)]
struct Table(Arc<Seats>);

#[derive(Default)]
struct Seats {
    turns: Mutex<VecDeque<Turn>>,
    keys: Mutex<BTreeSet<u64>>,
    states: Mutex<BTreeMap<u64, Bytes>>,
    stopped: Mutex<BTreeSet<u64>>,
    changed: Notify,
}

impl Table {
    fn give(&self, turn: Turn) {
        self.0.turns.lock().unwrap().push_back(turn);
        self.0.changed.notify_waiters();
        self.0.changed.notify_one();
    }

    async fn wait_for_stopped(&self, key: u64) {
        let wait = async {
            while !self.0.stopped.lock().unwrap().contains(&key) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it stops");
    }
}

impl Turns for Table {
    fn set_keys(&self, keys: Vec<(u64, String)>) {
        let new: BTreeSet<u64> = keys.into_iter().map(|(key, _)| key).collect();
        let old = std::mem::replace(&mut *self.0.keys.lock().unwrap(), new.clone());
        for key in new.difference(&old) {
            self.give(Turn::Start { key: *key, state: None, origin: Origin::Fresh });
        }
        for key in old.difference(&new) {
            self.give(Turn::Stop { key: *key });
        }
    }

    async fn next(&mut self) -> Turn {
        loop {
            let changed = self.0.changed.notified();
            if let Some(turn) = self.0.turns.lock().unwrap().pop_front() {
                return turn;
            }
            changed.await;
        }
    }

    fn begin(&self, _key: u64, _state: Option<&Bytes>, _from_ns: i64) -> Option<u64> {
        None
    }

    fn stopped_for_good(&self, key: u64, state: Option<Bytes>) {
        self.stopped(key, state);
    }

    fn stopped(&self, key: u64, state: Option<Bytes>) {
        self.0.stopped.lock().unwrap().insert(key);
        if let Some(state) = state {
            self.0.states.lock().unwrap().insert(key, state);
        }
    }

    fn progress(&self, key: u64, position: Position, _sequence: u64) {
        self.0.states.lock().unwrap().insert(key, position.encode());
    }
}

struct World {
    folder: TempDir,
    receiver: Arc<Receiver>,
    base: Base,
    arguments: watch::Sender<Arc<Arguments>>,
}

/// A component at work.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    table: Table,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap();
    }

    /// As `kill -9` does: nothing is finished, nothing is saved.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl World {
    fn new(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Arc::new(Receiver::default());
        let base = base(&folder, "one");
        let arguments = watch::Sender::new(Arc::new(Arguments {
            targets: files.iter().map(|name| target(&folder, name).into()).collect(),
            forward_to: vec![receiver.clone()],
            tail_from_end: false,
            on_positions_file_error: OnPositionsFileError::default(),
            legacy_positions_file: None,
            encoding: Encoding::default(),
            decompression: None,
            file_match: None,
            file_watch: FileWatch::default(),
            sharing: Sharing::Alone,
        }));
        World { folder, receiver, base, arguments }
    }

    fn run(&self) -> Running {
        self.run_as(self.base.clone())
    }

    fn run_as(&self, base: Base) -> Running {
        self.run_with(base, Table::default())
    }

    /// Owns `app.log` from the beginning, with that state.
    fn run_from(&self, base: Base, state: Bytes, origin: Origin) -> Running {
        let (table, key) = (Table::default(), target(&self.folder, "app.log").key());
        table.0.keys.lock().unwrap().insert(key);
        table.give(Turn::Start { key, state: Some(state), origin });
        self.run_with(base, table)
    }

    /// After a power loss, or on another machine.
    fn another_boot(&self) -> Base {
        Base { boot: Boot::new("another"), ..self.base.clone() }
    }

    fn run_with(&self, base: Base, table: Table) -> Running {
        let stop = CancellationToken::new();
        let (token, turns, arguments) = (stop.clone(), table.clone(), self.arguments.subscribe());
        let task = tokio::spawn(async move { drive(base, arguments, turns, &token).await });
        Running { stop, task, table }
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.folder.path().join(from), self.folder.path().join(to)).unwrap();
    }

    fn change(&self, change: impl FnOnce(&mut Arguments)) {
        self.arguments.send_modify(|arguments| change(Arc::make_mut(arguments)));
    }

    fn assert_lines(&self, expected: impl IntoIterator<Item = u32>) {
        let expected: Vec<String> = expected.into_iter().map(|number| number.to_string()).collect();
        assert_eq!(self.receiver.lines(), expected);
        self.receiver.assert_times_grow();
    }
}

fn base(folder: &TempDir, node: &str) -> Base {
    let storage = folder.path().join("storage").join(node);
    let (boot, health, metrics) = (Boot::current(), Health::default(), Arc::default());
    Base { id: "loki.source.file.test".into(), storage, boot, health, metrics }
}

fn target(folder: &TempDir, name: &str) -> Target {
    let path = folder.path().join(name).display().to_string();
    let labels = [("__path__", path.as_str()), ("job", "test"), ("__meta_x", "y")];
    Target(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

#[tokio::test(start_paused = true)]
async fn every_line_comes_once_over_rotations_and_restarts() {
    let world = World::new(&["app.log"]);
    world.append("app.log", "1\n2\n");
    let first = world.run();
    world.receiver.wait_for(2).await;
    world.append("app.log", "3\n");
    world.rename("app.log", "app.log.1");
    world.append("app.log", "4\n");
    world.receiver.wait_for(4).await;
    first.stop().await;

    world.append("app.log", "5\n");
    world.rename("app.log.1", "app.log.2");
    world.rename("app.log", "app.log.1");
    world.append("app.log", "6\n");
    let second = world.run();
    world.receiver.wait_for(6).await;
    second.stop().await;
    world.assert_lines(1..=6);
}

#[tokio::test(start_paused = true)]
async fn the_stream_has_public_labels_and_the_file_name() {
    let world = World::new(&["app.log"]);
    let arguments = world.arguments.borrow().clone();
    let sources = sources(&world.base, &arguments, &mut None).await.expect("nothing is known");
    let source = sources.values().next().unwrap();
    let labels: Vec<_> = source.labels.iter().collect();
    assert_eq!(labels, [("filename", source.path.to_str().unwrap()), ("job", "test")]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_without_room_stops_reading_and_loses_nothing() {
    let world = World::new(&["app.log"]);
    world.receiver.is_full.store(true, Relaxed);
    let lines: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    world.append("app.log", &lines);
    let running = world.run();
    world.receiver.wait(|receiver| receiver.refusals.load(Relaxed)).await;
    assert_eq!(world.base.metrics.files()[0].1.read_lines.load(Relaxed), 0);
    assert_eq!(world.base.metrics.files_waiting.load(Relaxed), 1);
    world.receiver.is_full.store(false, Relaxed);
    world.receiver.wait_for(200_000).await;
    running.stop().await;
    assert_eq!(world.base.metrics.files_waiting.load(Relaxed), 0);
    world.assert_lines(0..200_000);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_receiver_refuses_keeps_the_batch_for_the_next_start() {
    let world = World::new(&["app.log"]);
    world.append("app.log", "1\n");
    let first = world.run();
    world.receiver.wait_for(1).await;
    world.receiver.is_full.store(true, Relaxed);
    world.append("app.log", "2\n");
    world.receiver.wait(|receiver| receiver.refusals.load(Relaxed)).await;
    first.stop().await;
    world.receiver.is_full.store(false, Relaxed);
    let second = world.run();
    world.receiver.wait_for(2).await;
    second.stop().await;
    world.assert_lines(1..=2);
}

#[tokio::test(start_paused = true)]
async fn files_move_between_nodes_without_a_gap_or_a_repeat() {
    let world = World::new(&["app.log"]);
    world.append("app.log", "1\n");
    let old = world.run();
    world.receiver.wait_for(1).await;
    let key = target(&world.folder, "app.log").key();
    old.table.give(Turn::Stop { key });
    old.table.wait_for_stopped(key).await;
    world.append("app.log", "2\n");
    let state = old.table.0.states.lock().unwrap()[&key].clone();
    old.stop().await;

    let new = world.run_from(base(&world.folder, "two"), state, Origin::Handed);
    world.receiver.wait_for(2).await;
    new.stop().await;
    world.assert_lines(1..=2);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_goes_is_read_to_its_end() {
    let world = World::new(&["app.log"]);
    world.append("app.log", "1\n");
    let running = world.run();
    world.receiver.wait_for(1).await;
    world.append("app.log", "2\n3");
    fs::remove_file(world.folder.path().join("app.log")).unwrap();
    world.change(|arguments| arguments.targets.clear());
    running.table.wait_for_stopped(target(&world.folder, "app.log").key()).await;
    running.stop().await;
    world.assert_lines(1..=3);
    assert_eq!(world.base.metrics.files_active.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn new_labels_do_not_read_a_file_again() {
    let world = World::new(&["app.log"]);
    world.append("app.log", "1\n");
    let first = world.run();
    world.receiver.wait_for(1).await;
    first.stop().await;
    world.change(|arguments| {
        let mut target = arguments.targets[0].target();
        target.0.insert("job".to_owned(), "another".to_owned());
        arguments.targets[0] = target.into();
    });
    world.append("app.log", "2\n");
    let second = world.run();
    world.receiver.wait_for(2).await;
    second.stop().await;
    world.assert_lines(1..=2);
}

#[tokio::test(start_paused = true)]
async fn bad_files_hurt_nobody_else() {
    let world = World::new(&["folder", "missing.log", "app.log"]);
    fs::create_dir(world.folder.path().join("folder")).unwrap();
    world.append("app.log", "1\n");
    let running = world.run();
    world.receiver.wait_for(1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.base.metrics.read_errors.load(Relaxed) >= 2);
    world.append("missing.log", "2\n");
    world.receiver.wait_for(2).await;
    running.stop().await;
    assert_eq!(world.receiver.lines(), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn lost_bookmarks_begin_where_the_user_says() {
    use OnPositionsFileError::*;
    for (policy, expected) in [(RestartFromBeginning, &["1", "2"][..]), (RestartFromEnd, &["2"]), (Skip, &[])]
    {
        let world = World::new(&["app.log"]);
        world.change(|arguments| arguments.on_positions_file_error = policy);
        fs::create_dir_all(&world.base.storage).unwrap();
        fs::write(world.base.storage.join("bookmarks.json"), "{\"version\": 1, broken").unwrap();
        world.append("app.log", "1\n");
        let running = world.run();
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.append("app.log", "2\n");
        tokio::time::sleep(Duration::from_secs(5)).await;
        running.stop().await;
        assert_eq!(world.receiver.lines(), expected, "{policy:?}");
        assert_eq!(world.base.metrics.bookmark_errors.load(Relaxed), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn other_receivers_get_what_the_old_ones_refused() {
    let world = World::new(&["app.log"]);
    world.receiver.is_full.store(true, Relaxed);
    world.append("app.log", "1\n");
    let running = world.run();
    world.receiver.wait(|receiver| receiver.refusals.load(Relaxed)).await;
    let other = Arc::new(Receiver::default());
    let receiver: LogsReceiver = other.clone();
    world.change(|arguments| arguments.forward_to = vec![receiver]);
    other.wait_for(1).await;
    running.stop().await;
    assert_eq!(other.lines(), ["1"]);
    assert_eq!(world.receiver.lines(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_files_share_few_readers() {
    let names: Vec<String> = (0..1000).map(|number| format!("{number}.log")).collect();
    let world = World::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for name in &names {
        world.append(name, "a\nb\n");
    }
    let running = world.run();
    world.receiver.wait_for(2000).await;
    running.stop().await;
    assert_eq!(world.receiver.taken.lock().unwrap().len(), 2000);
}
