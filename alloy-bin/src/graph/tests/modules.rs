//! Modules, templates and imports are unfolded where they are used.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::get;

use super::*;

/// A module that adds a node behind what it is given.
const LIBRARY: &str = r#"
declare "twice" {
    argument "input" { }
    argument "more" {
        optional = true
        default  = [7]
    }
    test.node "inner" {
        inputs = array.concat([argument.input.value], argument.more.value)
    }
    export "output" { value = test.node.inner.value }
}
"#;

#[tokio::test]
async fn a_custom_component_is_a_graph_of_its_own_between_the_others() {
    let text = format!(
        "{LIBRARY}
        test.node \"a\" {{ }}
        twice \"x\" {{ input = test.node.a.value }}
        twice \"y\" {{
            input = twice.x.output
            more  = []
        }}
        test.node \"z\" {{ inputs = [twice.y.output] }}"
    );
    let world = World::new(&text).start(&["a", "twice.x/inner", "twice.y/inner", "z"]).await;
    world.export("twice.x/inner", 5);
    world.journal.wait_for("update twice.y/inner [5]").await;
    world.export("a", 3);
    world.journal.wait_for("update twice.x/inner [3, 7]").await;
    world.export("twice.y/inner", 8);
    world.journal.wait_for("update z [8]").await;
    let mut page = Page::default();
    world.graph().collect(&mut page);
    let line = r#"test_node{component_id="test.node.inner",component_path="/twice.x"} 1"#;
    assert!(page.render().contains(line), "{}", page.render());
    let lines = world.end().await;
    let updates: Vec<&String> = lines.iter().filter(|line| line.starts_with("update")).collect();
    assert_eq!(updates, ["update twice.y/inner [5]", "update twice.x/inner [3, 7]", "update z [8]"]);
    for (user, used) in [("z", "twice.y/inner"), ("twice.y/inner", "twice.x/inner"), ("twice.x/inner", "a")] {
        let stopped = place(&lines, &format!("stopped {user}"));
        assert!(stopped < place(&lines, &format!("stopping {used}")), "{user}, {used}: {lines:?}");
    }
}

