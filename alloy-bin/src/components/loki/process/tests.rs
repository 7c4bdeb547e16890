//! What the blocks say, and what is done with a batch that is refused.

use super::*;
use crate::config::{Scope, decode_block};
use crate::syntax::{Sources, ast::Statement, parse};

fn arguments(inside: &str) -> Result<Arguments, String> {
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", format!("loki.process \"a\" {{\nforward_to = []\n{inside}\n}}"));
    let (file, _) = parse(&sources, id);
    let Statement::Block(block) = &file.statements[0] else { panic!("it is a block") };
    decode_block(block, &Scope::default()).map_err(|diagnostics| diagnostics.render(&sources))
}

#[test]
fn what_is_wrong_with_a_stage_is_said() {
    for (inside, expected) in [
        ("stage.metrics { }", "stage.metrics: this stage of Alloy's is not supported here: count lines"),
        ("stage.template {\nsource = \"a\"\n}", "stage.replace has templates"),
        ("stage.nothing { }", "unrecognized block name \"stage.nothing\""),
        ("stage.json {\nexpressions = {a = \"b[\"}\n}", "no JMESPath expression"),
        ("stage.regex {\nexpression = \"(\"\n}", "not a regular expression"),
        ("stage.labels {\nvalues = {\"a-b\" = \"c\"}\n}", "invalid label name: \"a-b\""),
        ("stage.drop { }", "at least one of source, expression, older_than and longer_than must be set"),
        ("stage.match {\nselector = \"{a=\\\"b\\\"}\"\n}", "at least one stage is needed inside"),
        ("stage.match {\nselector = \"{}\"\naction = \"drop\"\n}", "needs at least one matcher"),
        ("stage.limit {\nrate = 0\nburst = 1\n}", "rate and burst must be above zero"),
        ("stage.tenant { }", "exactly one of label, source and value must be set"),
        ("stage.timestamp {\nsource = \"t\"\nformat = \"RFC3339\"\nlocation = \"No/Where\"\n}", ""),
        (
            "stage.timestamp {\nsource = \"t\"\nformat = \"2006\"\nlocation = \"No/Where\"\n}",
            "unknown location",
        ),
        ("stage.cri {\nmax_partial_line_size_truncate = true\n}", "needs a max_partial_line_size"),
        ("stage.replace {\nexpression = \"(a)\"\nreplace = \"{{ if .Value }}\"\n}", "is no function here"),
    ] {
        let error = arguments(inside).err().unwrap_or_default();
        assert!(error.contains(expected) && error.is_empty() == expected.is_empty(), "{inside}: {error}");
    }
}

/// Takes a batch after it has refused so many.
struct Choosy {
    refusals: Mutex<u32>,
    taken: Mutex<Vec<String>>,
}

#[async_trait]
impl Consumer<LogBatch> for Choosy {
    async fn consume(&self, batch: &LogBatch) -> Result<(), ConsumeError> {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return Err(ConsumeError::Full { by: "choosy".to_owned(), reason: "refusals".to_owned() });
        }
        let lines = batch.streams.iter().flat_map(|stream| &stream.entries);
        self.taken
            .lock()
            .unwrap()
            .extend(lines.map(|entry| String::from_utf8_lossy(&entry.line).into_owned()));
        Ok(())
    }
}

fn choosy(refusals: u32) -> Arc<Choosy> {
    Arc::new(Choosy { refusals: Mutex::new(refusals), taken: Mutex::default() })
}

fn receiver(inside: &str, next: Vec<LogsReceiver>) -> Receiver {
    let Ok(mut arguments) = arguments(inside) else { panic!("the stages are right") };
    arguments.forward_to = next;
    Receiver { now: Mutex::new(Now::new(arguments)), dropped: Mutex::default() }
}

fn batch(lines: &[&str]) -> LogBatch {
    use crate::telemetry::{Labels, LogEntry, LogStream};
    let entries = lines.iter().zip(1..).map(|(line, at)| LogEntry::new(at, line.to_string())).collect();
    let streams = vec![LogStream { labels: Labels::new([("a", "b")]), entries }];
    LogBatch { streams, lane: 7, taken_ns: 1, origin: None }
}

