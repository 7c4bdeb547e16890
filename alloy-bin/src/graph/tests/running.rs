//! What depends on a change is evaluated again, what fails is told and made anew, and all stop in order.

use super::*;

/// Sources `a` and `b`, what `c` makes of both, and `d` beside them; written down against their order.
const DIAMOND: &str = r#"
test.node "e" { inputs = [test.node.c.value, test.node.a.value] }
test.node "c" { inputs = [test.node.a.value, test.node.b.value] }
test.node "b" { }
test.node "a" { }
test.node "d" { }
"#;

#[tokio::test]
async fn components_are_built_behind_those_that_they_refer_to() {
    let world = World::build(DIAMOND).await;
    let built = ["build b []", "build a []", "build d []", "build c [1, 1]", "build e [1, 1]"];
    assert_eq!(world.journal.take(), built);
    assert_eq!(world.trouble(), None);
}

#[tokio::test]
async fn components_are_stopped_when_all_that_refer_to_them_have_stopped() {
    let world = World::run(DIAMOND, &["a", "b", "c", "d", "e"]).await;
    let lines = world.end().await;
    assert_eq!(lines.len(), 10, "{lines:?}");
    for (user, used) in [("e", "c"), ("e", "a"), ("c", "a"), ("c", "b")] {
        let stopped = place(&lines, &format!("stopped {user}"));
        assert!(stopped < place(&lines, &format!("stopping {used}")), "{user}, {used}: {lines:?}");
    }
    assert!(
        place(&lines, "stopping d") < place(&lines, "stopped e"),
        "what can stop does not wait: {lines:?}"
    );
}

#[tokio::test]
async fn a_change_is_heard_by_those_that_refer_to_it_alone() {
    let world = World::run(DIAMOND, &["a", "b", "c", "d", "e"]).await;
    world.export("b", 7);
    world.journal.wait_for("update c [1, 7]").await;
    world.export("b", 7);
    world.export("d", 5);
    world.export("a", 9);
    world.journal.wait_for("update c [9, 7]").await;
    world.journal.wait_for("update e [1, 9]").await;
    let updates: Vec<String> =
        world.end().await.into_iter().filter(|line| line.starts_with("update")).collect();
    assert_eq!(updates, ["update c [1, 7]", "update c [9, 7]", "update e [1, 9]"]);
}

const PAIR: &str = r#"
test.node "a" { }
test.node "b" { inputs = [test.node.a.value] }
"#;

#[tokio::test]
async fn arguments_that_are_wrong_show_in_the_health_and_the_old_ones_go_on() {
    let world = World::run(PAIR, &["a", "b"]).await;
    world.export("a", 13);
    let (id, reason) = world.until_unhealthy().await;
    assert_eq!(id, "test.node.b");
    assert!(reason.contains("main.alloy:3:26: 13 is never right"), "{reason}");
    assert_eq!(world.journal.take(), Vec::<String>::new());
    world.export("a", 2);
    world.journal.wait_for("update b [2]").await;
    world.export("a", 3);
    world.journal.wait_for("update b [3]").await;
    assert_eq!(world.trouble(), None, "good arguments heal it");
    assert_eq!(world.end().await.len(), 2 + 4, "two updates, two stops");
}

#[tokio::test]
async fn arguments_that_a_component_cannot_take_as_it_stands_make_another_one_of_it() {
    let world = World::run(PAIR, &["a", "b"]).await;
    world.export("a", -1);
    world.journal.wait_for("run b").await;
    assert_eq!(world.journal.take(), ["stopping b", "stopped b", "drop b", "build b [-1]", "run b"]);
    assert_eq!(world.trouble(), None);
    world.end().await;
}

#[tokio::test]
async fn a_component_that_cannot_be_made_of_new_arguments_is_made_of_the_old_ones_again() {
    let world = World::run(PAIR, &["a", "b"]).await;
    world.export("a", -100);
    let (id, reason) = world.until_unhealthy().await;
    assert_eq!(id, "test.node.b");
    assert!(reason.contains("main.alloy:3:1: test.node.b: cannot be built of that"), "{reason}");
    world.journal.wait_for("run b").await;
    let lines = ["stopping b", "stopped b", "drop b", "build b [-100]", "build b [1]", "run b"];
    assert_eq!(world.journal.take(), lines);
    world.end().await;
}

#[tokio::test]
async fn good_arguments_do_not_hide_what_a_component_says_of_itself() {
    let world = World::run(PAIR, &["a", "b"]).await;
    world.health("b").unhealthy("a file is missing");
    world.export("a", 2);
    world.journal.wait_for("update b [2]").await;
    world.export("a", 3);
    world.journal.wait_for("update b [3]").await;
    assert_eq!(world.trouble(), Some(("test.node.b".to_owned(), "a file is missing".to_owned())));
    world.health("b").ok();
    assert_eq!(world.trouble(), None);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_component_that_panics_or_ends_is_unhealthy_and_made_anew_while_the_others_go_on() {
    for (behaviour, expected) in [("panic", "has failed: "), ("end", "has ended by itself")] {
        let text = format!(
            "{PAIR}\ntest.node \"c\" {{\n\tbehaviour = {behaviour:?}\n\tinputs = [test.node.a.value]\n}}\n"
        );
        let world = World::run(&text, &["a", "b", "c"]).await;
        let (id, reason) = world.until_unhealthy().await;
        assert!(id == "test.node.c" && reason.starts_with(expected), "{id}: {reason}");
        world.export("a", 2);
        world.journal.wait_for("update b [2]").await;
        let (_, reason) = world.trouble().expect("new arguments do not bring it back to life");
        assert!(reason.starts_with(expected), "{reason}");
        let began = tokio::time::Instant::now();
        for times in 1..=3 {
            world.journal.wait_for("run c").await;
            let lines = world.journal.take();
            assert!(place(&lines, "build c [2]") < place(&lines, "run c"), "{times}: {lines:?}");
            assert!(place(&lines, "drop c") < place(&lines, "build c [2]"), "{times}: {lines:?}");
        }
        let waited = began.elapsed();
        assert!((Duration::from_secs(7)..Duration::from_secs(8)).contains(&waited), "1 + 2 + 4: {waited:?}");
        let lines = world.end().await;
        assert!(place(&lines, "stopped b") < place(&lines, "stopping a"), "{lines:?}");
    }
}

#[tokio::test]
async fn a_component_that_panics_over_new_arguments_is_made_anew_with_them() {
    let text = format!("{PAIR}test.node \"c\" {{ inputs = [test.node.b.value] }}");
    let world = World::run(&text, &["a", "b", "c"]).await;
    world.export("a", 666);
    world.journal.wait_for("run b").await;
    world.journal.take();
    world.export("b", 4);
    world.journal.wait_for("update c [4]").await;
    let lines = world.end().await;
    assert!(place(&lines, "stopped c") < place(&lines, "stopping b"), "{lines:?}");
}

#[tokio::test]
async fn figures_carry_the_name_of_their_component() {
    let world = World::run(PAIR, &["a", "b"]).await;
    world.health("a").unhealthy("a cold");
    let mut page = Page::default();
    world.graph().collect(&mut page);
    let page = page.render();
    for line in [
        r#"test_node{component_id="test.node.a",component_path="/"} 1"#,
        r#"test_node{component_id="test.node.b",component_path="/"} 1"#,
        r#"alloy_component_controller_running_components{health_type="healthy"} 1"#,
        r#"alloy_component_controller_running_components{health_type="unhealthy"} 1"#,
    ] {
        assert!(page.lines().any(|other| other == line), "{line} is not in\n{page}");
    }
    world.end().await;
}
