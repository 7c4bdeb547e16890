//! Everything that is wrong with a configuration is said at once, without anything being made.

use super::*;
use crate::testing::worked;

/// Errors of a configuration by their first lines.
fn check_plan(text: &str, expected: &[&str]) {
    let errors = World::new(text).check().err().unwrap_or_default();
    assert_eq!(headlines(&errors), expected, "{text}\n{errors}");
}

#[tokio::test]
async fn everything_that_cannot_be_built_is_said_at_once_and_what_was_built_is_dropped() {
    let text = r#"
test.node "f" { }
test.node "a" { behaviour = "fail" }
test.node "b" { inputs = [test.node.a.value] }
test.node "c" { inputs = [test.node.f.list[0]] }
"#;
    let mut world = World::new(text);
    world.check().expect("only making it shows that it is wrong");
    let errors = world.try_build().await.expect_err("most of it is wrong");
    let expected = [
        "main.alloy:3:1: test.node.a: cannot be built",
        "main.alloy:5:44: index 0 is out of range of an array of 0",
    ];
    assert_eq!(headlines(&errors), expected, "{errors}");
    assert_eq!(world.journal.take(), ["build f []", "build a []", "drop f"]);
}

#[test]
fn a_cycle_is_found_whatever_leads_to_it() {
    let node =
        |name: &str, needs: &str| format!("test.node {name:?} {{ inputs = [test.node.{needs}.value] }}\n");
    check_plan(&node("a", "a"), &["main.alloy:1:27: cannot reference self"]);
    let two = node("a", "b") + &node("b", "a");
    check_plan(&two, &["main.alloy:1:1: cycle detected: test.node.a, test.node.b"]);
    let tail = node("t", "a") + &node("a", "b") + &node("b", "c") + &node("c", "a");
    check_plan(&tail, &["main.alloy:2:1: cycle detected: test.node.a, test.node.b, test.node.c"]);
}

#[test]
fn everything_that_is_wrong_with_the_names_is_said_at_once() {
    check_plan(
        "logging { }\ntest.node \"a\" { inputs = [test.other.b.value, sys.env(\"X\")] }\ntest.node \"a\" { }\n\
         test.nod \"x\" { }\ntest.node { }\nlevel = 1\nlogging { }\n",
        &[
            "main.alloy:2:27: component \"test.other.b.value\" does not exist or is out of scope",
            "main.alloy:3:1: block test.node.a already declared at main.alloy:2:1",
            "main.alloy:4:1: cannot find the definition of component name \"test.nod\"",
            "main.alloy:5:1: component \"test.node\" must have a label",
            "main.alloy:6:1: unrecognized attribute name \"level\"",
            "main.alloy:7:1: block logging already declared at main.alloy:1:1",
        ],
    );
}

#[test]
fn what_is_known_only_at_run_time_is_no_error() {
    for inputs in [
        "[test.node.a.value + 1, -test.node.a.value]",
        "test.node.a.list",
        "[test.node.a.list[3]]",
        "[test.node.a.list[0][\"size\"], encoding.from_json(test.node.a.value).deep.er[2]]",
        "array.concat(test.node.a.list, [1])",
        "[coalesce(test.node.a.value, 13)]",
        "[string.format(\"%d\", test.node.a.value)]",
        "[test.node.a[\"value\"]]",
    ] {
        check_plan(&format!("test.node \"a\" {{ }}\ntest.node \"b\" {{ inputs = {inputs} }}"), &[]);
    }
    // Nor is what follows from it.
    check_plan(
        r#"
        import.string "m" { content = test.node.a.value }
        m.anything "x" { input = test.node.a.value }
        test.node "a" { }
        test.node "b" { inputs = [m.anything.x.output] }
        foreach "f" {
            collection = test.node.a.list
            var        = "item"
            template {
                test.node "n" { inputs = [item["size"], test.node.a.value, m.anything.x.output] }
            }
        }
        "#,
        &[],
    );
}

