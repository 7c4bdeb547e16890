//! Stages in their order, and a batch's way through them.
//!
//! Stages inside of `match` stand in one list with all others; a line that is not selected jumps over them.

use std::time::Duration;

use super::limit::Taken;
use super::run::Run;
use super::{
    Cri, Drop, Json, LabelSource, Limit, Logfmt, Mapping, Multiline, OnFailure, Regex, Replace, Selector,
    TimeFormat, Timestamp,
};
use crate::telemetry::LogBatch;

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

/// Why `stage.limit` drops, in Promtail's words.
pub(super) const LIMITED: &str = "ratelimit_drop_stage";
/// Why `stage.json` drops what is not JSON.
pub(super) const MALFORMED: &str = "malformed_json";

/// Runtimes write the parts of one line at once; only a program that pauses in the middle of one has them come apart.
pub(super) const CRI_WAIT: Duration = Duration::from_secs(3);

/// One stage in the list.
pub(super) enum Step {
    Do(Stage),
    /// Docker's own shape, done at once: what follows is jumped over.
    DockerAtOnce {
        jump: usize,
    },
    /// Lines that are not selected jump.
    Select {
        selector: Selector,
        jump: usize,
    },
}

/// Compiled stages.
pub struct Pipeline {
    pub(super) steps: Vec<Step>,
    /// What stages take out of a line's head is needed further down only behind these steps.
    pub(super) reads: Vec<bool>,
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
    /// The first and the last entry of lines that were joined.
    pub(super) joined: Vec<(usize, usize)>,
    /// Lines that go no further, by reason.
    pub dropped: Vec<(String, u64)>,
    /// How long `limit` has lines wait.
    pub wait: Duration,
    pub(super) taken: Vec<(usize, Taken)>,
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
        let (from, wait) = run.open?;
        Some((whole(from, &run.joined), wait))
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
pub(super) const DOCKER_STAGES: usize = 4;
pub(super) const DOCKER_TIMESTAMP: usize = 3;

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

impl Outcome {
    /// The last place at or in front of `cut` where the batch can be cut so that no line that was joined is cut, too.
    pub fn whole(&self, cut: usize) -> usize {
        whole(cut, &self.joined)
    }
}

fn whole(mut cut: usize, joined: &[(usize, usize)]) -> usize {
    while let Some((from, _)) = joined.iter().find(|(from, to)| *from < cut && cut <= *to) {
        cut = *from;
    }
    cut
}
