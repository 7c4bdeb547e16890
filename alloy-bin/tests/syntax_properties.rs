//! What holds for every text: nothing panics, formatting changes no meaning, no secret is printed, and time grows
//! with the length.

use alloy_bin::testing::language::{check_evaluation, check_syntax as check, tree};
use alloy_bin::testing::worked;
use proptest::prelude::*;

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
    fn formatting_changes_no_meaning(text in body()) {
        prop_assert!(tree(&text).is_some(), "the generator writes valid text only:\n{}", text);
        check(&text);
    }

    #[test]
    fn a_planted_secret_is_never_printed(attributes in proptest::collection::vec((attribute_name(), secret_expression()), 1..6)) {
        let lines: String = attributes.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        check_evaluation(&lines);
        check_evaluation(&format!("block {{\n{lines}}}\n"));
    }
}

fn attribute_name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "text",
        "secret",
        "number",
        "ratio",
        "flag",
        "duration",
        "size",
        "list",
        "map",
        "any",
        "elsewhere",
        "unknown",
    ])
}

/// Expressions in which a secret meets every operator, suffix and function.
fn secret_expression() -> impl Strategy<Value = String> {
    let functions = vec![
        "array.concat",
        "array.combine_maps",
        "array.group_by",
        "coalesce",
        "encoding.from_base64",
        "encoding.from_json",
        "encoding.from_yaml",
        "encoding.to_base64",
        "encoding.to_json",
        "encoding.url_encode",
        "encoding.url_decode",
        "file.path_join",
        "json_path",
        "string.format",
        "string.join",
        "string.replace",
        "string.split",
        "string.to_lower",
        "string.trim",
        "string.trim_prefix",
        "sys.env",
        "planted.secret",
    ];
    let leaf = proptest::sample::select(vec![
        "planted.secret",
        "planted.list",
        "planted",
        "\"%s\"",
        "\"a\"",
        "\"\"",
        "1",
        "true",
        "null",
        "\"$.a\"",
        "[\"a\"]",
        "planted.list[0]",
        "planted.secret.x",
        "planted.list[planted.secret]",
        "planted[planted.secret]",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 20, 3, move |inner| {
        let arguments = proptest::collection::vec(inner.clone(), 0..4).prop_map(|list| list.join(", "));
        let operator = proptest::sample::select(vec!["+", "-", "*", "==", "<", "&&", "^"]);
        prop_oneof![
            (proptest::sample::select(functions.clone()), arguments)
                .prop_map(|(name, list)| format!("{name}({list})")),
            (inner.clone(), operator, inner.clone())
                .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.clone().prop_map(|a| format!("[{a}]")),
            inner.prop_map(|a| format!("{{a = {a}}}")),
        ]
    })
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

/// Texts that would cost the square of their length if something looked back over all of it.
#[test]
fn time_grows_with_the_length_of_the_text() {
    type Trap = (&'static str, fn(usize) -> String);
    let traps: &[Trap] = &[
        ("attributes", |n| (0..n).map(|i| format!("a{i} = {i}\n")).collect()),
        ("one line", |n| format!("x = [{}]", "\"abcdef\", ".repeat(n))),
        ("fields", |n| format!("x = a{}", ".abc".repeat(n))),
        ("operators", |n| format!("x = 1{}", " + 1".repeat(n))),
        ("a long name", |n| format!("{} = 1", "abcdefgh".repeat(n))),
        ("errors", |n| "a = ]\n".repeat(n)),
        ("errors in one line", |n| format!("x = {}", "@ ".repeat(n))),
        ("open brackets", |n| "\ta = [1 2\n".repeat(n)),
        ("open blocks", |n| "\ta {\n".repeat(n)),
        ("comments", |n| "// x\n".repeat(n)),
        ("comments behind", |n| "a = 1 // x\n".repeat(n)),
        ("comments in a line", |n| format!("x = [{}]", "/* x */ 1, ".repeat(n))),
        ("opened comments", |n| format!("x = 1 {}", "/*".repeat(n))),
        ("opened strings", |n| "\"\n`\n".repeat(n)),
        ("blocks", |n| "a \"b\" {\n\tc = 1\n\n\td { }\n}\n".repeat(n)),
        ("one attribute again and again", |n| "text = 1\n".repeat(n)),
    ];
    for (name, trap) in traps {
        let took = |n: usize| {
            let text = trap(n);
            // The best of a few, since other tests take turns with this one in the processor's caches.
            (0..3)
                .map(|_| {
                    let start = worked();
                    check(&text);
                    check_evaluation(&text);
                    worked() - start
                })
                .min()
                .expect("three runs")
        };
        let (short, long) = (took(2_000), took(32_000));
        // 16 times the text: 16 times the time if it is linear, 256 times if it is quadratic.
        let allowed = short * 80 + std::time::Duration::from_millis(50);
        assert!(long < allowed, "{name}: {short:?} for 2,000 and {long:?} for 32,000");
    }
}
