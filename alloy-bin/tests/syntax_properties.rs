//! What holds for every text: nothing panics, and formatting changes white space only.

use alloy_bin::syntax::{Sources, format, parse};
use proptest::prelude::*;

/// The tree of a text without positions, or nothing if it has errors.
fn tree(text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let id = sources.add("test.alloy", text);
    let (file, diagnostics) = parse(&sources, id);
    let rendered = diagnostics.render(&sources);
    assert_eq!(diagnostics.is_empty(), rendered.is_empty());
    let mut out = String::new();
    let debug = format!("{file:?}");
    for (index, part) in debug.split("span: Span {").enumerate() {
        out += if index == 0 { part } else { part.split_once('}').map_or("", |(_, rest)| rest) };
    }
    diagnostics.is_empty().then_some(out)
}

fn formatted(text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let id = sources.add("test.alloy", text);
    format(&sources, id).ok()
}

fn check(text: &str) {
    let Some(before) = tree(text) else { return };
    let once = formatted(text).expect("what parses is formatted");
    assert_eq!(tree(&once).as_ref(), Some(&before), "formatting changed the meaning of\n{text}\nto\n{once}");
    assert_eq!(formatted(&once).as_ref(), Some(&once), "formatting is not stable for\n{text}");
    assert!(once.is_empty() || once.ends_with('\n'));
}

/// White space and comments that may stand between any two tokens of an expression inside brackets.
fn gap() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![8 => Just(" "), 2 => Just(""), 1 => Just("\t"), 1 => Just(" /* c */ "), 1 => Just("  ")]
}

/// The same where a line may end: after an opening bracket, a comma or an operator.
fn line_gap() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![
        4 => Just(" "),
        2 => Just("\n"),
        1 => Just("\n\n\n"),
        1 => Just(" // c\n"),
        1 => Just("\n // c\n\t"),
        1 => Just(" /* a\n b */")
    ]
}

fn name() -> impl Strategy<Value = String> {
    "[a-z_][a-z0-9_]{0,8}".prop_filter("not a keyword", |name| !["null", "true", "false"].contains(&&**name))
}

fn expression() -> impl Strategy<Value = String> {
    let operator = proptest::sample::select(vec!["+", "-", "*", "/", "%", "^", "==", "<", ">=", "&&", "||"]);
    let leaf = prop_oneof![
        name(),
        "[0-9]{1,20}",
        "[0-9]{1,3}\\.[0-9]{0,3}(e-?[0-9])?",
        "\"[ a-z0-9/:{}=]{0,8}\"",
        "`[ a-z\n\t]{0,8}`",
        Just("null".to_owned()),
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        let list = proptest::collection::vec((inner.clone(), gap(), line_gap()), 0..4);
        let fields = proptest::collection::vec((name(), gap(), inner.clone(), line_gap()), 0..4);
        let joined = |items: Vec<(String, &str, &str)>| -> String {
            items.into_iter().map(|(item, gap, line_gap)| format!("{item}{gap},{line_gap}")).collect()
        };
        prop_oneof![
            (inner.clone(), gap(), operator.clone(), line_gap(), inner.clone())
                .prop_map(|(a, gap, operator, line_gap, b)| format!("{a}{gap} {operator}{line_gap}{b}")),
            (inner.clone(), gap()).prop_map(|(a, gap)| format!("-{gap}{a}")),
            (inner.clone(), line_gap()).prop_map(|(a, line_gap)| format!("({line_gap}{a})")),
            (name(), name(), inner.clone()).prop_map(|(a, b, c)| format!("{a} . {b}[{c}]")),
            (name(), list.clone()).prop_map(move |(a, list)| format!("{a} ({})", joined(list))),
            (line_gap(), list).prop_map(move |(gap, list)| format!("[{gap}{}]", joined(list))),
            (line_gap(), fields).prop_map(|(gap, fields)| {
                let fields =
                    fields.into_iter().map(|(key, gap, value, end)| format!("{key}{gap}={value},{end}"));
                format!("{{{gap}{}}}", fields.collect::<String>())
            }),
        ]
    })
}

fn body() -> impl Strategy<Value = String> {
    let end = prop_oneof![Just("\n"), Just("\n\n\n"), Just(" // c\n"), Just("\r\n"), Just(" /* c\n*/ \n")];
    let attribute = (name(), gap(), expression(), end.clone())
        .prop_map(|(name, gap, value, end)| format!("{name}{gap}={gap}{value}{end}"));
    attribute.prop_recursive(4, 30, 5, move |inner| {
        let statements = proptest::collection::vec(inner, 0..5).prop_map(|statements| statements.concat());
        (name(), name(), prop_oneof![Just(" {"), Just(" { // c\n"), Just("{\n\n")], statements, end.clone())
            .prop_map(|(name, label, open, statements, end)| {
                format!("{name}.x \"{label}\"{open}{statements}}}{end}")
            })
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn no_row_of_tokens_panics(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "a", "b1", "1", "1.", ".5", "\"s\"", "\"", "`r`", "`", "=", ".", ",", "(", ")", "[", "]", "{", "}", "\n",
        "\n\n", "+", "-", "!", "==", "^", "// c\n", "/* c */", "/* c\n */", "/*", "null", " ", "\t", "\r\n", "'", "\\",
        "a = 1\n", "b {", "}\n", "\u{feff}", "\u{e4}", "@",
    ]), 0..24)) {
        check(&tokens.concat());
    }

    #[test]
    fn formatting_changes_white_space_only(text in body()) {
        prop_assert!(tree(&text).is_some(), "the generator writes valid text only:\n{}", text);
        check(&text);
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_stack_overflow() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{a=", "}"), ("a(", ")"), ("a[", "]"), ("-", ""), ("!", ""), ("2^", "")]
    {
        let nested = |levels: usize| format!("x = {}1{}", open.repeat(levels), close.repeat(levels));
        assert!(tree(&nested(40)).is_some(), "{open}");
        check(&nested(40));
        assert!(tree(&nested(100_000)).is_none(), "{open}");
    }
    assert!(tree(&format!("{}{}", "a {\n".repeat(90), "}\n".repeat(90))).is_some());
    assert!(tree(&"a {\n".repeat(100_000)).is_none());
}

#[test]
fn long_rows_are_not_deep() {
    check(&format!("x = 1{}", " + 1".repeat(50_000)));
    check(&format!("x = a{}", ".a".repeat(50_000)));
    check(&format!("x = [{}]", "1,".repeat(50_000)));
}
