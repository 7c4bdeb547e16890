//! What the OpenMetrics specification says of pages, one line each: must be read, must be refused, and what is forbidden but
//! read all the same, because Prometheus reads it and targets in the field send it.

use super::*;

fn page(lines: &str) -> String {
    format!("{lines}# EOF\n")
}

#[track_caller]
fn passes(lines: &str, samples: usize) {
    match read(&page(lines), TextFormat::OpenMetrics) {
        Ok(seen) => assert_eq!(seen.len(), samples, "{lines:?}: {seen:?}"),
        Err(error) => panic!("{lines:?}: {error}"),
    }
}

#[track_caller]
fn fails(lines: &str) {
    let page = page(lines);
    assert!(read(&page, TextFormat::OpenMetrics).is_err(), "{page:?}");
}

#[test]
fn every_type_with_all_its_samples_is_read() {
    passes("# TYPE a unknown\na 1\n", 1);
    passes("# TYPE a gauge\n# UNIT a \n# HELP a \na 1\n", 1);
    passes(
        "# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1 5.5\na_seconds_created 4.5 5.5\n",
        2,
    );
    passes("# TYPE a counter\na_total 1 # {} 0.5\n", 1);
    passes("# TYPE a counter\na_total{b=\"c\"} 1.5 # {trace_id=\"d\",span=\"e\"} 0.5 1.25\n", 1);
    passes(
        "# TYPE a histogram\na_bucket{le=\"0.0\"} 0\na_bucket{le=\"1e-05\"} 0\na_bucket{le=\"1.5\"} 1 # {x=\"y\"} 1.1\n\
            a_bucket{le=\"+Inf\"} 2\na_count 2\na_sum 3.5\na_created 1.5\n",
        7,
    );
    passes("# TYPE a histogram\na_bucket{le=\"-1.0\"} 1\na_bucket{le=\"+Inf\"} 1\n", 2);
    passes("# TYPE a gaugehistogram\na_bucket{le=\"+Inf\"} 2\na_gcount 2\na_gsum -3\n", 3);
    passes("# TYPE a info\na_info{version=\"1.2\",arch=\"x\"} 1\n", 1);
    passes("# TYPE a stateset\na{a=\"on\"} 1\na{a=\"off\"} 0\na{a=\"\"} 0\n", 3);
    passes(
        "# TYPE a summary\na{quantile=\"0.5\"} NaN\na{quantile=\"1.0\"} 2\na_count 2\na_sum 3\na_created 1e9\n",
        5,
    );
    passes("# TYPE a gauge\n# TYPE b gauge\nb 1\n# HELP c without samples\n", 1);
}

#[test]
fn what_names_values_and_times_may_be_is_read() {
    passes("_ 1\n:a:b 1\nA9_z 1\n", 3);
    passes("a{_b=\"\",B9=\"x\"} 1\n", 1);
    passes("a{b=\"é😀 \\\\ \\\" \\n # , } {\"} 1\n", 1);
    passes("a{b=\"\\a\"} 1\n", 1);
    passes("a 1\na -1\na +1\na 1.5\na .5\na 1.\na 1e6\na 1E-6\na -1.5e+3\na 00.00e00\n", 10);
    passes("a NaN\na nan\na Inf\na +inf\na -INF\na Infinity\na -infinity\n", 7);
    passes("a 1 0\na 1 -1\na 1 1.5\na 1 1e3\na 1 1700000000.123456789\n", 5);
    passes("# HELP a é \\\\ \\\" \\n # \na 1\n", 1);
    passes("# HELP \"a b\" c\n# TYPE \"a b\" gauge\n{\"a b\"} 1\n{\"a b\",\"c d\"=\"e\",f=\"g\"} 1\n", 2);
    let id = "x".repeat(126);
    passes(&format!("a_total 1 # {{id=\"{id}\"}} 1\n"), 1);
}

#[test]
fn lines_that_are_none_are_refused() {
    for lines in [
        "\n",
        " \n",
        "a\n",
        "a \n",
        "a 1 \n",
        " a 1\n",
        "a  1\n",
        "a\t1\n",
        "a 1\t\n",
        "a 1\r\n",
        "a 1\n\n",
        "a 1 2 \n",
        "a 1  2\n",
        "a{} 1 2 3\n",
        "\u{feff}a 1\n",
        "a 1 2\u{a0}\n",
        "# EOF\n",
        "# EOF \n",
        "#EOF\n",
        "# eof\n",
        "#\n",
        "# \n",
        "# a comment\n",
        "#HELP a b\n",
        "#  HELP a b\n",
        "# HELP\n",
        "# HELP \n",
        "# HELP a\n",
        "# HELP  a b\n",
        "# HELP 1a b\n",
        "# Help a b\n",
        "# TYPE\n",
        "# TYPE a\n",
        "# TYPE a \n",
        "# TYPE  a gauge\n",
        "# TYPE a gauge \n",
        "# TYPE a gauge b\n",
        "# TYPE a Gauge\n",
        "# TYPE a meter\n",
        "# TYPE a untyped\n",
        "# TYPE a-b gauge\n",
        "# TYPE \"\" gauge\n",
        "# TYPE \"a gauge\n",
        "# type a gauge\n",
        "# UNIT\n",
        "# UNIT a\n",
        "# UNIT a b\n",
        "# UNIT ab b\n",
        "# UNIT a_b c\n",
        "# UNIT a_b b \n",
    ] {
        fails(lines);
    }
    for broken in
        ["", "a 1\n", "a 1\n# EO", "a 1\n# EOF\n\n", "a 1\n# EOF\na 1\n", "# EOF\n# EOF\n", "a 1\n# EOF x"]
    {
        assert!(read(broken, TextFormat::OpenMetrics).is_err(), "{broken:?}");
    }
    assert!(parse_text(b"a{b=\"\xff\"} 1\n# EOF\n", TextFormat::OpenMetrics, &mut |_| {}).is_err());
}

