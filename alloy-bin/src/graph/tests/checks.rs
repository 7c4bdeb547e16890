//! Everything that is wrong with a configuration is said at once, without anything being made.

use super::*;

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
