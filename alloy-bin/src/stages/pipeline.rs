//! Stages in their order, and a batch's way through them.
//!
//! Stages inside of `match` stand in one list with all others; a line that is not selected jumps over them.

use std::collections::HashMap;
use std::time::Duration;

use bytes::BytesMut;

use super::join::{Blocks, LINE_END};
use super::label_sets::LabelSets;
use super::limit::{Taken, Verdict};
use super::line::{Extracted, Line, Value};
use super::timestamp::Clocks;
use super::{
    Cri, Drop, Json, LabelSource, Limit, Logfmt, Mapping, Multiline, OnFailure, Regex, Replace, Selector,
    TimeFormat, Timestamp, cri, docker,
};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream};

/// A stage as it is configured.
pub enum Stage {
    /// `stage.cri`
    Cri(Cri),
    /// `stage.docker`
    Docker,
    /// `stage.drop`, and its reason.
    Drop(Drop, String),
    /// `stage.json`
    Json(Json),
    /// `stage.label_drop`
    LabelDrop(Vec<String>),
    /// `stage.label_keep`
    LabelKeep(Vec<String>),
    /// `stage.labels`
    Labels(Mapping, LabelSource),
    /// `stage.limit`
    Limit(Limit),
    /// `stage.logfmt`
    Logfmt(Logfmt),
    /// `stage.match`
    Match(Match),
    /// `stage.multiline`
    Multiline(Multiline),
    /// `stage.output`: the name of the value that becomes the line.
    Output(String),
    /// `stage.regex`
    Regex(Regex),
    /// `stage.replace`
    Replace(Replace),
    /// `stage.static_labels`
    StaticLabels(Vec<(String, String)>),
    /// `stage.structured_metadata`
    StructuredMetadata(Mapping),
    /// `stage.tenant`: the label that holds it, the extracted value, or itself.
    Tenant(Tenant),
    /// `stage.timestamp`
    Timestamp(Timestamp),
}

/// Where `stage.tenant` finds the tenant.
#[derive(Debug, Clone, PartialEq)]
pub enum Tenant {
    /// In a label.
    Label(String),
    /// Among the extracted values.
    Source(String),
    /// It is this one.
    Value(String),
}

/// `stage.match`
pub enum Match {
    /// Selected lines go through these stages, too.
    Keep(Selector, Vec<Stage>),
    /// Selected lines go no further, for that reason.
    Drop(Selector, String),
}

/// The label that says whose a stream is; `loki.write` makes a header of it.
pub(super) const TENANT: &str = "__tenant_id__";

/// Why `stage.limit` drops, in Promtail's words.
const LIMITED: &str = "ratelimit_drop_stage";
/// Why `stage.json` drops what is not JSON.
const MALFORMED: &str = "malformed_json";

/// Runtimes write the parts of one line at once; only a program that pauses in the middle of one has them come apart.
const CRI_WAIT: Duration = Duration::from_secs(3);

/// One stage in the list.
enum Step {
    Do(Stage),
    /// Docker's own shape, done at once: what follows is jumped over.
    DockerAtOnce { jump: usize },
    /// Lines that are not selected jump.
    Select { selector: Selector, jump: usize },
}

/// Compiled stages.
pub struct Pipeline {
    steps: Vec<Step>,
    /// What stages take out of a line's head is needed further down only behind these steps.
    reads: Vec<bool>,
    /// Behind the last step that joins lines; 0: none does.
    joins: usize,
}

/// What has become of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is handed on.
    pub batch: LogBatch,
    /// Of each entry handed on, over all streams: the first entry that it is made of.
    pub from: Vec<usize>,
    /// Lines that go no further, by reason.
    pub dropped: Vec<(String, u64)>,
    /// How long `limit` has lines wait.
    pub wait: Duration,
    taken: Vec<(usize, Taken)>,
}

