//! What expressions mean.

use alloy_bin::config::{Scope, Secret, Value, evaluate, references, stdlib};
use alloy_bin::syntax::{Diagnostics, Sources, parse, parse_expression};
use std::sync::Arc;

fn scope() -> Scope {
    let mut scope = Scope::inside(Arc::new(stdlib("host1")));
    scope.set("obj", Value::object([("a", Value::from("x")), ("list", Value::array([true.into()]))]));
    scope.set("password", Value::Secret(Secret::new("hunter2")));
    scope.set("prometheus.remote_write.default", Value::object([("receiver", Value::from("R"))]));
    scope.set("local.file.key", Value::object([("content", Value::Secret(Secret::new("hunter2")))]));
    scope
}

/// The value as JSON, or the first line of the error from its column on, with the hint.
fn result(text: &str) -> String {
    let mut sources = Sources::default();
    let id = sources.add("t", text);
    let value = parse_expression(&sources, id)
        .and_then(|expression| evaluate(&expression, &scope()).map_err(Diagnostics::from));
    match value {
        Ok(value) => serde_json::to_string(&value).expect("values are JSON"),
        Err(diagnostics) => {
            let hint = diagnostics.iter().find_map(|diagnostic| diagnostic.hint.clone());
            let rendered = diagnostics.render(&sources);
            let first = rendered.lines().next().unwrap_or_default().trim_start_matches("Error: t:1:");
            hint.map_or(first.to_owned(), |hint| format!("{first} ({hint})"))
        }
    }
}

fn check(text: &str, expected: &str) {
    assert_eq!(result(text), expected, "{text}");
}

#[test]
fn literals_are_what_they_look_like() {
    check("null", "null");
    check("[true, false]", "[true,false]");
    check("18446744073709551615", "18446744073709551615");
    check("-9223372036854775808", "-9223372036854775808");
    check("1.5e-3", "0.0015");
    check(".5", "0.5");
    check("`a\\n`", "\"a\\\\n\"");
    check("{b = 1, \"a\" = {}, b = 2}", "{\"a\":{},\"b\":2}");
}

#[test]
fn operators_bind_as_in_arithmetic() {
    check("1 + 2 * 3 - 4", "3");
    check("2 ^ 3 ^ 2", "512");
    check("-2 ^ 2", "4");
    check("10 - 3 - 2", "5");
    check("(1 + 2) * 3", "9");
    check("7 / 2", "3");
    check("7 / 2.0", "3.5");
    check("7 % 4", "3");
    check("2 ^ -1", "0.5");
    check("9223372036854775807 + 1", "9223372036854775808");
    check("1 < 2 && 2 <= 2 || false", "true");
    check("!(1 > 2) == true", "true");
    check("\"a\" + \"b\" + \"c\"", "\"abc\"");
    check("\"a\" < \"b\"", "true");
}

#[test]
fn nothing_converts_inside_an_operator() {
    check("3 == 3.0", "true");
    check("3 == \"3\"", "false");
    check("null != false", "true");
    check("[1, {a = 2}] == [1.0, {a = 2}]", "true");
    check("1 + \"1\"", "1: operator + can't be used with number and string");
    check("\"a\" * 2", "1: operator * can't be used with string and number");
    check("true && 1", "1: operator && can't be used with bool and number");
    check("-\"a\"", "1: expected number, got string");
    check("!1", "1: expected bool, got number");
}

#[test]
fn both_sides_of_an_operator_are_evaluated() {
    check("true || 1 / 0 == 1", "9: division by zero");
    check("false && nothing", "10: identifier \"nothing\" does not exist or is out of scope");
}

#[test]
fn errors_point_at_the_offending_part() {
    check("1 + 4 % 0", "5: division by zero");
    check("1 / 0.0", "1: division by zero");
    check("obj.lst", "5: field \"lst\" does not exist (did you mean \"list\"?)");
    check("obj[\"missing\"]", "null");
    check("obj.a.b", "7: can't access field \"b\" of string");
    check("obj.list[1]", "10: index 1 is out of range of an array of 1");
    check("obj.list[-1]", "10: index -1 is out of range of an array of 1");
    check("obj.list[0.5]", "10: index 0.5 is out of range of an array of 1");
    check("obj.list[\"0\"]", "10: expected number, got string");
    check("obj[0]", "5: expected string, got number");
    check("1[0]", "3: expected object or array, got number");
    check("obj()", "1: expected function, got object");
}

