//! What pages are read as, and what is refused.

use proptest::prelude::*;

use super::*;

mod open_metrics;

/// The samples as lines; exemplars behind a `#`.
fn read(page: &str, format: TextFormat) -> Result<Vec<String>, ParseError> {
    let mut seen = Vec::new();
    parse_text(page.as_bytes(), format, &mut |item| {
        let Item::Series(series) = item else { return };
        let labels: Vec<String> =
            series.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let at = |time: Option<i64>| time.map_or(String::new(), |at| format!(" @{at}"));
        let exemplars = series.extras.iter().flat_map(|extras| &extras.exemplars);
        let exemplars =
            exemplars.map(|one| format!(" # {} {}{}", one.labels.as_ref(), one.value, at(one.timestamp_ms)));
        let (labels, exemplars) = (labels.join(","), exemplars.collect::<String>());
        seen.push(format!(
            "{}{{{labels}}} {}{}{exemplars}",
            series.name,
            series.value,
            at(series.timestamp_ms)
        ));
    })?;
    Ok(seen)
}

/// What is said of families.
fn read_metadata(page: &str, format: TextFormat) -> Vec<String> {
    let mut seen = Vec::new();
    let mut take = |item: Item<'_, '_>| {
        if let Item::Metadata(family, statement) = item {
            seen.push(format!("{family}: {statement:?}"));
        }
    };
    parse_text(page.as_bytes(), format, &mut take).unwrap();
    seen
}

#[track_caller]
fn check(page: &str, format: TextFormat, expected: &[&str]) {
    match read(page, format) {
        Ok(seen) => assert_eq!(seen, expected, "{page:?}"),
        Err(error) => panic!("{page:?}: {error}"),
    }
}

#[track_caller]
fn refuse(page: &str, format: TextFormat, line: usize, column: usize, expected: &str) {
    let error = read(page, format).unwrap_err();
    assert_eq!((error.line, error.column, error.expected), (line, column, expected), "{page:?}");
}