impl Pipeline {
    /// Compiles the stages.
    pub fn new(stages: Vec<Stage>) -> Self {
        let mut steps = Vec::new();
        push_all(&mut steps, stages);
        let mut reads: Vec<bool> = vec![false; steps.len()];
        let mut is_read = false;
        for (at, step) in steps.iter().enumerate().rev() {
            reads[at] = is_read;
            is_read |= reads_extracted(step);
        }
        let is_join = |step: &Step| matches!(step, Step::Do(Stage::Cri(_) | Stage::Multiline(_)));
        let joins = steps.iter().rposition(is_join).map_or(0, |last| last + 1);
        Pipeline { steps, reads, joins }
    }

    /// Whether lines may be joined.
    pub fn joins(&self) -> bool {
        self.joins > 0
    }

    /// What becomes of the batch.
    pub fn process(&self, batch: &LogBatch) -> Outcome {
        let mut run = Run::new(self, batch, self.steps.len());
        run.all(batch);
        run.outcome()
    }

    /// The entry with which the first line begins that may go on behind the batch, counted over all streams, and how long it
    /// is worth waiting for that.
    pub fn unfinished(&self, batch: &LogBatch) -> Option<(usize, Duration)> {
        if !self.joins() {
            return None;
        }
        let mut run = Run::new(self, batch, self.joins);
        run.is_look = true;
        run.all(batch);
        run.open
    }

    /// The batch was not taken: its share of the limits is free again.
    pub fn give_back(&self, outcome: &Outcome) {
        for (at, taken) in &outcome.taken {
            if let Step::Do(Stage::Limit(limit)) = &self.steps[*at] {
                limit.give_back(taken);
            }
        }
    }

    /// Lines that `limit` has dropped by the value of a label: label, value, lines.
    pub fn limited(&self) -> impl Iterator<Item = (&str, String, u64)> {
        let limits = self.steps.iter().filter_map(|step| match step {
            Step::Do(Stage::Limit(limit)) => Some(limit),
            _ => None,
        });
        limits.filter_map(|limit| Some((limit.by_label()?, limit))).flat_map(|(label, limit)| {
            limit.dropped().into_iter().map(move |(value, lines)| (label, value, lines))
        })
    }
}

fn push_all(steps: &mut Vec<Step>, stages: Vec<Stage>) {
    for stage in stages {
        match stage {
            Stage::Docker => {
                steps.push(Step::DockerAtOnce { jump: steps.len() + 1 + DOCKER_STAGES });
                steps.extend(docker_stages().map(Step::Do));
            }
            Stage::Match(Match::Keep(selector, inner)) => {
                let at = steps.len();
                steps.push(Step::Select { selector: selector.clone(), jump: 0 });
                push_all(steps, inner);
                steps[at] = Step::Select { selector, jump: steps.len() };
            }
            other => steps.push(Step::Do(other)),
        }
    }
}

/// How many stages `stage.docker` stands for, and which of them sets the time.
const DOCKER_STAGES: usize = 4;
const DOCKER_TIMESTAMP: usize = 3;

/// What `stage.docker` stands for.
fn docker_stages() -> [Stage; DOCKER_STAGES] {
    let expressions = [("output", "log"), ("stream", "stream"), ("timestamp", "time")];
    let expressions = expressions.map(|(name, field)| (name.to_owned(), field.to_owned()));
    let json = Json::new(expressions.into(), None, false).expect("the expressions are constant");
    let stream = Mapping::new([("stream".to_owned(), None)].into()).expect("the label is constant");
    let timestamp = Timestamp {
        source: "timestamp".to_owned(),
        formats: vec![TimeFormat::rfc3339()],
        on_failure: OnFailure::Fudge,
    };
    [
        Stage::Json(json),
        Stage::Labels(stream, LabelSource::Extracted),
        Stage::Timestamp(timestamp),
        Stage::Output("output".to_owned()),
    ]
}

fn reads_extracted(step: &Step) -> bool {
    match step {
        Step::Do(stage) => match stage {
            Stage::Drop(drop, _) => drop.reads_extracted(),
            Stage::Replace(replace) => replace.reads_extracted(),
            Stage::Cri(_)
            | Stage::Docker
            | Stage::LabelDrop(_)
            | Stage::LabelKeep(_)
            | Stage::Limit(_)
            | Stage::Match(_)
            | Stage::Multiline(_)
            | Stage::StaticLabels(_) => false,
            Stage::Tenant(tenant) => matches!(tenant, Tenant::Source(_)),
            _ => true,
        },
        Step::DockerAtOnce { .. } | Step::Select { .. } => false,
    }
}

