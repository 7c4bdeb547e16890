//! The component on real files of the journal, which `systemd-journal-remote` writes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::sync::Notify;

use super::*;
use crate::graph::{ConsumeError, Consumer};

const WRITER: &str = "/lib/systemd/systemd-journal-remote";
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes lines after it has refused each batch once.
#[derive(Default)]
struct Receiver {
    taken: Mutex<Vec<(i64, String, String)>>,
    has_refused: Mutex<bool>,
    changed: Notify,
}

#[async_trait]
impl Consumer<LogBatch> for Receiver {
    async fn consume(&self, batch: &LogBatch) -> Result<(), ConsumeError> {
        let has_refused = std::mem::replace(&mut *self.has_refused.lock().unwrap(), true);
        if !has_refused {
            return Err(ConsumeError::Full { by: "test".to_owned(), reason: "told so".to_owned() });
        }
        *self.has_refused.lock().unwrap() = false;
        for stream in &batch.streams {
            let unit = stream.labels.get("unit").unwrap_or_default().to_owned();
            for entry in &stream.entries {
                let line = String::from_utf8(entry.line.to_vec()).unwrap();
                self.taken.lock().unwrap().push((entry.timestamp_ns, unit.clone(), line));
            }
        }
        self.changed.notify_one();
        Ok(())
    }
}

impl Receiver {
    async fn wait_for(&self, count: usize) {
        let wait = async {
            while self.taken.lock().unwrap().len() < count {
                self.changed.notified().await;
            }
        };
        let is_done = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(is_done, "waited in vain: {:?}", self.taken.lock().unwrap());
    }

    fn lines(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().map(|(_, _, line)| line.clone()).collect()
    }
}

struct World {
    folder: TempDir,
    receiver: Arc<Receiver>,
    written: u64,
    begun_us: u64,
}