#[test]
fn references_resolve_by_the_longest_name() {
    check("prometheus.remote_write.default.receiver", "\"R\"");
    check(
        "prometheus.remote_write.defalt.receiver",
        "1: component \"prometheus.remote_write.defalt.receiver\" does not exist or is out of scope \
         (did you mean \"prometheus.remote_write.default\"?)",
    );
    check("objj", "1: identifier \"objj\" does not exist or is out of scope (did you mean \"obj\"?)");
    let mut scope = scope();
    scope.remove("obj");
    assert!(scope.resolve(&["obj"]).is_none());
    assert_eq!(scope.resolve(&["constants", "hostname"]).map(|(parts, _)| parts), Some(1));
}

#[test]
fn secrets_stay_secret() {
    check("password", "\"(secret)\"");
    check("\"Bearer \" + password", "\"(secret)\"");
    check("[{a = local.file.key.content}]", "[{\"a\":\"(secret)\"}]");
    check("convert.nonsensitive(password)", "\"hunter2\"");
    const HINT: &str = "convert.nonsensitive(...) makes a string of a secret";
    check("string.to_upper(password)", &format!("17: string.to_upper: expected string, got secret ({HINT})"));
    check(
        "string.format(\"%s\", password)",
        &format!("21: string.format: expected string, got secret ({HINT})"),
    );
    check(
        "string.join([\"a\", password], \"\")",
        &format!("13: string.join: [1]: expected string, got secret ({HINT})"),
    );
    check(
        "encoding.from_json(password)",
        &format!("20: encoding.from_json: expected string, got secret ({HINT})"),
    );
    check("coalesce(\"\", password)", "\"(secret)\"");
    check("array.concat([password])", "[\"(secret)\"]");
    check("obj[password]", "5: expected string, got secret");
    check("encoding.to_json({a = password})", "18: encoding.to_json: a secret can't be written as JSON");
    check("password == \"hunter2\"", "false");
    assert_eq!(format!("{:?}", scope()).matches("hunter2").count(), 0);
}

#[test]
fn the_standard_library_does_what_its_names_say() {
    check("constants.hostname", "\"host1\"");
    check("constants.os == \"\"", "false");
    check("sys.env(\"ALLOY_TEST_NOT_SET\")", "\"\"");
    check("env(\"CARGO_PKG_NAME\") == sys.env(\"CARGO_PKG_NAME\")", "true");
    check("coalesce(null, \"\", 0, [], \"x\", \"y\")", "\"x\"");
    check("coalesce(null, \"\")", "\"\"");
    check("coalesce()", "null");
    check("array.concat([1], [], [2, 3])", "[1,2,3]");
    check("concat([1], 2)", "13: array.concat: expected array, got number");
    check("encoding.from_json(`{\"a\": [1, 2.5, null]}`)", "{\"a\":[1,2.5,null]}");
    check("encoding.from_yaml(\"a: [1, x]\")", "{\"a\":[1,\"x\"]}");
    check("encoding.to_json({b = [1, true]})", "\"{\\\"b\\\":[1,true]}\"");
    check("file.path_join(\"/a/\", \"../b\", \"./c\")", "\"/b/c\"");
    check("file.path_join(\"a\", \"..\")", "\".\"");
    check("file.path_join()", "\"\"");
    check("string.join([\"a\", 1], \",\")", "\"a,1\"");
    check("replace(\"aXbX\", \"X\", \"-\")", "\"a-b-\"");
    check("string.split(\"a,b\", \",\")", "[\"a\",\"b\"]");
    check("split(\"ab\", \"\")", "[\"a\",\"b\"]");
    check("string.to_lower(\"AB\") + to_upper(\"c\")", "\"abC\"");
    check("string.trim(\"?!x!?\", \"!?\")", "\"x\"");
    check("string.trim_prefix(\"abc\", \"a\") + trim_suffix(\"abc\", \"x\")", "\"bcabc\"");
    check("string.trim_space(\" a\\n\")", "\"a\"");
    check("string.trim(\"a\")", "1: string.trim: expected 2 arguments, got 1");
    check("string.fromat(\"a\")", "8: field \"fromat\" does not exist (did you mean \"format\"?)");
    assert!(result("encoding.from_json(\"{\")").starts_with("20: encoding.from_json: not JSON: "));
}