/// What a step remembers of the batch.
enum Memory<'p> {
    Nothing,
    Blocks(Blocks<'p>),
    Clocks(Clocks<'p>),
    /// Partial lines, and times that are missing.
    Cri(Blocks<'p>, Clocks<'p>),
}

/// One batch's way.
struct Run<'p> {
    pipeline: &'p Pipeline,
    /// Steps from here on are left out.
    end: usize,
    now_ns: i64,
    /// Nothing is taken or counted.
    is_look: bool,
    /// The unfinished line that begins first, and how long to wait for it.
    open: Option<(usize, Duration)>,
    sets: LabelSets,
    room: BytesMut,
    memory: Vec<Memory<'p>>,
    lane: u64,
    streams: Vec<(LogStream, Vec<usize>)>,
    places: HashMap<usize, usize>,
    dropped: Vec<(String, u64)>,
    wait: Duration,
    taken: Vec<(usize, Taken)>,
}

impl<'p> Run<'p> {
    fn new(pipeline: &'p Pipeline, batch: &LogBatch, end: usize) -> Self {
        let memory = pipeline.steps.iter().map(|step| match step {
            Step::Do(Stage::Multiline(_)) => Memory::Blocks(Blocks::default()),
            Step::Do(Stage::Timestamp(_)) => Memory::Clocks(Clocks::default()),
            Step::Do(Stage::Cri(_)) => Memory::Cri(Blocks::default(), Clocks::default()),
            _ => Memory::Nothing,
        });
        Run {
            pipeline,
            end,
            now_ns: batch.taken_ns,
            is_look: false,
            open: None,
            sets: LabelSets::default(),
            room: BytesMut::new(),
            memory: memory.collect(),
            lane: batch.lane,
            streams: Vec::new(),
            places: HashMap::new(),
            dropped: Vec::new(),
            wait: Duration::ZERO,
            taken: Vec::new(),
        }
    }

    fn all(&mut self, batch: &LogBatch) {
        let mut from = 0;
        for stream in &batch.streams {
            let labels = self.sets.known(&stream.labels);
            for entry in &stream.entries {
                let line = Line {
                    timestamp_ns: entry.timestamp_ns,
                    text: entry.line.clone(),
                    labels: labels.clone(),
                    metadata: entry.metadata.clone(),
                    extracted: Extracted::new(labels.clone()),
                    from,
                };
                self.go(line, 0);
                from += 1;
            }
        }
        for at in 0..self.end {
            self.finish(at);
        }
    }

    /// The batch is at its end: what a step has kept goes on.
    fn finish(&mut self, at: usize) {
        let (lines, wait) = match (&mut self.memory[at], &self.pipeline.steps[at]) {
            (Memory::Clocks(clocks), _) => (clocks.rest(), None),
            (Memory::Blocks(blocks), Step::Do(Stage::Multiline(stage))) => {
                let open = blocks.earliest().map(|from| (from, stage.max_wait));
                (blocks.finish(LINE_END), open)
            }
            (Memory::Cri(blocks, clocks), Step::Do(Stage::Cri(stage))) => {
                let stamped: Vec<_> = clocks.rest();
                let mut lines = Vec::new();
                for line in stamped {
                    // What has no time has no head either, and is complete.
                    lines.extend(blocks.push_cri(stage, line, false));
                }
                let open = blocks.earliest().map(|from| (from, CRI_WAIT));
                lines.extend(blocks.finish(""));
                (lines, open)
            }
            _ => return,
        };
        if let Some((from, wait)) = wait {
            self.open = match self.open {
                Some((first, longest)) => Some((first.min(from), longest.max(wait))),
                None => Some((from, wait)),
            };
        }
        for line in lines {
            self.go(line, at + 1);
        }
    }

