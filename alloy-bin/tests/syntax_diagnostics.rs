//! The exact text of messages about text that can't be parsed.

use alloy_bin::syntax::{Diagnostic, Diagnostics, Severity, Sources, Span, parse};

fn check(text: &str, expected: &str) {
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", text);
    let (_, diagnostics) = parse(&sources, id);
    assert_eq!(diagnostics.render(&sources), expected, "{text}");
}

/// Only the first line of each message.
fn check_messages(text: &str, expected: &[&str]) {
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", text);
    let (_, diagnostics) = parse(&sources, id);
    let rendered = diagnostics.render(&sources);
    let messages: Vec<&str> =
        rendered.lines().filter_map(|line| line.strip_prefix("Error: main.alloy:")).collect();
    assert_eq!(messages, expected, "{text}");
}

#[test]
fn a_message_shows_the_lines_around_it() {
    check(
        "logging {\n\tlevel = \"debug\n}\n",
        "\
Error: main.alloy:2:10: string literal not terminated

1 | logging {
2 |     level = \"debug
  |             ^^^^^^
3 | }
",
    );
    check(
        "a = \n",
        "\
Error: main.alloy:1:4: expected an expression, got the end of the file

1 | a = 
  |    ^
",
    );
}

#[test]
fn a_span_of_several_lines_is_framed() {
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", "a {\n\tb = [\n\t\t1,\n\t]\n}\n");
    let span = Span { source: id, start: 9, end: 18 };
    let mut diagnostics = Diagnostics::from(Diagnostic::warning(span, "odd"));
    assert!(!diagnostics.has_errors());
    assert_eq!(diagnostics.iter().next().map(|diagnostic| diagnostic.severity), Some(Severity::Warning));
    assert_eq!(
        diagnostics.render(&sources),
        "\
Warning: main.alloy:2:6: odd

1 |   a {
2 |       b = [
  |  _________^
3 | |         1,
4 | |     ]
  | |_____^
5 |   }
"
    );
    let long = sources.add("long.alloy", format!("[\n{}]", "1,\n".repeat(20)));
    diagnostics = Diagnostic::error(Span { source: long, start: 0, end: 63 }, "long").into();
    assert_eq!(
        diagnostics.render(&sources),
        "\
Error: long.alloy:1:1: long

 1 |   [
   |  _^
 2 | | 1,
   | | ...
21 | | 1,
22 | | ]
   | |_^
"
    );
}

#[test]
fn messages_of_all_files_are_sorted_and_their_number_is_bounded() {
    let mut sources = Sources::default();
    let one = sources.add("1.alloy", "a = 1\nb = \"\u{e4}\" c\n");
    let two = sources.add("2.alloy", "@\n".repeat(100));
    let mut diagnostics = parse(&sources, two).1;
    diagnostics.extend(parse(&sources, one).1);
    let text = diagnostics.render(&sources);
    assert!(text.starts_with("Error: 1.alloy:2:9: expected a new line, got c\n"), "{text}");
    assert!(text.ends_with("\n... and 61 more\n"), "{text}");
}

#[test]
fn several_errors_are_reported_at_once_and_one_per_line() {
    check_messages(
        "a = 1 +\n}\nb = ]\nc \"x y\" {\n\td = (1\n\te = @ @\n}\nf = 30s\n",
        &[
            "2:1: expected an expression, got \"}\"",
            "3:5: expected an expression, got \"]\"",
            "4:3: expected block label to be a valid identifier, got \"x y\"",
            "5:8: expected \")\", got the end of the line",
            "6:6: illegal character '@' (U+0040)",
            "8:5: invalid number 30s",
        ],
    );
}

#[test]
fn the_reader_learns_what_was_expected() {
    check_messages("a.b = 1", &["1:1: attribute names can't contain dots"]);
    check_messages("a b {}", &["1:3: a block's label is a string in double quotes"]);
    check_messages("a", &["1:2: expected \"=\", \"{\" or a block's label, got the end of the line"]);
    check_messages("a \"b\"", &["1:6: expected \"{\", got the end of the line"]);
    check_messages("a `b` {}", &["1:3: expected \"=\", \"{\" or a block's label, got a string"]);
    check_messages("a {\n", &["1:4: expected \"}\", got the end of the file"]);
    check_messages("}", &["1:1: expected a name, got \"}\""]);
    check_messages("a = 1 b = 2", &["1:7: expected a new line, got b"]);
    check_messages("a = b {}", &["1:5: can't use a block as an expression"]);
    check_messages("a = 'x'", &["1:5: illegal single-quoted string; use double quotes"]);
    check_messages(
        "a = [\n\t1,\n\t2\n]\nb = @",
        &["3:2: missing ',' at the end of the line", "5:5: illegal character '@' (U+0040)"],
    );
    check_messages(
        "a = {\n\tb = 1\n\tc = 2\n}",
        &["2:6: missing ',' at the end of the line", "3:6: missing ',' at the end of the line"],
    );
    check_messages("a = [1 2]", &["1:8: expected ',' or the closing bracket, got a number"]);
    check_messages("a = [1", &["1:7: expected ',' or the closing bracket, got the end of the line"]);
    check_messages("a = \"\\d\"", &["1:6: unknown escape sequence"]);
    check_messages("a = 1 /* x", &["1:7: block comment not terminated"]);
    check_messages("a = `x", &["1:5: raw string literal not terminated"]);
    check_messages("a = true.x", &["1:9: a literal has no fields"]);
    check_messages("true = 1", &["1:1: expected a name, got true"]);
}