#[test]
fn everything_that_is_wrong_with_values_is_said_at_once_also_behind_other_errors() {
    check_plan(
        r#"test.node "a" { input = [1] }
test.node "b" { inputs = [test.node.a.values] }
test.node "c" { inputs = test.node.b.value }
test.node "d" { inputs = [13] }
test.node "e" { inputs = [test.node.d.list] }
test.node "f" { inputs = [test.node.nowhere.value, "x"] }
test.node "g" {
    behaviour = test.node.f.value
    behaviour = []
    extra { }
}
"#,
        &[
            "main.alloy:1:17: unrecognized attribute name \"input\"",
            "main.alloy:2:39: field \"values\" does not exist",
            "main.alloy:3:26: expected array, got number",
            "main.alloy:4:26: 13 is never right",
            "main.alloy:5:27: expected number, got array",
            "main.alloy:6:27: component \"test.node.nowhere.value\" does not exist or is out of scope",
            "main.alloy:9:5: attribute \"behaviour\" may only be set once",
            "main.alloy:10:5: unrecognized block name \"extra\"",
        ],
    );
}

#[test]
fn what_is_wrong_with_modules_is_said_where_it_is() {
    check_plan(
        r#"declare "m" {
    argument "needed" { }
    argument "free" { optional = true }
    argument { }
    test.node "a" { inputs = [argument.needed.value, argument.other.value] }
    test.node "b" { inputs = [test.node.outside.value] }
    export "out" { value = test.node.a.value }
    logging { }
}
test.node "outside" { inputs = [m.x.out, m.x.output] }
m "x" { fre = 1 }
m { needed = 1 }
argument "here" { }
export "here" { value = 1 }
declare "unused" { test.node "n" { inputs = 5 } }
declare "m" { }
"#,
        &[
            "main.alloy:4:5: block \"argument\" must have a label",
            "main.alloy:5:54: component \"argument.other.value\" does not exist or is out of scope",
            "main.alloy:6:31: component \"test.node.outside.value\" does not exist or is out of scope",
            "main.alloy:8:5: block \"logging\" does not belong here",
            "main.alloy:10:46: field \"output\" does not exist",
            "main.alloy:11:1: missing required attribute \"needed\"",
            "main.alloy:11:9: unrecognized attribute name \"fre\"",
            "main.alloy:12:1: component \"m\" must have a label",
            "main.alloy:13:1: block \"argument\" does not belong here",
            "main.alloy:14:1: block \"export\" does not belong here",
            "main.alloy:15:45: expected array, got number",
            "main.alloy:16:1: block declare.m already declared at main.alloy:1:1",
        ],
    );
}

#[test]
fn modules_without_an_end_are_refused() {
    check_plan("declare \"a\" { a \"x\" { } }", &["main.alloy:1:15: a.x uses itself"]);
    let text = "declare \"a\" { b \"x\" { }\n b \"y\" { } }\ndeclare \"b\" { a \"z\" { } }";
    check_plan(
        text,
        &[
            "main.alloy:1:15: b.x uses itself",
            "main.alloy:2:2: b.y uses itself",
            "main.alloy:3:15: a.z uses itself",
        ],
    );
    // Each of forty uses the next one twice: 2^40 in all.
    let mut text = String::from("declare \"m40\" { }\n");
    for level in 0..40 {
        let next = level + 1;
        text += &format!("declare \"m{level}\" {{ m{next} \"x\" {{ }}\n m{next} \"y\" {{ }} }}\n");
    }
    let errors = World::new(&text).check().expect_err("it does not fit");
    assert!(errors.contains("lies in more than 32 modules"), "{errors}");
}

#[test]
fn what_is_wrong_with_imports_and_templates_is_said_where_it_is() {
    let world = World::new(
        r#"import.file "gone" { filename = "$HERE/gone.alloy" }
import.file "lib" { filename = "$HERE/lib.alloy" }
import.string "text" { content = "declare \"x\" {" }
import.http "far" { url = "ftp://host/m.alloy" }
import.git "git" { }
lib.ok "a" { }
lib.okay "b" { }
foreach "f" {
    collection = [1]
    var        = "item"
    template {
        test.node "n" { inputs = [item, nothing] }
    }
}
foreach "g" {
    collection = 5
    var        = "1"
}
test.node "t" { inputs = [foreach.f.x] }
livedebugging { enabled = 3 }
logging { level = "loud" }
"#,
    );
    world.write("lib.alloy", "declare \"ok\" { test.node \"n\" { inputs = 5 } }\ntest.node \"top\" { }\n");
    let errors = world.check().expect_err("much is wrong");
    let expected = [
        "main.alloy:1:1: import.file.gone: cannot read the configuration gone.alloy: No such file or directory (os error 2)",
        "main.alloy:4:27: \"ftp://host/m.alloy\" is not a URL such as \"https://host:9090/path\"",
        "main.alloy:5:1: block \"import.git\" is known to Alloy but not supported here",
        "main.alloy:7:1: cannot find the definition of component name \"lib.okay\"",
        "main.alloy:12:41: identifier \"nothing\" does not exist or is out of scope",
        "main.alloy:15:1: missing required block \"template\"",
        "main.alloy:16:18: expected array, got number",
        "main.alloy:17:18: \"1\" is not a name",
        "main.alloy:19:27: component \"foreach.f.x\" does not exist or is out of scope",
        "main.alloy:20:27: expected bool, got number",
        "main.alloy:21:19: expected one of \"error\", \"warn\", \"info\", \"debug\", got \"loud\"",
        "lib.alloy:1:41: expected array, got number",
        "lib.alloy:2:1: component \"test.node\" stands in a module that is imported",
        "import.string.text: content:1:14: expected \"}\", got the end of the file",
    ];
    assert_eq!(headlines(&errors), expected, "{errors}");
}