    /// The line's way from that step on.
    fn go(&mut self, mut line: Line<'p>, mut at: usize) {
        let pipeline = self.pipeline;
        while at < self.end {
            match &pipeline.steps[at] {
                Step::Select { selector, jump } => {
                    if selector.matches(&line.labels, &line.text) {
                        line.extracted.see(&line.labels);
                    } else {
                        at = *jump;
                        continue;
                    }
                }
                Step::DockerAtOnce { jump } => {
                    if self.docker(&mut line, at) {
                        at = *jump;
                        continue;
                    }
                }
                Step::Do(stage) => match self.step(stage, line, at) {
                    Some(same) => line = same,
                    None => return,
                },
            }
            at += 1;
        }
        self.hand_on(line);
    }

    /// One stage. `None`: the line goes no further, or later.
    fn step(&mut self, stage: &'p Stage, mut line: Line<'p>, at: usize) -> Option<Line<'p>> {
        match stage {
            Stage::Cri(stage) => return self.cri(stage, line, at),
            Stage::Multiline(stage) => {
                let Memory::Blocks(blocks) = &mut self.memory[at] else { return Some(line) };
                for line in blocks.push_multiline(stage, line).into_iter().flatten() {
                    self.go(line, at + 1);
                }
                return None;
            }
            Stage::Timestamp(stage) => {
                let found = stage.find(&line);
                let Memory::Clocks(clocks) = &mut self.memory[at] else { return Some(line) };
                let (earlier, line) = clocks.set(line, found, stage.on_failure);
                for line in earlier {
                    self.go(line, at + 1);
                }
                return line;
            }
            Stage::Drop(stage, reason) if stage.drops(&line, self.now_ns) => return self.drop(reason),
            Stage::Match(Match::Drop(selector, reason)) if selector.matches(&line.labels, &line.text) => {
                return self.drop(reason);
            }
            Stage::Json(stage) if stage.apply(&mut line).is_err() => return self.drop(MALFORMED),
            Stage::Limit(stage) if !self.is_within(stage, &line, at) => return self.drop(LIMITED),
            Stage::Docker | Stage::Drop(..) | Stage::Json(_) | Stage::Limit(_) | Stage::Match(_) => {}
            Stage::LabelDrop(names) => {
                let is_kept = |name: &str| !names.iter().any(|other| other == name);
                line.labels = self.sets.retain(&line.labels, is_kept);
            }
            Stage::LabelKeep(names) => {
                let is_kept = |name: &str| names.iter().any(|other| other == name);
                line.labels = self.sets.retain(&line.labels, is_kept);
            }
            Stage::Labels(mapping, source) => mapping.set_labels(&mut line, *source, &mut self.sets),
            Stage::Logfmt(stage) => stage.apply(&mut line),
            Stage::Output(source) => {
                if let Some(text) = line.extracted.get(source).and_then(|found| found.bytes()) {
                    line.text = text;
                }
            }
            Stage::Regex(stage) => stage.apply(&mut line, &mut self.sets),
            Stage::Replace(stage) => stage.apply(&mut line),
            Stage::StaticLabels(labels) => {
                for (name, value) in labels {
                    line.labels = self.sets.with(&line.labels, name, value);
                }
            }
            Stage::StructuredMetadata(mapping) => mapping.set_metadata(&mut line, &mut self.sets),
            Stage::Tenant(tenant) => {
                let found = match tenant {
                    Tenant::Label(name) => line.labels.get(name).map(Into::into),
                    Tenant::Source(name) => line.extracted.text(name),
                    Tenant::Value(value) => Some(value.into()),
                };
                if let Some(found) = found.filter(|found| !found.is_empty()) {
                    line.labels = self.sets.with(&line.labels, TENANT, &found);
                }
            }
        }
        Some(line)
    }

    fn cri(&mut self, stage: &'p Cri, mut line: Line<'p>, at: usize) -> Option<Line<'p>> {
        let mut is_partial = false;
        let mut time = None;
        if let Some(parts) = cri::parse(&line.text) {
            is_partial = &parts.flags[..] == b"P";
            time = TimeFormat::rfc3339().parse(&super::line::text(&parts.time), 0);
            line.labels = self.sets.with(&line.labels, "stream", parts.stream.name());
            line.text = parts.content.clone();
            if self.pipeline.reads[at] {
                let stream = bytes::Bytes::from_static(parts.stream.name().as_bytes());
                let all = [("time", parts.time), ("stream", stream), ("flags", parts.flags)];
                for (name, value) in all.into_iter().chain([("content", parts.content)]) {
                    line.extracted.set(name, Value::Text(value));
                }
            }
        }
        let Memory::Cri(blocks, clocks) = &mut self.memory[at] else { return Some(line) };
        let (earlier, now) = clocks.set(line, time, OnFailure::Fudge);
        if earlier.is_empty() && !is_partial && blocks.is_empty() {
            return now;
        }
        let mut ready = Vec::new();
        for line in earlier {
            ready.extend(blocks.push_cri(stage, line, false));
        }
        if let Some(line) = now {
            ready.extend(blocks.push_cri(stage, line, is_partial));
        }
        for line in ready {
            self.go(line, at + 1);
        }
        None
    }

    /// Whether the line was of Docker's own shape.
    fn docker(&mut self, line: &mut Line<'p>, at: usize) -> bool {
        let Some(parts) = docker::parse(&line.text, &mut self.room) else { return false };
        let Some(time) = TimeFormat::rfc3339().parse(&super::line::text(&parts.time), 0) else { return false };
        let stream = super::line::text(&parts.stream).into_owned();
        line.labels = self.sets.with(&line.labels, "stream", &stream);
        line.timestamp_ns = time;
        line.text = parts.log.clone();
        if let Memory::Clocks(clocks) = &mut self.memory[at + DOCKER_TIMESTAMP] {
            for earlier in clocks.note(line) {
                self.go(earlier, at + DOCKER_TIMESTAMP + 1);
            }
        }
        if self.pipeline.reads[at + DOCKER_STAGES] {
            let all = [("output", parts.log), ("stream", parts.stream), ("timestamp", parts.time)];
            all.into_iter().for_each(|(name, value)| line.extracted.set(name, Value::Text(value)));
        }
        true
    }

    fn is_within(&mut self, limit: &Limit, line: &Line<'_>, at: usize) -> bool {
        let value = match limit.by_label() {
            Some(name) => line.labels.get(name),
            None => Some(""),
        };
        let Some(value) = value.filter(|_| !self.is_look) else { return true };
        match limit.take(value, self.now_ns) {
            Verdict::Drops => return false,
            Verdict::Waits(wait) => self.wait = self.wait.max(wait),
            Verdict::Passes => {}
        }
        let mine = self.taken.iter_mut().find(|(other, taken)| *other == at && taken.value == value);
        match mine {
            Some((_, taken)) => taken.lines += 1,
            None => self.taken.push((at, Taken { value: value.to_owned(), lines: 1 })),
        }
        true
    }

    fn drop(&mut self, reason: &str) -> Option<Line<'p>> {
        match self.dropped.iter_mut().find(|(other, _)| other == reason) {
            Some((_, count)) => *count += 1,
            None => self.dropped.push((reason.to_owned(), 1)),
        }
        None
    }

    fn hand_on(&mut self, line: Line<'p>) {
        if self.is_look {
            return;
        }
        let streams = &mut self.streams;
        let place = *self.places.entry(line.labels.address()).or_insert_with(|| {
            let labels: Labels = line.labels.clone();
            streams.push((LogStream { labels, entries: Vec::new() }, Vec::new()));
            streams.len() - 1
        });
        let Line { timestamp_ns, text, metadata, from, .. } = line;
        let (stream, origins) = &mut streams[place];
        stream.entries.push(LogEntry { timestamp_ns, line: text, metadata });
        origins.push(from);
    }

    fn outcome(self) -> Outcome {
        let (streams, from): (Vec<_>, Vec<_>) = self.streams.into_iter().unzip();
        Outcome {
            batch: LogBatch { streams, lane: self.lane, taken_ns: self.now_ns },
            from: from.concat(),
            dropped: self.dropped,
            wait: self.wait,
            taken: self.taken,
        }
    }
}