#[test]
fn an_open_bracket_does_not_hide_the_errors_below_it() {
    check_messages(
        "a {\n\tb = [1, )\n}\nc \"d\" {\n\te = @\n}\n",
        &["2:10: expected an expression, got \")\"", "5:6: illegal character '@' (U+0040)"],
    );
}

#[test]
fn literals_are_checked_to_the_letter() {
    check_messages("a = \"\\x4\"", &["1:6: \\x needs two hexadecimal digits"]);
    check_messages("a = \"b\\400\"", &["1:7: an octal escape needs three digits up to \\377"]);
    check_messages("a = \"\\ud800\"", &["1:6: escape is not a Unicode code point"]);
    check_messages("a = 0x10", &["1:5: invalid number 0x10"]);
    check_messages("a = 1_000", &["1:5: invalid number 1_000"]);
    check_messages("a = 1e", &["1:5: invalid number 1e"]);
    check_messages("a = 1e999", &["1:5: number is out of range"]);
    check_messages("a = 1.2.3", &["1:8: expected a new line, got a number"]);
    check_messages("a = \u{201c}x\u{201d}", &["1:5: illegal character '\u{201c}' (U+201C)"]);
    check_messages("a = 1;", &["1:6: illegal character ';' (U+003B)"]);
    check_messages("# a", &["1:1: illegal character '#' (U+0023)"]);
    check_messages("a = b & c", &["1:7: illegal character '&' (U+0026)"]);
    check_messages("a = 1\n\u{feff}b = 2", &["2:1: illegal character '\\u{feff}' (U+FEFF)"]);
}

#[test]
fn brackets_and_suffixes_are_checked_to_the_letter() {
    check_messages("a = b.1", &["1:6: expected a new line, got a number"]);
    check_messages("a = b.[1]", &["1:7: expected a field's name, got \"[\""]);
    check_messages("a = b[1", &["1:8: expected \"]\", got the end of the line"]);
    check_messages("a = f(1", &["1:8: expected ',' or the closing bracket, got the end of the line"]);
    check_messages("a = {b: 1}", &["1:7: illegal character ':' (U+003A)"]);
    check_messages("a = {1 = 2}", &["1:6: expected a field's name, got a number"]);
    check_messages("a = {b 1}", &["1:8: expected \"=\", got a number"]);
    check_messages("a = -", &["1:6: expected an expression, got the end of the file"]);
    check_messages("a = 1 == = 2", &["1:10: expected an expression, got \"=\""]);
    check_messages("a.b. {}", &["1:6: expected a name, got \"{\""]);
    check_messages(&format!("a = {}", "(".repeat(200)), &["1:105: nested more than 100 levels deep"]);
    check_messages(&"a { ".repeat(200), &["1:403: nested more than 100 levels deep"]);
}

#[test]
fn secrets_in_the_text_are_not_shown() {
    check(
        "endpoint {\n\tpassword = \"hunter2\" x\n\tbearer_token = sys.env(\"TOKEN\") + \"hunter2\"\n}\n",
        "\
Error: main.alloy:2:23: expected a new line, got x

1 | endpoint {
2 |     password = \"*******\" x
  |                          ^
3 |     bearer_token = sys.env(\"TOKEN\") + \"*******\"
",
    );
}

#[test]
fn of_a_very_long_line_the_part_round_the_error_is_shown() {
    let text = format!("a = [{}@]\n", "\"abcdefgh\", ".repeat(1000));
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", text);
    let rendered = parse(&sources, id).1.render(&sources);
    let lines: Vec<&str> = rendered.lines().collect();
    assert_eq!(lines[0], "Error: main.alloy:1:12006: illegal character '@' (U+0040)");
    assert!(lines.iter().all(|line| line.len() < 260), "{rendered}");
    let caret = lines[3].find('^').expect("a caret");
    assert_eq!(&lines[2][caret..=caret], "@");
}