impl World {
    /// `None`, and said: the program that writes such files is not here.
    fn new() -> Option<Self> {
        let has_reader = Command::new("journalctl").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !has_reader || !Path::new(WRITER).exists() {
            eprintln!("did not run: journalctl or systemd-journal-remote is missing");
            return None;
        }
        let begun_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64 - 60_000_000;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("journal")).unwrap();
        Some(World { folder, receiver: Arc::default(), written: 0, begun_us })
    }

    /// Writes entries of that unit, numbered on.
    fn write(&mut self, unit: &str, count: u64) {
        let file = self.folder.path().join("journal/test.journal");
        let mut text = String::new();
        for number in self.written..self.written + count {
            let time = self.begun_us + number * 1000;
            text += &format!(
                "__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={}\n\
                 _BOOT_ID=0123456789abcdef0123456789abcdef\n_SYSTEMD_UNIT={unit}\nPRIORITY=3\nMESSAGE=line {number}\n\n",
                number * 1000 + 1
            );
        }
        self.written += count;
        let mut writer = Command::new(WRITER)
            .args(["--output".into(), file.into_os_string(), "-".into()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
    }

    fn component(&self, more: &str) -> SourceJournal {
        let arguments =
            decode(&format!("path = {:?}\n{more}", self.folder.path().join("journal")), &self.receiver);
        let base = Base {
            id: "loki.source.journal.test".into(),
            storage: self.folder.path().join("storage"),
            health: Health::default(),
            metrics: Arc::default(),
        };
        SourceJournal { base, arguments: watch::Sender::new(Arc::new(arguments.unwrap())) }
    }

    /// Runs the component until so many lines are there.
    async fn run(&self, more: &str, count: usize) {
        let (component, stop) = (self.component(more), CancellationToken::new());
        let run = component.run(stop.clone());
        let ask = async {
            self.receiver.wait_for(count).await;
            stop.cancel();
        };
        tokio::join!(run, ask);
    }
}

fn decode(body: &str, receiver: &Arc<Receiver>) -> Result<Arguments, String> {
    use crate::config::{Capsule, Scope, decode_block};
    use crate::syntax::{Sources, ast::Statement, parse};
    let mut sources = Sources::default();
    let text = format!("loki.source.journal \"x\" {{\nforward_to = [sink]\n{body}\n}}\n");
    let id = sources.add("test.alloy", text);
    let (file, _) = parse(&sources, id);
    let Statement::Block(block) = &file.statements[0] else { panic!("a block") };
    let mut scope = Scope::default();
    let receiver: LogsReceiver = receiver.clone();
    scope.set("sink", receiver.into());
    scope.set("no_rules", Capsule::new(Arc::new(Rules::default())).into());
    decode_block(block, &scope).map_err(|errors| errors.render(&sources))
}

#[tokio::test]
async fn every_entry_is_delivered_once_over_restarts() {
    let Some(mut world) = World::new() else { return };
    world.write("a.service", 2500);
    world.run("", 2500).await;
    world.write("b.service", 10);
    world.run("", 2510).await;
    let expected: Vec<String> = (0..2510).map(|number| format!("line {number}")).collect();
    assert!(world.receiver.lines() == expected, "{:?}", world.receiver.lines());
    let first_ns = world.receiver.taken.lock().unwrap()[0].0;
    assert_eq!(first_ns, world.begun_us as i64 * 1000, "the entry's own time");
}

#[tokio::test]
async fn a_crash_repeats_what_was_not_saved_with_the_same_times() {
    let Some(mut world) = World::new() else { return };
    world.write("a.service", 500);
    {
        let (component, stop) = (world.component(""), CancellationToken::new());
        tokio::select! {
            () = component.run(stop) => panic!("nobody stops it"),
            () = world.receiver.wait_for(200) => {}
        }
    }
    let before = world.receiver.taken.lock().unwrap().len();
    world.run("", before + 500).await;
    let taken = world.receiver.taken.lock().unwrap();
    let distinct: std::collections::BTreeSet<_> = taken.iter().collect();
    assert_eq!(distinct.len(), 500, "what came twice was the same");
}

#[tokio::test]
async fn entries_are_selected_by_matches() {
    let Some(mut world) = World::new() else { return };
    world.write("a.service", 5);
    world.write("b.service", 5);
    world.run("matches = \"_SYSTEMD_UNIT=b.service PRIORITY=3\"", 5).await;
    assert_eq!(world.receiver.lines(), ["line 5", "line 6", "line 7", "line 8", "line 9"]);
}

#[test]
fn an_entry_becomes_a_line_with_labels() {
    let entry = Entry(
        [
            ("__REALTIME_TIMESTAMP", "7"),
            ("_SYSTEMD_UNIT", "a.service"),
            ("PRIORITY", "4"),
            ("MESSAGE", "hello"),
        ]
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .into(),
    );
    let receiver = Arc::default();
    let arguments = decode("labels = {color = \"red\"}\nrelabel_rules = no_rules", &receiver).unwrap();
    let made = lines::batch(&arguments.shape, "id", std::slice::from_ref(&entry));
    assert_eq!(made.streams[0].labels, crate::telemetry::Labels::new([("color", "red"), ("job", "id")]));
    assert_eq!(
        (made.streams[0].entries[0].timestamp_ns, &made.streams[0].entries[0].line[..]),
        (7000, &b"hello"[..])
    );
    let arguments = decode("format_as_json = true\nlabels = {job = \"own\"}", &receiver).unwrap();
    let made = lines::batch(&arguments.shape, "id", &[entry]);
    assert_eq!(made.streams[0].labels.get("job"), Some("own"));
    let expected =
        r#"{"MESSAGE":"hello","PRIORITY":"4","_SYSTEMD_UNIT":"a.service","__REALTIME_TIMESTAMP":"7"}"#;
    assert_eq!(made.streams[0].entries[0].line, expected);
}

#[test]
fn wrong_arguments_are_told() {
    let check = |body: &str, expected: &str| {
        let Err(errors) = decode(body, &Arc::default()) else { panic!("{body} is accepted") };
        assert!(errors.contains(expected), "{errors}");
    };
    check("matches = \"--file=/etc/shadow\"", "is no FIELD=value");
    check("matches = \"A=1 + B=2\"", "is no FIELD=value");
    check("max_age = \"x\"", "max_age");
    check("legacy_position { }", "missing required attribute \"file\"");
}