#[test]
fn samples_that_are_none_are_refused() {
    for lines in [
        "1a 1\n",
        "a-b 1\n",
        "a.b 1\n",
        "é 1\n",
        "\"a\" 1\n",
        "{} 1\n",
        "{b=\"c\"} 1\n",
        "{\"\"} 1\n",
        "{\"a\",\"b\"} 1\n",
        "a{\"b\"} 1\n",
        "a {b=\"c\"} 1\n",
        "a{ b=\"c\"} 1\n",
        "a{b =\"c\"} 1\n",
        "a{b= \"c\"} 1\n",
        "a{b=\"c\" } 1\n",
        "a{b=\"c\", d=\"e\"} 1\n",
        "a{b=\"c\"}1\n",
        "a{b=\"c\"}  1\n",
        "a{,} 1\n",
        "a{,b=\"c\"} 1\n",
        "a{b=\"c\",,} 1\n",
        "a{b=\"c\"d=\"e\"} 1\n",
        "a{b=\"c\"\n} 1\n",
        "a{b=\"c\n\"} 1\n",
        "a{b=\"c} 1\n",
        "a{b=c} 1\n",
        "a{b='c'} 1\n",
        "a{b} 1\n",
        "a{b=} 1\n",
        "a{=\"c\"} 1\n",
        "a{1b=\"c\"} 1\n",
        "a{b:c=\"d\"} 1\n",
        "a{b-c=\"d\"} 1\n",
        "a{é=\"d\"} 1\n",
        "a{\"\"=\"d\"} 1\n",
        "a{b=\"c\" 1\n",
        "a{b=\"c\\\"} 1\n",
        "a} 1\n",
        "a b\n",
        "a 0x1\n",
        "a 1_000\n",
        "a 1,5\n",
        "a 1e\n",
        "a e1\n",
        "a .\n",
        "a -\n",
        "a +-1\n",
        "a 1f\n",
        "a In\n",
        "a NaN1\n",
        "a true\n",
        "a \"1\"\n",
        "a 1 NaN\n",
        "a 1 Inf\n",
        "a 1 -Inf\n",
        "a 1 b\n",
        "a 1 0x1\n",
        "a 1 1_0\n",
        "a 1 2024-01-01\n",
        "a 1 1e300\n",
    ] {
        fails(lines);
    }
}

#[test]
fn exemplars_that_are_none_are_refused() {
    for exemplar in [
        " #",
        " # ",
        " # {",
        " # {}",
        " # {} ",
        " #{} 1",
        " #  {} 1",
        "# {} 1",
        "  # {} 1",
        " # {}1",
        " # {}  1",
        " # {} b",
        " # {} 1 ",
        " # {} 1 b",
        " # {} 1 NaN",
        " # {} 1 2 3",
        " # {} 1 # {} 1",
        " # 1",
        " # a 1",
        " # {b} 1",
        " # {\"b\"} 1",
        " # {b=c} 1",
        " # {b=\"c} 1",
        " # {b=\"c\" d=\"e\"} 1",
        " # {,} 1",
        " # {1b=\"c\"} 1",
        " {b=\"c\"} 1",
    ] {
        fails(&format!("a_total 1{exemplar}\n"));
        fails(&format!("a_total 1 2{exemplar}\n"));
    }
}

/// The specification asks consumers to refuse these; who does loses the pages of targets that nobody will mend.
#[test]
fn what_prometheus_reads_is_read_although_it_is_forbidden() {
    passes("# TYPE a counter\na 1\n", 1);
    passes("# TYPE a counter\na_total -1\na_total NaN\n", 2);
    passes("# TYPE a gauge\n# TYPE a gauge\n# HELP a b\n# HELP a c\na 1\n", 1);
    passes("a 1\n# TYPE a gauge\na 2\n", 2);
    passes("# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\na 2\n", 3);
    passes("# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"0.5\"} 3\na_sum -1\n", 3);
    passes("# TYPE a summary\na{quantile=\"2\"} -1\n", 1);
    passes("# TYPE a info\na_info 2\n# TYPE b stateset\nb{b=\"c\"} 3\n", 2);
    passes("# TYPE a gauge\na 1 # {} 1\n", 1);
    passes("a 1 5\na 1 4\n", 2);
    passes("a{b=\"c\",} 1\n", 1);
}