#[test]
fn messages_show_the_line_and_what_to_do() {
    let errors =
        World::new("declare \"mod\" { }\ntest.node \"a\" { }\nmodd \"x\" { }\n").check().unwrap_err();
    let expected = r#"Error: main.alloy:3:1: cannot find the definition of component name "modd"

2 | test.node "a" { }
3 | modd "x" { }
  | ^^^^^^^^
  = did you mean "mod"?
"#;
    assert_eq!(errors, expected);
}

#[test]
fn a_file_that_cannot_be_read_is_a_message_too() {
    let world = World::new("");
    let checkup = check(&world.path("none.alloy"), &[], "host");
    let error = world.short(&checkup.result().unwrap_err());
    assert!(error.contains("cannot read the configuration none.alloy: No such file"), "{error}");
}

#[test]
fn components_are_counted_as_often_as_they_would_be_made() {
    let world = World::new(
        "declare \"m\" { test.node \"a\" { } }\nm \"x\" { }\nm \"y\" { }\ntest.node \"b\" { }\n
         foreach \"f\" {\n collection = [1, 2, 3]\n var = \"i\"\n template { test.node \"c\" { } }\n}",
    );
    let checkup = check(&world.path("main.alloy"), &[Registration::of::<Node>()], "host");
    assert_eq!(checkup.result(), Ok(()));
    assert_eq!(checkup.blocks, 6);
}

#[test]
fn settings_of_the_agent_cannot_wait_for_components() {
    let errors = World::new(
        r#"test.node "a" { }
http {
    tls {
        cert_pem = test.node.a.value
        key_file = module_path + "/key.pem"
    }
}
logging {
    level = nothing
    format = "loud"
}
"#,
    )
    .check()
    .expect_err("the settings are read first");
    let expected = [
        "4:20: block \"http\" cannot refer to \"test.node.a.value\"",
        "9:13: block \"logging\" cannot refer to \"nothing\"",
        "10:14: expected one of \"logfmt\", \"json\", got \"loud\"",
    ];
    assert_eq!(headlines(&errors), expected.map(|line| format!("main.alloy:{line}")), "{errors}");
    assert!(errors.contains("= it is read before components are made; what sys.env says is there by then"));
}

/// Each in front of the one that it needs: ten times as many take about ten times as long, and not a hundred times.
#[test]
fn a_long_chain_is_put_in_order_in_one_go() {
    let chain = |links: usize, end: &str| -> String {
        let input = |index| if index < links { format!("test.node.n{index}.value") } else { end.to_owned() };
        let link = |index| format!("test.node \"n{index}\" {{ inputs = [{}] }}\n", input(index + 1));
        (0..links).map(link).collect()
    };
    let took = |links: usize| {
        let world = World::new(&chain(links, "1"));
        let begun = worked();
        world.check().expect("nothing is wrong");
        worked() - begun
    };
    let short = took(1_000).min(took(1_000)).min(took(1_000));
    let long = took(10_000).min(took(10_000));
    assert!(long < short * 40, "1,000 take {short:?}, 10,000 take {long:?}");
    let errors = World::new(&chain(10_000, "test.node.n0.value")).check().expect_err("it goes round");
    assert!(errors.contains("cycle detected: test.node.n0, test.node.n1, "), "{errors:.200}");
}
