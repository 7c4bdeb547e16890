//! The documented behaviour as tables, and the memory against the rules themselves.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::pattern::Pattern;
use super::template::Template;
use super::*;
use crate::config::{Body, Decode, Scope, decode_statements};
use crate::syntax::{Sources, ast::Statement, parse};
use crate::telemetry::{Labels, STALE_NAN, SampleBatch};

/// Reads the bodies of `rule` blocks.
fn rules(bodies: &[&str]) -> Result<Rules, String> {
    struct Component(Rules);
    impl Decode for Component {
        fn decode(body: &mut Body<'_>) -> Self {
            Component(Rules::read(body, "rule"))
        }
    }
    let text: String =
        bodies.iter().map(|body| format!("rule {{\n{}\n}}\n", body.replace("; ", "\n"))).collect();
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", text);
    let (file, diagnostics) = parse(&sources, id);
    assert!(!diagnostics.has_errors(), "{}", diagnostics.render(&sources));
    let Some(Statement::Block(first)) = file.statements.first() else { return Ok(Rules::default()) };
    let decoded: Result<Component, _> =
        decode_statements(&file.statements, first.header(), &Scope::default());
    decoded.map(|component| component.0).map_err(|diagnostics| diagnostics.render(&sources))
}

/// `a=1,b=2` before and after; `-`: dropped.
fn check(bodies: &[&str], before: &str, after: &str) {
    let rules = rules(bodies).unwrap();
    let pairs = before.split(',').filter_map(|pair| pair.split_once('='));
    let mut labels = LabelSet::new(pairs);
    let kept = rules.apply(&mut labels);
    let pairs: Vec<String> =
        labels.into_pairs().iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(if kept { pairs.join(",") } else { "-".to_owned() }, after, "{bodies:?} on {before}");
}

