//! What must hold for every text that goes through the stages of `loki.process`.

use std::sync::LazyLock;
use std::time::Duration;

use crate::stages::{
    Cri, Json, LabelSource, Logfmt, Mapping, Match, Multiline, OnFailure, Pipeline, Regex, Replace, Selector,
    Stage, TimeFormat, Timestamp,
};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream};

/// Pipelines that together have every stage that reads a line.
fn pipelines() -> Vec<Pipeline> {
    let names = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), None)).collect();
    let mapping = |all: &[&str]| Mapping::new(names(all)).expect("the names are right");
    let texts =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let formats = ["RFC3339", "RFC822", "Unix", "Jan _2 15:04:05", "2006-002 3:04:05.000PM MST -07"];
    let timestamp = |source: &str| {
        let formats = formats.map(|format| TimeFormat::new(format, None).expect("it is a format")).into();
        Stage::Timestamp(Timestamp { source: source.to_owned(), formats, on_failure: OnFailure::Fudge })
    };
    let json = Json::new(texts(&[("a", ""), ("b", "b.c"), ("d", "d[0].e || keys(@)")]), None, true);
    let flat = Json::new(texts(&[("a", ""), ("b", "b.c")]), None, false);
    let logfmt = Logfmt::new(texts(&[("a", ""), ("time", "t")]), None);
    let regex = Regex::new(r"(?P<a>\w+)?[ =](?P<time>.*)", None, true);
    let replace = Replace::new(r"(?P<a>.)(.)?", "{{ .Value | ToUpper }}-{{ .a }}", None);
    let multiline = Multiline::new("^[A-Z]", 3, Duration::from_secs(3), true);
    let selector = Selector::new(r#"{job="j"} |= "a" !~ "b+""#);
    vec![
        Pipeline::new(vec![
            Stage::Cri(Cri { max_partial_lines: 2, max_bytes: Some(9) }),
            Stage::Output("content".into()),
        ]),
        Pipeline::new(vec![Stage::Docker, Stage::Output("output".into())]),
        Pipeline::new(vec![
            Stage::Json(json.expect("it compiles")),
            timestamp("a"),
            Stage::StructuredMetadata(mapping(&["b", "d"])),
        ]),
        Pipeline::new(vec![
            Stage::Json(flat.expect("it compiles")),
            Stage::Labels(mapping(&["a", "b"]), LabelSource::Extracted),
        ]),
        Pipeline::new(vec![
            Stage::Logfmt(logfmt.expect("it compiles")),
            timestamp("time"),
            Stage::Output("a".into()),
        ]),
        Pipeline::new(vec![Stage::Regex(regex.expect("it compiles")), timestamp("time")]),
        Pipeline::new(vec![
            Stage::Replace(replace.expect("it compiles")),
            Stage::Multiline(multiline.expect("it compiles")),
        ]),
        Pipeline::new(vec![Stage::Match(Match::Keep(
            selector.expect("it compiles"),
            vec![Stage::LabelDrop(vec!["job".into()])],
        ))]),
    ]
}

/// The text's lines go through every pipeline.
pub fn check_stages(text: &str) {
    static PIPELINES: LazyLock<Vec<Pipeline>> = LazyLock::new(pipelines);
    let entries: Vec<LogEntry> =
        text.split('\n').zip(1..).map(|(line, at)| LogEntry::new(at, line.to_owned())).collect();
    let streams = vec![LogStream { labels: Labels::new([("job", "j")]), entries: entries.clone() }];
    let batch = LogBatch { streams, taken_ns: 1_700_000_000_000_000_000, ..LogBatch::default() };
    for pipeline in &*PIPELINES {
        let made = pipeline.process(&batch);
        assert_eq!(made.batch.len(), made.from.len());
        assert!(made.from.iter().all(|from| *from < entries.len()));
        for entry in made.batch.streams.iter().flat_map(|stream| &stream.entries) {
            assert!(std::str::from_utf8(&entry.line).is_ok(), "text stays text");
        }
        let again = pipeline.process(&batch);
        assert_eq!(
            format!("{:?}", again.batch),
            format!("{:?}", made.batch),
            "the same batch comes out the same"
        );
        if let Some((from, _)) = pipeline.unfinished(&batch) {
            assert!(from < entries.len());
        }
    }
    // Whatever a layout, an expression or a selector is, it is taken or refused.
    let first = text.lines().next().unwrap_or_default();
    if let Ok(format) = TimeFormat::new(first, None) {
        text.lines().for_each(|line| {
            let _ = format.parse(line, 0);
        });
    }
    let _ = Selector::new(text);
    let _ = Replace::new("(a)", text, None);
}
