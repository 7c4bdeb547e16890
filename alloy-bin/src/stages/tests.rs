//! Pipelines as a whole: the table that Promtail's own code has made, and what is joined.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream};

fn batch(lines: &[&str]) -> LogBatch {
    let entry = |(line, at): (&&str, i64)| LogEntry::new(at, line.to_string());
    let entries = lines.iter().zip(1000..).map(entry).collect();
    LogBatch {
        streams: vec![LogStream { labels: Labels::new([("job", "j")]), entries }],
        taken_ns: 2000,
        ..LogBatch::default()
    }
}

/// Labels, time and text of each line.
fn lines(pipeline: &Pipeline, batch: &LogBatch) -> Vec<(String, i64, String)> {
    let streams = pipeline.process(batch).batch.streams;
    let all = streams.iter().flat_map(|stream| stream.entries.iter().map(move |entry| (stream, entry)));
    all.map(|(stream, entry)| {
        let text = String::from_utf8(entry.line.to_vec()).expect("text stays text");
        (stream.labels.as_ref().to_string(), entry.timestamp_ns, text)
    })
    .collect()
}

fn texts(pipeline: &Pipeline, batch: &LogBatch) -> Vec<String> {
    lines(pipeline, batch).into_iter().map(|(_, _, text)| text).collect()
}

fn cri() -> Pipeline {
    Pipeline::new(vec![Stage::Cri(Cri::default())])
}

fn multiline() -> Pipeline {
    let stage = Multiline::new("^S", 3, Duration::from_secs(3), true).unwrap();
    Pipeline::new(vec![Stage::Multiline(stage)])
}

#[test]
fn parts_of_a_runtimes_line_are_joined_and_open_ones_are_told() {
    let input = batch(&[
        "2024-01-01T00:00:01Z stdout F whole",
        "2024-01-01T00:00:02Z stdout P one ",
        "2024-01-01T00:00:03Z stderr F other",
        "2024-01-01T00:00:04Z stdout P two ",
        "2024-01-01T00:00:05Z stdout F three",
        "2024-01-01T00:00:06Z stderr P open",
        "no head",
    ]);
    let second = 1_000_000_000;
    let from = 1_704_067_200 * second;
    let (out, err) = ("{job=\"j\", stream=\"stdout\"}", "{job=\"j\", stream=\"stderr\"}");
    let expected = [
        (out, from + second, "whole"),
        (out, from + 5 * second, "one two three"),
        (err, from + 3 * second, "other"),
        (err, from + 6 * second, "open"),
        ("{job=\"j\"}", 1006, "no head"),
    ];
    let expected = expected.map(|(labels, at, text)| (labels.to_owned(), at, text.to_owned()));
    assert_eq!(lines(&cri(), &input), expected);
    assert_eq!(cri().unfinished(&input), Some((5, Duration::from_secs(3))));
    assert_eq!(cri().unfinished(&batch(&["2024-01-01T00:00:01Z stdout F whole"])), None);
}

#[test]
fn blocks_begin_with_their_first_line_and_end_with_the_next_or_when_they_are_long() {
    let check = |input: &[&str], expected: &[&str], open: Option<usize>| {
        assert_eq!(texts(&multiline(), &batch(input)), expected);
        assert_eq!(multiline().unfinished(&batch(input)).map(|(from, _)| from), open, "{input:?}");
    };
    check(&["a", "b"], &["a", "b"], None);
    check(&["a", "S", "b", "S", "c"], &["a", "S\nb", "S\nc"], Some(3));
    check(&["S", "b", "c", "d", "e"], &["S\nb\nc", "d\ne"], Some(3));
    check(&["S", "b", "c"], &["S\nb\nc"], None);
}

#[test]
fn texts_that_are_no_time_come_next_to_the_lines_around_them() {
    let regex = Regex::new(r"^(?P<t>\d+)", None, false).unwrap();
    let formats = vec![TimeFormat::new("UnixNs", None).unwrap()];
    let stamp = |on_failure| Timestamp { source: "t".to_owned(), formats: formats.clone(), on_failure };
    let pipeline =
        |on_failure| Pipeline::new(vec![Stage::Regex(regex.clone()), Stage::Timestamp(stamp(on_failure))]);
    let times = |on_failure| -> Vec<i64> {
        let all = lines(&pipeline(on_failure), &batch(&["a", "b", "500", "c", "d", "700", "e"]));
        all.into_iter().map(|(_, at, _)| at).collect()
    };
    assert_eq!(times(OnFailure::Fudge), [498, 499, 500, 501, 502, 700, 701]);
    assert_eq!(times(OnFailure::Skip), [1000, 1001, 500, 1003, 1004, 700, 1006]);
}

/// Offers the lines as a file source does: what is unfinished is left for the next batch, until nothing more comes.
fn in_pieces(pipeline: &Pipeline, lines: &[&str], sizes: &[usize]) -> Vec<String> {
    let (mut done, mut seen, mut texts) = (0, 0, Vec::new());
    let mut sizes = sizes.iter().cycle();
    while done < lines.len() {
        seen = lines.len().min(seen + sizes.next().expect("it has no end"));
        let offered = batch(&lines[done..seen]);
        let open = pipeline.unfinished(&offered).filter(|_| seen < lines.len());
        let count = open.map_or(seen - done, |(from, _)| from);
        texts.extend(self::texts(pipeline, &batch(&lines[done..done + count])));
        done += count;
    }
    texts
}

proptest! {
    #[test]
    fn however_lines_are_cut_into_batches_they_are_joined_alike(
        kinds in prop::collection::vec(0usize..5, 0..40),
        sizes in prop::collection::vec(1usize..9, 1..9),
    ) {
        let of = |texts: [&'static str; 5]| -> Vec<&'static str> { kinds.iter().map(|kind| texts[*kind]).collect() };
        let cri_lines = of([
            "2024-01-01T00:00:01Z stdout P a",
            "2024-01-01T00:00:01Z stdout F b",
            "2024-01-01T00:00:01Z stderr P c",
            "2024-01-01T00:00:01Z stderr F d",
            "2024-01-01T00:00:01Z stdout F e",
        ]);
        // Streams of one batch stand one after the other: only what each has is the same.
        let sorted = |mut texts: Vec<String>| { texts.sort(); texts };
        let whole = texts(&cri(), &batch(&cri_lines));
        prop_assert_eq!(sorted(in_pieces(&cri(), &cri_lines, &sizes)), sorted(whole));
        // A block that was cut for its length goes on only in the same batch, so none is as long.
        let long = Multiline::new("^S", 1000, Duration::from_secs(3), true).unwrap();
        let long = Pipeline::new(vec![Stage::Multiline(long)]);
        let block_lines = of(["S1", "S2", "a", "b", ""]);
        prop_assert_eq!(in_pieces(&long, &block_lines, &sizes), texts(&long, &batch(&block_lines)));
    }
}
