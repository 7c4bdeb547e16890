//! Everything around the agents: targets, growing log files, the receiver, and what both ends know afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use alloy_bin::testing::logs::LogWriter;
use alloy_bin::testing::{Receiver, Recorded, Targets};
use anyhow::Context;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::cluster::Owners;
use crate::report::{FileEvidence, TargetEvidence};

const TARGETS: usize = 60;
const GAUGES: usize = 20;
const FILES: usize = 12;
/// Each file grows by one line per tick: ten lines a second.
const TICK: Duration = Duration::from_millis(100);

/// What the agents collect from and deliver to.
pub(crate) struct World {
    pub receiver: Receiver,
    targets: Targets,
    files: Vec<PathBuf>,
    writer: Writer,
}

/// The thread that lets the log files grow.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<Vec<u64>>>>,
}

impl World {
    /// Starts receiver, targets and log files; the files lie in `logs`.
    pub(crate) fn start(runtime: &Runtime, logs: &Path) -> anyhow::Result<Self> {
        let receiver = runtime.block_on(Receiver::start()).context("cannot start the receiver")?;
        let targets =
            runtime.block_on(Targets::start(TARGETS, GAUGES)).context("cannot start the targets")?;
        std::fs::create_dir_all(logs)?;
        let files: Vec<PathBuf> = (0..FILES).map(|index| logs.join(format!("app-{index:02}.log"))).collect();
        let writer = Writer::start(&files)?;
        Ok(World { receiver, targets, files, writer })
    }

    /// The targets in the form that `discovery.file` reads.
    pub(crate) fn discovery_file(&self) -> String {
        let groups = (0..TARGETS).map(|index| {
            let mut labels = self.targets.target(index).0;
            let address = labels.remove("__address__");
            json!({ "targets": [address], "labels": labels })
        });
        serde_json::Value::from_iter(groups).to_string()
    }

    /// The owner of each target and of each file, in their own order.
    pub(crate) fn arrange(&self, owners: &Owners) -> (Vec<Option<String>>, Vec<Option<String>>) {
        let targets =
            (0..TARGETS).map(|index| owners.targets.get(&self.targets.target(index).key()).cloned());
        let files = self.files.iter().map(|path| owners.files.get(&*path.to_string_lossy()).cloned());
        (targets.collect(), files.collect())
    }

    /// Lets the log files grow no more and says how many lines each has.
    pub(crate) fn stop_writing(&mut self) -> anyhow::Result<Vec<u64>> {
        self.writer.stop()
    }

    /// What is known of each target; `owners` is who owned it at the kill.
    pub(crate) fn target_evidence(&self, owners: &[Option<String>], killed: &str) -> Vec<TargetEvidence> {
        let one = |index: usize, owner: &Option<String>| {
            let instance = format!("target-{index}");
            let samples = |metric: &str| {
                self.receiver.inspect(|recorded: &Recorded| {
                    let labels = [("__name__", metric), ("instance", instance.as_str())];
                    let series = recorded.series_with(&labels);
                    let arrivals = series.flat_map(|(_, record)| record.arrivals.iter());
                    // Staleness markers are NaN and no samples of a slot.
                    let values = arrivals.filter(|arrival| !arrival.value().is_nan());
                    values.map(|arrival| (arrival.timestamp_ms, arrival.value())).collect::<Vec<_>>()
                })
            };
            TargetEvidence {
                name: format!("{index:02}"),
                was_killed_ones: owner.as_deref() == Some(killed),
                answered: self.targets.scrapes(index).iter().map(|scrape| scrape.arrived_unix_ms).collect(),
                ups: samples("up").into_iter().map(|(at, _)| at).collect(),
                arrived: samples("test_scrapes_total")
                    .into_iter()
                    .map(|(at, number)| (number as u64, at))
                    .collect(),
            }
        };
        owners.iter().enumerate().map(|(index, owner)| one(index, owner)).collect()
    }

    /// How many lines came with two times. One that comes again with the same time is one line to Loki.
    pub(crate) fn lines_doubled(&self) -> u64 {
        let counts = self.receiver.counts();
        counts.doubled_lines - counts.repeated_lines
    }

    /// What is known of each file, of which so many lines were written.
    pub(crate) fn file_evidence(&self, written: &[u64]) -> Vec<FileEvidence> {
        let mut received: BTreeMap<String, BTreeMap<u64, BTreeSet<i64>>> = BTreeMap::new();
        self.receiver.inspect(|recorded| {
            for line in recorded.streams.values().flat_map(|stream| &stream.arrivals) {
                if let Some((file, number)) = parse(&line.line) {
                    let times = received.entry(file.to_owned()).or_default().entry(number).or_default();
                    times.insert(line.timestamp_ns);
                }
            }
        });
        let one = |(path, written): (&PathBuf, &u64)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let lines = received.remove(&name).unwrap_or_default().into_iter();
            let received = lines.map(|(number, times)| (number, times.len() as u64)).collect();
            FileEvidence { written: *written, received, name }
        };
        self.files.iter().zip(written).map(one).collect()
    }
}

/// `file=app-03.log seq=17`
fn parse(line: &str) -> Option<(&str, u64)> {
    let (file, number) = line.strip_prefix("file=")?.split_once(" seq=")?;
    Some((file, number.parse().ok()?))
}

impl Writer {
    fn start(files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut logs: Vec<LogWriter> = files.iter().map(LogWriter::create).collect::<Result<_, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                for log in &mut logs {
                    log.write_lines(1).context("cannot write a log file")?;
                }
                std::thread::sleep(TICK);
            }
            Ok(logs.iter().map(LogWriter::written).collect())
        };
        Ok(Writer { stop, thread: Some(std::thread::spawn(work)) })
    }

    fn stop(&mut self) -> anyhow::Result<Vec<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the log files have stopped growing already")?;
        thread.join().map_err(|_| anyhow::anyhow!("the thread that writes log files panicked"))?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After `stop` there is no thread left and this is no news.
        let _ = self.stop();
    }
}