#[test]
fn replace() {
    let from_a = |more: &str| format!("source_labels = [\"a\"]; {more}");
    let check = |more: &str, before: &str, after: &str| check(&[&from_a(more)], before, after);
    check(r#"target_label = "d""#, "a=foo", "a=foo,d=foo");
    check(r#"target_label = "d"; regex = "f(.*)"; replacement = "x$1-${1}y$$""#, "a=foo", "a=foo,d=xoo-ooy$");
    check(r#"target_label = "d"; regex = "o"; replacement = "x""#, "a=foo", "a=foo");
    check(r#"target_label = "d"; regex = "f(?P<rest>.*)"; replacement = "${rest}""#, "a=foo", "a=foo,d=oo");
    check(r#"target_label = "d"; regex = "f(.*)"; replacement = "$1x""#, "a=foo,d=1", "a=foo");
    check(r#"target_label = "a"; regex = ".*"; replacement = """#, "a=foo,b=1", "b=1");
    check(r#"target_label = "d"; regex = ".*"; replacement = "c""#, "b=1", "b=1,d=c");
    check(r#"target_label = "${1}_x"; regex = "(.*)"; replacement = "v""#, "a=foo", "a=foo,foo_x=v");
    check(r#"target_label = "${1}"; regex = "(.*)"; replacement = "v""#, "a=1-2", "a=1-2");
    check(r#"target_label = "d"; regex = "a.b""#, "a=a\nb,d=1", "a=a\nb");
    check(r#"target_label = "d"; regex = "a(.)b""#, "a=a\nb", "a=a\nb,d=\n");
}

#[test]
fn several_labels_are_joined() {
    let rule = r#"source_labels = ["a", "b", "none"]; target_label = "d"; regex = "(.*)""#;
    check(&[rule], "a=1,b=2", "a=1,b=2,d=1;2;");
    check(&[&format!("{rule}; separator = \"-\"")], "a=1,b=2", "a=1,b=2,d=1-2-");
    check(&[&format!("{rule}; separator = \"\"")], "a=1,b=2", "a=1,b=2,d=12");
}

#[test]
fn keep_and_drop() {
    check(&[r#"action = "keep"; source_labels = ["a"]; regex = "f|foo""#], "a=foo", "a=foo");
    check(&[r#"action = "keep"; source_labels = ["a"]; regex = "f""#], "a=foo", "-");
    check(&[r#"action = "drop"; source_labels = ["a"]; regex = ".*o""#], "a=foo", "-");
    check(&[r#"action = "drop"; source_labels = ["a"]; regex = "o""#], "a=foo", "a=foo");
    check(&[r#"action = "DROP"; source_labels = ["none"]; regex = """#], "a=foo", "-");
    check(&[r#"action = "keepequal"; source_labels = ["a"]; target_label = "b""#], "a=1,b=1", "a=1,b=1");
    check(&[r#"action = "keepequal"; source_labels = ["a"]; target_label = "b""#], "a=1,b=2", "-");
    check(&[r#"action = "dropequal"; source_labels = ["a"]; target_label = "b""#], "a=1,b=1", "-");
    check(&[r#"action = "dropequal"; source_labels = ["a", "b"]; target_label = "b""#], "a=1,b=1", "a=1,b=1");
}

#[test]
fn hashes_and_letters() {
    let hash = |label: &str| {
        format!("action = \"hashmod\"; source_labels = [{label:?}]; target_label = \"d\"; modulus = 1000")
    };
    // Of the MD5 of "baz" and of nothing: echo -n baz | md5sum.
    check(&[&hash("c")], "c=baz", "c=baz,d=976");
    check(&[&hash("none")], "c=baz", "c=baz,d=958");
    check(&[r#"action = "lowercase"; source_labels = ["a"]; target_label = "d""#], "a=ÄbİΣ", "a=ÄbİΣ,d=äbiσ");
    check(&[r#"action = "uppercase"; source_labels = ["a"]; target_label = "d""#], "a=äbß", "a=äbß,d=ÄBß");
}

#[test]
fn many_labels_at_once() {
    check(&[r#"action = "labelmap"; regex = "__meta_(.+)""#], "__meta_a=1,b=2", "__meta_a=1,a=1,b=2");
    check(&[r#"action = "labelmap"; regex = "(a|b)"; replacement = "x""#], "a=1,b=2", "a=1,b=2,x=2");
    check(&[r#"action = "labelmap"; regex = "x(.)"; replacement = "${1}_""#], "xa=1,a_=2", "a_=1,xa=1");
    check(&[r#"action = "labeldrop"; regex = "a.""#], "a=1,ab=2,abc=3", "a=1,abc=3");
    check(&[r#"action = "labelkeep"; regex = "a.?""#], "a=1,ab=2,abc=3", "a=1,ab=2");
    // What was set comes behind what was not, so it wins.
    let set_a = r#"target_label = "a"; replacement = "new""#;
    check(
        &[set_a, r#"action = "labelmap"; regex = "(a|b)"; replacement = "x""#],
        "a=1,b=2",
        "a=new,b=2,x=new",
    );
    check(&[set_a, r#"action = "keep"; source_labels = ["a"]; regex = "old""#], "a=old", "-");
    check(&[], "a=1", "a=1");
}

#[test]
fn what_prometheus_refuses_is_refused() {
    let check = |body: &str, expected: &str| {
        let error = rules(&[body]).expect_err(body);
        assert!(error.contains(expected), "{body}\n{error}");
    };
    check(r#"action = "nothing""#, "expected one of \"replace\", \"keep\"");
    check("", "relabel configuration for replace action requires 'target_label' value");
    check(r#"action = "hashmod"; target_label = "a""#, "requires non-zero modulus");
    check(r#"target_label = "0a""#, "\"0a\" is invalid 'target_label' for replace action");
    check(r#"target_label = "a-${1}""#, "is invalid 'target_label' for replace action");
    check(r#"action = "lowercase"; target_label = "${1}""#, "is invalid 'target_label' for lowercase action");
    check(
        r#"action = "uppercase"; target_label = "a"; replacement = "x""#,
        "'replacement' can not be set for uppercase",
    );
    check(
        r#"action = "labelmap"; replacement = "a-b""#,
        "\"a-b\" is invalid 'replacement' for labelmap action",
    );
    check(
        r#"action = "keepequal"; target_label = "a"; regex = "x""#,
        "keepequal action requires only 'source_labels'",
    );
    check(r#"action = "dropequal"; target_label = "a"; separator = "x""#, "dropequal action requires only");
    check(
        r#"action = "labeldrop"; regex = "a"; source_labels = ["b"]"#,
        "labeldrop action requires only 'regex'",
    );
    check(r#"action = "labelkeep"; regex = "a"; modulus = 3"#, "labelkeep action requires only 'regex'");
    check(r#"target_label = "a"; regex = "(x""#, "unclosed group");
    check(r#"target_label = "a"; regex = "\\1x""#, "refers back to a group");
    check(r#"target_label = "a"; regex = "[a""#, "has no ]");
}

/// Where the crate and Go differ, Go counts.
#[test]
fn expressions_are_read_as_go_reads_them() {
    let check = |pattern: &str, yes: &[&str], no: &[&str]| {
        let compiled = Pattern::new(pattern).unwrap();
        yes.iter().for_each(|text| assert!(compiled.is_match(text), "{pattern} on {text:?}"));
        no.iter().for_each(|text| assert!(!compiled.is_match(text), "{pattern} on {text:?}"));
    };
    check(r"\d+", &["42"], &["٣", ""]);
    check(r"\w", &["a", "_"], &["é"]);
    check(r"[\w-]+", &["a-b"], &["é"]);
    check(r"[^\d]", &["a", "٣"], &["1"]);
    check(r"[\D]", &["a"], &["1"]);
    check(r"a\s", &["a ", "a\t"], &["a\u{a0}", "a\u{b}"]);
    check(r"a\b.*", &["a b", "aé"], &["ab"]);
    check(r"[a&&b]", &["a", "&", "b"], &["ab"]);
    check(r"[a~~b]", &["~"], &["c"]);
    check(r"[[a]b]", &["[b]", "ab]"], &["a"]);
    check(r"[+--]", &["+", ",", "-"], &["."]);
    check(r"[]a]", &["]", "a"], &["b"]);
    check(r"[^]a]", &["b"], &["]"]);
    check(r"[a-]", &["a", "-"], &["b"]);
    check(r"[[:alpha:]_]+", &["aB_"], &["1"]);
    check(r"[\]\-^]+", &["]-^"], &["\\"]);
    check(r"a{,3}", &["a{,3}"], &["aa"]);
    check(r"a{2}", &["aa"], &["a{2}"]);
    check(r"a{1,}b{0,1}", &["aab"], &["b"]);
    check(r"x{y", &["x{y"], &[]);
    check(r"\Qa.b\E.", &["a.bc"], &["axbc"]);
    check(r"\Qa.b", &["a.b"], &["axb"]);
    check(r"\101\x42\x{43}", &["ABC"], &[]);
    check(r"\<\.\-\/\>", &["<.-/>"], &[]);
    check(r"(?i)abc", &["ABC"], &[]);
    check(r"\pL\p{Greek}", &["aΣ"], &["1Σ"]);
    check(r"a|b", &["a", "b"], &["ab", "xa"]);
    check(r"", &[""], &["a"]);
    check(r"é.", &["éx"], &["e"]);
    for wrong in [r"\1", r"\8", "[a", "[a--b]", "(a", "a**b)", r"\C", "a\\"] {
        assert!(Pattern::new(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn templates_are_read_as_go_reads_them() {
    let check = |template: &str, expected: &str| {
        let template = Template::new(template, |name| (name == "name").then_some(2));
        let groups = ["whole", "one", "named"];
        assert_eq!(template.expand(|index| groups.get(index).copied()), expected, "{template:?}");
    };
    check("$1-${1}-$name-${name}-$0", "one-one-named-named-whole");
    check("$1x|$01|$9|$none|${none}", "||||");
    check("$$1|$|$-|${|${}|${1|${a b}", "$1|$|$-|${|${}|${1|${a b}");
    check("${1}x$", "onex$");
    check("$é1", "");
}

fn batch(series: &[(&str, f64)]) -> SampleBatch {
    let mut batch = SampleBatch::new(7);
    for (name, value) in series {
        batch.push([("__name__", *name), ("job", "j")], 5, *value);
    }
    batch
}

fn names(batch: &SampleBatch) -> Vec<String> {
    batch.iter().map(|sample| sample.labels.to_string()).collect()
}

#[test]
fn a_series_is_worked_out_once_and_forgotten_with_its_marker() {
    let rules = rules(&[
        r#"action = "drop"; source_labels = ["__name__"]; regex = "b""#,
        r#"source_labels = ["__name__"]; regex = "c"; target_label = "x"; replacement = "y""#,
        r#"action = "labelkeep"; regex = "__name__|x|job|zone""#,
    ]);
    let added = Labels::new([("zone", "z"), ("job", "other")]);
    let relabeler = Relabeler::new(rules.unwrap(), added, CacheLimit::Entries(10));
    let now = Instant::now();
    let expected = [
        r#"{__name__="a", job="j", zone="z"}"#.to_owned(),
        r#"{__name__="c", job="j", x="y", zone="z"}"#.to_owned(),
    ];
    for _ in 0..3 {
        assert_eq!(names(&relabeler.relabel(&batch(&[("a", 1.0), ("b", 1.0), ("c", 1.0)]), now)), expected);
    }
    let figures = |relabeler: &Relabeler| {
        let figures = &relabeler.figures;
        [&figures.processed, &figures.written, &figures.hits, &figures.misses]
            .map(|counter| counter.load(std::sync::atomic::Ordering::Relaxed))
    };
    assert_eq!((figures(&relabeler), relabeler.remembered()), ([9, 6, 6, 3], 3));
    let ended = relabeler.relabel(&batch(&[("a", STALE_NAN), ("b", STALE_NAN), ("c", STALE_NAN)]), now);
    assert_eq!((names(&ended), relabeler.remembered()), (expected.to_vec(), 0));
    assert!(ended.iter().all(|sample| sample.value.to_bits() == STALE_NAN.to_bits()));
}

#[test]
fn a_series_without_labels_is_dropped() {
    let relabeler = Relabeler::new(
        rules(&[r#"action = "labeldrop"; regex = ".*""#]).unwrap(),
        Labels::new([("a", "b")]),
        CacheLimit::Entries(10),
    );
    assert!(relabeler.relabel(&batch(&[("a", 1.0)]), Instant::now()).is_empty());
}

#[test]
fn what_is_not_seen_for_its_age_is_forgotten() {
    let age = Duration::from_secs(10);
    let relabeler = Relabeler::new(Rules::default(), Labels::new([("a", "b")]), CacheLimit::Age(age));
    let start = Instant::now();
    relabeler.relabel(&batch(&[("a", 1.0), ("b", 1.0)]), start);
    relabeler.relabel(&batch(&[("a", 1.0)]), start + age);
    assert_eq!(relabeler.remembered(), 2, "both were seen since the start");
    relabeler.relabel(&batch(&[("c", 1.0)]), start + 2 * age);
    assert_eq!(relabeler.remembered(), 2, "b is gone, a was seen");
    relabeler.relabel(&batch(&[]), start + 4 * age);
    relabeler.relabel(&batch(&[]), start + 5 * age);
    assert_eq!(relabeler.remembered(), 0);
}

proptest! {
    /// Whatever stands in a configuration is taken or refused, and what is taken can be used.
    #[test]
    fn no_text_ends_the_process(
        pattern in r"([\\\[\](){}^$.|*+?:&~<>QE-]|\PC|[a-z0-9]){0,12}",
        template in "([$}{a1]|\\PC){0,8}",
        text in "\\PC{0,8}",
    ) {
        if let Ok(pattern) = Pattern::new(&pattern)
            && let Some(found) = pattern.find(&text)
        {
            Template::new(&template, |name| pattern.group(name)).expand(|group| found.group(group));
        }
    }

    /// Whatever comes in whatever order: the memory answers as the rules do, and keeps to its limit.
    #[test]
    fn the_memory_never_changes_an_answer(
        batches in prop::collection::vec((0..3_u64, prop::collection::vec((0..40_u32, any::<bool>()), 0..30)), 1..30),
        max in 1..50_usize,
    ) {
        let bodies = [
            r#"action = "drop"; source_labels = ["n"]; regex = ".*3""#,
            r#"source_labels = ["n"]; regex = "(.)(.)"; target_label = "m"; replacement = "$2""#,
        ];
        let added = Labels::new([("z", "1")]);
        let cached = Relabeler::new(rules(&bodies).unwrap(), added.clone(), CacheLimit::Entries(max));
        let now = Instant::now();
        for (lane, samples) in batches {
            let mut batch = SampleBatch::new(lane);
            for (number, is_marker) in samples {
                batch.push([("n", number.to_string().as_str())], 1, if is_marker { STALE_NAN } else { 1.0 });
            }
            let fresh = Relabeler::new(rules(&bodies).unwrap(), added.clone(), CacheLimit::Entries(1));
            prop_assert_eq!(names(&cached.relabel(&batch, now)), names(&fresh.relabel(&batch, now)));
            // Each of the three lanes has a shard of its own, which always may have one.
            prop_assert!(cached.remembered() <= max + 2, "{} of {}", cached.remembered(), max);
        }
    }
}