#[tokio::test]
async fn a_refused_batch_counts_only_when_it_is_taken_and_the_limit_is_free_again() {
    let next = choosy(3);
    let stages = "stage.drop {\nexpression = \"x\"\n}\nstage.limit {\nrate = 1\nburst = 2\ndrop = true\n}";
    let receiver = receiver(stages, vec![next.clone() as LogsReceiver]);
    let batch = batch(&["x", "1", "2", "3"]);
    for _ in 0..3 {
        assert!(receiver.consume(&batch).await.is_err());
    }
    assert!(receiver.dropped.lock().unwrap().is_empty());
    receiver.consume(&batch).await.unwrap();
    assert_eq!(*next.taken.lock().unwrap(), ["1", "2"]);
    let dropped = receiver.dropped.lock().unwrap().clone();
    assert_eq!(
        dropped.into_iter().collect::<Vec<_>>(),
        [("drop_stage".to_owned(), 1), ("ratelimit_drop_stage".to_owned(), 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_one_receiver_has_is_not_given_back_because_of_another() {
    let (first, second) = (choosy(1), choosy(4));
    let next = vec![first.clone() as LogsReceiver, second.clone() as LogsReceiver];
    let receiver = receiver("stage.static_labels {\nvalues = {c = \"d\"}\n}", next);
    let batch = batch(&["1"]);
    assert!(receiver.consume(&batch).await.is_err(), "the first has refused it");
    receiver.consume(&batch).await.unwrap();
    assert_eq!(*first.taken.lock().unwrap(), ["1"]);
    assert_eq!(*second.taken.lock().unwrap(), ["1"]);
}

#[test]
fn lines_that_the_next_component_joins_are_found_in_the_batch_as_it_came() {
    let multiline = "stage.multiline {\nfirstline = \"^S\"\nmax_wait_time = \"5s\"\n}";
    let next = Arc::new(receiver(multiline, Vec::new()));
    let first = receiver("stage.drop {\nexpression = \"x\"\n}", vec![next as LogsReceiver]);
    assert!(first.joins());
    let unfinished = first.unfinished(&batch(&["S1", "x", "a", "S2", "x", "b"]));
    let wait = std::time::Duration::from_secs(5);
    assert_eq!(unfinished, Some(Unfinished { from: 3, wait }));
    assert_eq!(first.unfinished(&batch(&["x", "a"])), None);
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    alloy: String,
    labels: BTreeMap<String, String>,
    lines: Vec<String>,
}

#[derive(Debug, PartialEq, PartialOrd, serde::Deserialize)]
struct Line {
    labels: BTreeMap<String, String>,
    timestamp_ns: i64,
    line: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// The cases were run through Promtail 3.5's own code: `tests/fixtures/stages/generate.go`.
#[test]
fn stages_make_of_lines_what_promtail_makes_of_them() {
    use crate::telemetry::{Labels, LogEntry, LogStream};
    const BASE: i64 = 1_700_000_000_000_000_000;
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/stages/cases.json")).unwrap();
    let mut expected: BTreeMap<String, Vec<Line>> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/stages/expected.json")).unwrap();
    let mut wrong = String::new();
    for case in cases {
        let pipeline =
            arguments(&case.alloy).unwrap_or_else(|error| panic!("{}: {error}", case.name)).pipeline;
        let entries =
            case.lines.iter().zip(BASE..).map(|(line, at)| LogEntry::new(at, line.clone())).collect();
        let streams = vec![LogStream { labels: Labels::new(&case.labels), entries }];
        let made = pipeline.process(&LogBatch { streams, taken_ns: BASE, ..LogBatch::default() }).batch;
        let owned = |labels: &Labels| {
            labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let lines =
            made.streams.iter().flat_map(|stream| stream.entries.iter().map(move |entry| (stream, entry)));
        let mut lines: Vec<Line> = lines
            .map(|(stream, entry)| Line {
                labels: owned(&stream.labels),
                timestamp_ns: entry.timestamp_ns,
                line: String::from_utf8(entry.line.to_vec()).unwrap(),
                metadata: entry.metadata.as_ref().map(owned).unwrap_or_default(),
            })
            .collect();
        let mut expected = expected.remove(&case.name).unwrap_or_default();
        // What has an empty value is no label here, and none to Loki. Streams come one after the other.
        expected.iter_mut().for_each(|line| line.labels.retain(|_, value| !value.is_empty()));
        for all in [&mut lines, &mut expected] {
            all.sort_by(|one, other| one.labels.cmp(&other.labels));
        }
        if lines != expected {
            wrong += &format!("{}\n", case.name);
            for index in 0..lines.len().max(expected.len()) {
                let (is, should) = (lines.get(index), expected.get(index));
                if is != should {
                    wrong += &format!("   is     {is:?}\n   should {should:?}\n");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(expected.is_empty(), "cases are missing: {:?}", expected.keys());
}