#[test]
fn lists_of_objects_are_joined_and_grouped() {
    const HOSTS: &str = r#"[{i = "1", team = "A"}, {i = "2", team = "B"}, {team = "C"}]"#;
    const INFO: &str = r#"[{i = "1", team = "X"}, {i = "1", dc = "y"}, {i = 2}, {dc = "z"}]"#;
    check(
        &format!("array.combine_maps({HOSTS}, {INFO}, [\"i\"])"),
        r#"[{"i":"1","team":"X"},{"dc":"y","i":"1","team":"A"}]"#,
    );
    check(
        &format!("array.combine_maps({HOSTS}, {INFO}, [\"i\"], true)"),
        r#"[{"i":"1","team":"X"},{"dc":"y","i":"1","team":"A"},{"i":"2","team":"B"},{"team":"C"}]"#,
    );
    check(
        "array.combine_maps([{a = 1, b = 2}], [{a = 1.0, b = 3}, {a = 1, b = 2, c = 4}], [\"a\", \"b\"])",
        r#"[{"a":1,"b":2,"c":4}]"#,
    );
    check("array.combine_maps([], [], [])", "28: array.combine_maps: names no field to compare");
    check("array.combine_maps([], [])", "1: array.combine_maps: expected 3 arguments, got 2");
    check(
        "array.combine_maps([{}], [1], [\"a\"])",
        "26: array.combine_maps: [0]: expected object, got number",
    );
    check(
        &format!("array.group_by({HOSTS}, \"i\", false)"),
        r#"[{"i":"1","items":[{"i":"1","team":"A"}]},{"i":"2","items":[{"i":"2","team":"B"}]},{"i":"","items":[{"team":"C"}]}]"#,
    );
    check("array.group_by([{a = \"x\"}, {b = 1}], \"a\", true)", r#"[{"a":"x","items":[{"a":"x"}]}]"#);
    check(
        "array.group_by([{a = 1}], \"a\", true)",
        "16: array.group_by: [0][a]: expected string, got number",
    );
}

#[test]
fn texts_are_encoded_and_decoded() {
    check("encoding.from_base64(\"dGFuZ2VyaW5l\") + base64_decode(\"IQ==\")", "\"tangerine!\"");
    check("encoding.to_base64(\"string123!?$*&()'-=@~\")", "\"c3RyaW5nMTIzIT8kKiYoKSctPUB+\"");
    check("encoding.to_URLbase64(\"string123!?$*&()'-=@~\")", "\"c3RyaW5nMTIzIT8kKiYoKSctPUB-\"");
    check("encoding.from_URLbase64(\"c3RyaW5nMTIzIT8kKiYoKSctPUB-\")", "\"string123!?$*&()'-=@~\"");
    check("encoding.from_base64(\"/w==\")", "22: encoding.from_base64: what it decodes to is not text");
    assert!(result("encoding.from_base64(\"*\")").starts_with("22: encoding.from_base64: not base64: "));
    check(
        "encoding.url_encode(\"string123!?$*&()'-=@~ \u{e4}\")",
        "\"string123%21%3F%24%2A%26%28%29%27-%3D%40~+%C3%A4\"",
    );
    check("encoding.url_decode(\"a%21+b%2b\")", "\"a! b+\"");
    check("encoding.url_decode(\"a%2\")", "21: encoding.url_decode: invalid escape \"%2\"");
    check("encoding.url_decode(\"%ff\")", "21: encoding.url_decode: what it decodes to is not text");
    check("json_path(`{\"a\": {\"b\": [1, {\"c\": \"x\"}]}}`, \".a.b[1].c\")", "[\"x\"]");
    check("json_path(`{\"a\": {\"b\": [1, 2]}}`, \"$.a.b[*]\")", "[1,2]");
    check("json_path(`[{\"k\": 1}, {\"k\": 2}]`, \"$[?(@.k == 2)].k\")", "[2]");
    check("json_path(`{\"a\": 1}`, \"b\")", "[]");
    assert!(
        result("json_path(`{}`, \"$[\")").starts_with("17: json_path: not a JSONPath such as \"$.a[0].b\": ")
    );
    assert!(result("json_path(\"{\", \"a\")").starts_with("11: json_path: not JSON: "));
    assert!(result("encoding.from_yaml(\"a: [\")").starts_with("20: encoding.from_yaml: not YAML: "));
}

#[test]
fn deprecated_names_are_the_same_functions() {
    for (old, new) in [
        ("env", "sys.env"),
        ("nonsensitive", "convert.nonsensitive"),
        ("concat", "array.concat"),
        ("json_decode", "encoding.from_json"),
        ("yaml_decode", "encoding.from_yaml"),
        ("base64_decode", "encoding.from_base64"),
        ("format", "string.format"),
        ("join", "string.join"),
        ("replace", "string.replace"),
        ("split", "string.split"),
        ("to_lower", "string.to_lower"),
        ("to_upper", "string.to_upper"),
        ("trim", "string.trim"),
        ("trim_prefix", "string.trim_prefix"),
        ("trim_suffix", "string.trim_suffix"),
        ("trim_space", "string.trim_space"),
    ] {
        check(&format!("{old} == {new}"), "true");
    }
}

#[test]
fn an_expression_makes_no_more_than_its_share_of_memory() {
    const LARGE: &str = "the result is too large: an expression may make 128 MiB";
    let doubled = (0..60).fold("\"a\"".to_owned(), |text, _| format!("replace({text}, \"a\", \"aa\")"));
    assert!(result(&doubled).ends_with(LARGE), "{}", result(&doubled));
    let escaped = (0..60).fold("`\\`".to_owned(), |text, _| format!("encoding.to_json({text})"));
    assert!(result(&escaped).ends_with(LARGE), "{}", result(&escaped));
    let joined = format!("join(split(\"{}\", \",\"), \"{}\")", ",".repeat(20_000), "x".repeat(20_000));
    assert!(result(&joined).ends_with(LARGE), "{}", result(&joined));
    let list = format!("[{}]", "{a = 1},".repeat(4_000));
    let product = format!("array.combine_maps({list}, {list}, [\"a\"])");
    assert!(result(&product).ends_with(LARGE));
}

#[test]
fn format_knows_the_verbs_of_go() {
    check(
        "string.format(\"%s-%03d|%5.1f|%-3s|%+d|%x|%q|%t|%v|100%%\", \"a\", 7, 2.25, \"b\", 1, 255, \"c\", true, 1)",
        "\"a-007|  2.2|b  |+1|ff|\\\"c\\\"|true|1|100%\"",
    );
    check("string.format(\"%.2s\", \"abc\")", "\"ab\"");
    check("string.format(\"%s\")", "15: string.format: the format needs more than the 0 values given");
    check("string.format(\"x\", 1)", "20: string.format: the format uses 0 values only");
    check("string.format(\"%z\", 1)", "15: string.format: the format's verb %z is unknown");
    check("string.format(\"%\")", "15: string.format: the format ends inside a verb");
    check("string.format(\"%d\", \"x\")", "21: string.format: expected number, got string");
}

#[test]
fn references_are_found_everywhere_with_their_spans() {
    let text =
        "a = b.c[d.e](f + -g, [h], {i = j})\nk {\n\tl = (m.n[0].o)\n}\np = \"q\".r\n".replace(".r", "");
    let mut sources = Sources::default();
    let id = sources.add("t", text.clone());
    let (file, diagnostics) = parse(&sources, id);
    assert!(diagnostics.is_empty());
    let found: Vec<String> = references(&file.statements)
        .iter()
        .map(|reference| {
            assert_eq!(&text[reference.span.start..reference.span.end], reference.path.join("."));
            reference.path.join(".")
        })
        .collect();
    assert_eq!(found, ["b.c", "d.e", "f", "g", "h", "j", "m.n"]);
}