#[test]
fn text_pages_are_read() {
    let text = |page, expected: &[&str]| check(page, TextFormat::Prometheus, expected);
    text("", &[]);
    text("\n \n\t\n", &[]);
    text("up 1", &["up{} 1"]);
    text("up 1\n", &["up{} 1"]);
    text("up{} 1\n", &["up{} 1"]);
    text(" up\t1\t\n", &["up{} 1"]);
    text("a:b_C9 1 1700000000123\n", &["a:b_C9{} 1 @1700000000123"]);
    text("a 1 -5 \n", &["a{} 1 @-5"]);
    text(r#"a{b="1",c="2"} 3"#, &[r#"a{b="1",c="2"} 3"#]);
    text(r#"a { b = "1" , c="2" , } 3 4"#, &[r#"a{b="1",c="2"} 3 @4"#]);
    text("a{b=\"1\"}2", &["a{b=\"1\"} 2"]);
    text("a{b=\"\"} 2", &["a{b=\"\"} 2"]);
    text("# some comment\n#HELP\n#\n# \n# HELP a b c\n# HELP a\n# TYPE a counter\na 1\n", &["a{} 1"]);
    text("# HELP\n# TYPE\na 1\n# TYPE", &["a{} 1"]);
    text("# TYPE a untyped \n# UNIT seconds\n# EOF\na 1\n", &["a{} 1"]);
}

#[test]
fn open_metrics_pages_are_read() {
    let open_metrics = |page, expected: &[&str]| check(page, TextFormat::OpenMetrics, expected);
    open_metrics("# EOF", &[]);
    open_metrics("# EOF\n", &[]);
    open_metrics("a 1\n# EOF\n", &["a{} 1"]);
    open_metrics("a 1 1700000000.123\n# EOF\n", &["a{} 1 @1700000000123"]);
    open_metrics("a 1 -1e-3\n# EOF\n", &["a{} 1 @-1"]);
    open_metrics("a 1 1.001\na 1 1795376734.2597\n# EOF\n", &["a{} 1 @1001", "a{} 1 @1795376734259"]);
    open_metrics(
        "# TYPE a histogram\n# UNIT a \n# HELP a b\na_bucket{le=\"+Inf\"} 7 # {id=\"x\"} 0.5 1.5\n# EOF\n",
        &["a_bucket{le=\"+Inf\"} 7 # {id=\"x\"} 0.5 @1500"],
    );
    open_metrics(
        "a 1 2 # {} 0.5\na 3 # {id=\"}\",b=\"\\\"\",} NaN -1\n# EOF",
        &["a{} 1 @2000 # {} 0.5", r#"a{} 3 # {b="\"", id="}"} NaN @-1000"#],
    );
    open_metrics("a{b=\"1\",} 1\n# EOF\n", &["a{b=\"1\"} 1"]);
    // Without a flag, Prometheus takes it as a series like any other.
    open_metrics("# TYPE a counter\na_total 1\na_created 5\n# EOF\n", &["a_total{} 1", "a_created{} 5"]);
}

#[test]
fn bounds_of_buckets_and_quantiles_are_brought_to_one_form() {
    for (format, end) in [(TextFormat::Prometheus, ""), (TextFormat::OpenMetrics, "# EOF\n")] {
        let page = "# TYPE h histogram\nh_bucket{le=\"5\"} 1\nh_bucket{le=\"0.50\"} 1\n\
                    # TYPE s summary\ns{quantile=\"1\",le=\"5\"} 1\n# TYPE g gauge\ng{le=\"5\",quantile=\"1\"} 1\n";
        let expected = [
            "h_bucket{le=\"5.0\"} 1",
            "h_bucket{le=\"0.5\"} 1",
            "s{quantile=\"1.0\",le=\"5\"} 1",
            "g{le=\"5\",quantile=\"1\"} 1",
        ];
        check(&format!("{page}{end}"), format, &expected);
    }
    check("h_bucket{le=\"5\"} 1\n", TextFormat::Prometheus, &["h_bucket{le=\"5\"} 1"]);
}

#[test]
fn escapes_in_label_values_are_undone() {
    let value = |raw: &str, expected: &str| {
        check(&format!("a{{b=\"{raw}\"}} 1\n"), TextFormat::Prometheus, &[&format!("a{{b={expected:?}}} 1")]);
    };
    value(r"C:\\DIR\\", r"C:\DIR\");
    value(r#"\"x\"\n"#, "\"x\"\n");
    value(r"\\n", r"\n");
    value(r"\t\é", r"\t\é");
    value("{},=# é😀", "{},=# é😀");
    value("two\nlines", "two\nlines");
}

#[test]
fn quoted_names_are_read() {
    check(r#"{"metric.name", a="b"} 1"#, TextFormat::Prometheus, &[r#"metric.name{a="b"} 1"#]);
    check(r#"{"metric.name"} 1"#, TextFormat::Prometheus, &[r#"metric.name{} 1"#]);
    check(r#"{"a\"\\b","l.1"="v",} 1 2"#, TextFormat::Prometheus, &[r#"a"\b{l.1="v"} 1 @2"#]);
    check("{\"a\nb\",c=\"1\"} 1\n# EOF\n", TextFormat::OpenMetrics, &["a\nb{c=\"1\"} 1"]);
    check(
        "# TYPE \"a.b\" gauge\n# HELP \"a.b\" c\n{\"a.b\"} 1\n# EOF",
        TextFormat::OpenMetrics,
        &["a.b{} 1"],
    );
}

#[test]
fn values_have_the_forms_that_go_writes() {
    let value = |raw: &str, expected: f64| {
        let mut seen = None;
        let page = format!("a {raw}\n");
        let mut take = |item: Item<'_, '_>| {
            if let Item::Series(series) = item {
                seen = Some(series.value);
            }
        };
        parse_text(page.as_bytes(), TextFormat::Prometheus, &mut take).unwrap();
        assert_eq!(seen.unwrap().to_bits(), expected.to_bits(), "{raw}");
    };
    value("NaN", NORMAL_NAN);
    value("nan", NORMAL_NAN);
    value("+Inf", f64::INFINITY);
    value("-Inf", f64::NEG_INFINITY);
    value("Inf", f64::INFINITY);
    value("-0", -0.0);
    value("1.", 1.0);
    value(".5", 0.5);
    value("+1e3", 1000.0);
    value("1.7976931348623157E308", f64::MAX);
    value("4.9406564584124654e-324", f64::from_bits(1));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let text = |page, line, column, expected| refuse(page, TextFormat::Prometheus, line, column, expected);
    text("a 1\nb\nc 1", 2, 2, "a blank or `{` after the name");
    text("a.5 1\n", 1, 2, "a blank or `{` after the name");
    text("a \n", 1, 3, "a value");
    text("a x\n", 1, 3, "a value");
    text("a 0x1p4\n", 1, 3, "a value");
    text("a 1_000\n", 1, 3, "a value");
    text("a 1\r\n", 1, 3, "a value");
    text("1a 1\n", 1, 1, "a metric name");
    text("é 1\n", 1, 1, "a metric name");
    text("é{} 1\n", 1, 1, "a metric name");
    text("a 1 1.5\n", 1, 5, "a timestamp or the end of the line");
    text("a 1 2 3\n", 1, 7, "the end of the line");
    text("a 1 # {} 1\n", 1, 5, "the end of the line");
    text("{} 1\n", 1, 1, "a metric name");
    text("{a=\"b\"} 1\n", 1, 1, "a metric name");
    text("a{\"b\"} 1\n", 1, 6, "`=` after the label's name");
    text("{\"\"} 1\n", 1, 2, "a name that is not empty");
    text("a{9=\"b\"} 1\n", 1, 3, "a label name or `}`");
    text("a{b:c=\"b\"} 1\n", 1, 4, "`=` after the label's name");
    text("a{b=c} 1\n", 1, 5, "a text in double quotes");
    text("a{b=\"c} 1\n", 1, 6, "a closing `\"`");
    text("a{b=\"c\\", 1, 6, "a closing `\"`");
    text("a{b=\"c\\\n\"} 1\n", 1, 6, "a character behind the backslash");
    text("a{b=\"c\" d=\"e\"} 1\n", 1, 9, "`,` or `}`");
    text("a{,} 1\n", 1, 3, "a label name or `}`");
    text("a{b=\"c\"", 1, 8, "`,` or `}`");
    text("# TYPE a countre\n", 1, 10, "a metric type");
    text("# TYPE a info\n", 1, 10, "a metric type");
    text("# TYPE a counter x\n", 1, 18, "the end of the line");
    text("# HELP \n", 1, 8, "a metric name");

    let open_metrics =
        |page, line, column, expected| refuse(page, TextFormat::OpenMetrics, line, column, expected);
    open_metrics("a 1\n", 2, 1, "`# EOF` at the end");
    open_metrics("", 1, 1, "`# EOF` at the end");
    open_metrics("# EOF\n\n", 2, 1, "nothing after `# EOF`");
    open_metrics("\n# EOF\n", 1, 1, "a metric name");
    open_metrics("# comment\n# EOF\n", 1, 3, "HELP, TYPE, UNIT or EOF after `# `");
    open_metrics("#TYPE a gauge\n# EOF\n", 1, 2, "a space");
    open_metrics("# HELP a\n# EOF\n", 1, 9, "a space");
    open_metrics("# TYPE a  gauge\n# EOF\n", 1, 10, "a metric type");
    open_metrics("# TYPE a gauge \n# EOF\n", 1, 15, "the end of the line");
    open_metrics("# UNIT a_bytes seconds\n# EOF\n", 1, 16, "a unit that the name ends with");
    open_metrics("# UNIT seconds seconds\n# EOF\n", 1, 16, "a unit that the name ends with");
    open_metrics(" a 1\n# EOF\n", 1, 1, "a metric name");
    open_metrics("a  1\n# EOF\n", 1, 3, "a value");
    open_metrics("a\t1\n# EOF\n", 1, 2, "a blank or `{` after the name");
    open_metrics("a 1 \n# EOF\n", 1, 5, "a timestamp or the end of the line");
    open_metrics("a{b=\"1\"}1\n# EOF\n", 1, 9, "a space");
    open_metrics("a{b = \"1\"} 1\n# EOF\n", 1, 4, "`=` after the label's name");
    open_metrics("a{b=\"1\n\"} 1\n# EOF\n", 1, 6, "a closing `\"` on the same line");
    open_metrics("a 1 # {\"b\"} 1\n# EOF\n", 1, 11, "`=` after the label's name");
    open_metrics("a 1 # {} x\n# EOF\n", 1, 10, "a value");
    open_metrics("a 1 # {}\n# EOF\n", 1, 9, "a space");
    open_metrics("a 1 # {} 1 Inf\n# EOF\n", 1, 12, "a timestamp or the end of the line");
    open_metrics("a 1 # {} 1 # {} 1\n# EOF\n", 1, 11, "the end of the line");
    open_metrics("# TYPE a untyped\n# EOF\n", 1, 10, "a metric type");
    open_metrics("a 1 NaN\n# EOF\n", 1, 5, "a timestamp or the end of the line");
    open_metrics("a 1 1e300\n# EOF\n", 1, 5, "a timestamp or the end of the line");
    open_metrics("a 1 # x\n# EOF\n", 1, 7, "an exemplar's `{`");
}

#[test]
fn an_error_shows_a_bounded_part_of_the_line() {
    let error = parse_text(b"a 1\nb \xff\xfe\nc 1", TextFormat::Prometheus, &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 3: expected valid UTF-8, found \"\u{fffd}\u{fffd}\"");
    let error = read(&format!("a {}\n", "é".repeat(1000)), TextFormat::Prometheus).unwrap_err();
    assert!(error.found.chars().count() <= 40);
}

#[test]
fn the_text_of_a_series_is_its_name_and_labels() {
    let mut seen = Vec::new();
    let page = "a{b=\"1\"} 1\na 2\n{\"x\"} 3\n";
    let mut take = |item: Item<'_, '_>| match item {
        Item::Series(series) => seen.push(series.text.to_owned()),
        Item::Metadata(..) => {}
    };
    parse_text(page.as_bytes(), TextFormat::Prometheus, &mut take).unwrap();
    assert_eq!(seen, ["a{b=\"1\"}", "a", "{\"x\"}"]);
}

#[test]
fn what_is_said_of_families_is_read() {
    let text = "# HELP a b \\\\ c\\n d\n# TYPE a untyped\n#HELP c d\n";
    assert_eq!(read_metadata(text, TextFormat::Prometheus), [r#"a: Help("b \\ c\n d")"#, "a: Type(Unknown)"]);
    let open_metrics = "# TYPE a_bytes gaugehistogram\n# UNIT a_bytes bytes\n# HELP a_bytes \\\"x\\\"\n# TYPE b info\n\
                        # TYPE c stateset\n# EOF";
    assert_eq!(
        read_metadata(open_metrics, TextFormat::OpenMetrics),
        [
            "a_bytes: Type(GaugeHistogram)",
            "a_bytes: Unit(\"bytes\")",
            r#"a_bytes: Help("\"x\"")"#,
            "b: Type(Info)",
            "c: Type(StateSet)"
        ]
    );
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n"))
}

proptest! {
    #[test]
    fn bytes_of_any_kind_never_panic(page in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
            let _ = parse_text(&page, format, &mut |_| {});
        }
    }

    #[test]
    fn tokens_in_any_order_never_panic(
        page in prop::collection::vec(
            prop::sample::select(vec![
                "a", "b_c", "{", "}", "\"", "\\", "\n", " ", "=", ",", "#", "# ", "1", "NaN", "é", "TYPE ", "HELP ",
                "counter", "# EOF", "x=\"y\"", "\"q\"", "\t", "-", ".",
            ]),
            0..40,
        )
    ) {
        let page = page.concat();
        for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
            if let Err(error) = parse_text(page.as_bytes(), format, &mut |_| {}) {
                prop_assert!(error.line >= 1 && error.column >= 1 && error.found.len() <= 120);
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        series in prop::collection::vec(
            (".{1,8}", prop::collection::vec((".{1,8}", ".{0,20}"), 0..5), any::<f64>(), any::<Option<i64>>()),
            0..10,
        )
    ) {
        let mut page = String::new();
        for (name, labels, value, timestamp_ms) in &series {
            let pairs: Vec<String> = labels.iter().map(|(n, v)| format!(",{}={}", quote(n), quote(v))).collect();
            let at = timestamp_ms.map_or(String::new(), |at| format!(" {at}"));
            page.push_str(&format!("{{{}{}}} {value}{at}\n", quote(name), pairs.concat()));
        }
        let mut seen = Vec::new();
        parse_text(page.as_bytes(), TextFormat::Prometheus, &mut |item| {
            let Item::Series(read) = item else { return };
            let labels: Vec<_> = read.labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            seen.push((read.name.to_owned(), labels, read.value, read.timestamp_ms));
        }).unwrap();
        prop_assert_eq!(format!("{seen:?}"), format!("{series:?}"));
    }
}