#[tokio::test]
async fn modules_come_from_files_folders_and_strings_and_see_their_own_names_alone() {
    let world = World::new(
        r#"
        import.file "one" { filename = file.path_join(module_path, "one.alloy") }
        import.file "all" { filename = "$HERE/folder" }
        import.string "text" { content = "declare \"leaf\" {\n test.node \"t\" { }\n export \"v\" { value = test.node.t.value }\n}" }
        one.outer "a" { }
        all.other "b" { }
        text.leaf "c" { }
        test.node "d" { inputs = [text.leaf.c.v] }
        "#,
    );
    std::fs::create_dir(world.path("folder")).unwrap();
    world.write(
        "one.alloy",
        r#"
        import.file "deeper" { filename = file.path_join(module_path, "folder/2.alloy") }
        declare "outer" {
            declare "nested" { test.node "n" { } }
            nested "x" { }
            helper "y" { }
            deeper.other "z" { }
        }
        declare "helper" { test.node "h" { } }
        "#,
    );
    world.write("folder/1.alloy", r#"declare "one" { test.node "n" { } }"#);
    world.write("folder/2.alloy", r#"declare "other" { test.node "o" { } }"#);
    world.write("folder/notes.txt", "nothing");
    let world = world
        .start(&[
            "one.outer.a/nested.x/n",
            "one.outer.a/helper.y/h",
            "one.outer.a/deeper.other.z/o",
            "all.other.b/o",
            "text.leaf.c/t",
            "d",
        ])
        .await;
    world.end().await;
}

#[tokio::test]
async fn a_module_over_http_is_asked_for_again_and_swapped_when_it_is_another_one() {
    let asked = Arc::new(AtomicUsize::new(0));
    let text = Arc::new(Mutex::new(r#"declare "a" { test.node "old" { } }"#.to_owned()));
    let (counted, answered) = (asked.clone(), text.clone());
    let router = axum::Router::new().route(
        "/m.alloy",
        get(move |headers: axum::http::HeaderMap| {
            // "ada" and "hidden" as RFC 7617 would have them.
            assert_eq!(headers["authorization"], "Basic YWRhOmhpZGRlbg==");
            assert_eq!(headers["x-from"], "here");
            counted.fetch_add(1, Ordering::Relaxed);
            let text = answered.lock().unwrap().clone();
            async move { text }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let world = World::run(
        &format!(
            "import.http \"m\" {{
                url            = \"http://{address}/m.alloy\"
                poll_frequency = \"10ms\"
                headers        = {{ \"X-From\" = \"here\" }}
                client {{
                    basic_auth {{
                        username = \"ada\"
                        password = \"hidden\"
                    }}
                }}
            }}
            m.a \"x\" {{ }}
            test.node \"other\" {{ }}"
        ),
        &["m.a.x/old", "other"],
    )
    .await;
    *text.lock().unwrap() = r#"declare "b" { }"#.to_owned();
    let (id, reason) = world.until_unhealthy().await;
    assert_eq!(id, "import.http.m");
    assert!(reason.contains("cannot find the definition of component name \"m.a\""), "{reason}");
    *text.lock().unwrap() = r#"declare "a" { test.node "new" { } }"#.to_owned();
    world.journal.wait_for("stopped m.a.x/old").await;
    let lines = world.journal.take();
    assert_eq!(lines[..2], ["build m.a.x/new []", "run m.a.x/new"], "{lines:?}");
    assert_eq!(world.trouble(), None);
    let before = asked.load(Ordering::Relaxed);
    while asked.load(Ordering::Relaxed) < before + 2 {
        tokio::task::yield_now().await;
    }
    let lines = world.end().await;
    assert!(!lines.iter().any(|line| line.starts_with("build")), "the same text changes nothing: {lines:?}");
    server.abort();
}

#[tokio::test]
async fn a_template_has_a_graph_for_each_item_and_items_come_and_go() {
    let world = World::run(
        r#"
        test.node "list" { }
        test.node "outer" { }
        foreach "each" {
            collection = test.node.list.list
            var        = "item"
            id         = "name"
            template {
                test.node "n" { inputs = [item["size"], test.node.outer.value] }
            }
        }"#,
        &["list", "outer"],
    )
    .await;
    let item = |name: &str, size: i64| {
        Value::object([("name", Value::from(name)), ("size", Value::from(Number::Int(size)))])
    };
    world.export_value("list", "list", Value::array([item("a", 1), item("b/c", 2)]));
    world.journal.wait_for("run foreach.each/foreach_b_c_1/n").await;
    let lines = world.journal.take();
    place(&lines, "build foreach.each/foreach_a_1/n [1, 1]");
    world.export_value("list", "list", Value::array([item("a", 5), item("b/c", 2), item("a", 3)]));
    world.journal.wait_for("run foreach.each/foreach_a_2/n").await;
    world.journal.wait_for("update foreach.each/foreach_a_1/n [5, 1]").await;
    let lines = world.journal.take();
    assert!(!lines.iter().any(|line| line.contains("b_c")), "an item that stays is left alone: {lines:?}");
    world.export("outer", 9);
    world.journal.wait_for("update foreach.each/foreach_b_c_1/n [2, 9]").await;
    world.export_value("list", "list", Value::array([item("b/c", 2)]));
    world.journal.wait_for("stopped foreach.each/foreach_a_1/n").await;
    world.export_value("list", "list", Value::array([Value::from("no object")]));
    let (id, reason) = world.until_unhealthy().await;
    assert_eq!(id, "foreach.each");
    assert!(reason.contains("expected object or array, got string"), "{reason}");
    let lines = world.end().await;
    place(&lines, "stopped foreach.each/foreach_b_c_1/n");
}

#[tokio::test]
async fn figures_of_a_template_are_shown_if_they_are_asked_for() {
    for (line, expected) in [("", 0), ("enable_metrics = true", 2)] {
        let world = World::build(&format!(
            "foreach \"f\" {{
                collection = [1, 2]
                var = \"i\"
                {line}
                template {{ test.node \"n\" {{ inputs = [i] }} }}
            }}"
        ))
        .await;
        let mut page = Page::default();
        world.graph().collect(&mut page);
        assert_eq!(page.render().lines().filter(|line| line.starts_with("test_node{")).count(), expected);
    }
}
