//! One batch's way through a pipeline.

use std::collections::HashMap;
use std::time::Duration;

use bytes::BytesMut;

use super::join::{Blocks, LINE_END};
use super::label_sets::LabelSets;
use super::limit::{Taken, Verdict};
use super::line::{Extracted, Line, Value};
use super::pipeline::{CRI_WAIT, DOCKER_STAGES, DOCKER_TIMESTAMP, LIMITED, MALFORMED, Step};
use super::timestamp::Clocks;
use super::{Cri, Limit, Match, OnFailure, Outcome, Pipeline, Stage, Tenant, TimeFormat, cri, docker};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream, TENANT_LABEL};

/// What a step remembers of the batch.
enum Memory<'p> {
    Nothing,
    Blocks(Blocks<'p>),
    Clocks(Clocks<'p>),
    /// Partial lines, and times that are missing.
    Cri(Blocks<'p>, Clocks<'p>),
}

/// One batch's way.
pub(super) struct Run<'p> {
    pipeline: &'p Pipeline,
    /// Steps from here on are left out.
    end: usize,
    now_ns: i64,
    /// Nothing is taken or counted.
    pub(super) is_look: bool,
    /// The unfinished line that begins first, and how long to wait for it.
    pub(super) open: Option<(usize, Duration)>,
    sets: LabelSets,
    room: BytesMut,
    memory: Vec<Memory<'p>>,
    /// The batch that it works on, without its streams.
    whole: LogBatch,
    streams: Vec<(LogStream, Vec<usize>)>,
    places: HashMap<usize, usize>,
    pub(super) joined: Vec<(usize, usize)>,
    dropped: Vec<(String, u64)>,
    wait: Duration,
    taken: Vec<(usize, Taken)>,
}

impl<'p> Run<'p> {
    pub(super) fn new(pipeline: &'p Pipeline, batch: &LogBatch, end: usize) -> Self {
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
            whole: batch.with_streams(Vec::new()),
            streams: Vec::new(),
            places: HashMap::new(),
            joined: Vec::new(),
            dropped: Vec::new(),
            wait: Duration::ZERO,
            taken: Vec::new(),
        }
    }

    pub(super) fn all(&mut self, batch: &LogBatch) {
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
                    to: from,
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
            self.go_joined(line, at + 1);
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
                    self.go_joined(line, at + 1);
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
                    line.labels = self.sets.with(&line.labels, TENANT_LABEL, &found);
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
            self.go_joined(line, at + 1);
        }
        None
    }

    fn go_joined(&mut self, line: Line<'p>, at: usize) {
        if line.to > line.from {
            self.joined.push((line.from, line.to));
        }
        self.go(line, at);
    }

    /// Whether the line was of Docker's own shape.
    fn docker(&mut self, line: &mut Line<'p>, at: usize) -> bool {
        let Some(parts) = docker::parse(&line.text, &mut self.room) else { return false };
        let Some(time) = TimeFormat::rfc3339().parse(&super::line::text(&parts.time), 0) else {
            return false;
        };
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

    pub(super) fn outcome(self) -> Outcome {
        let (streams, from): (Vec<_>, Vec<_>) = self.streams.into_iter().unzip();
        Outcome {
            batch: self.whole.with_streams(streams),
            from: from.concat(),
            joined: self.joined,
            dropped: self.dropped,
            wait: self.wait,
            taken: self.taken,
        }
    }
}
