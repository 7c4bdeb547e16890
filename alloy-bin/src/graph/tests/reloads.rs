//! A reload is a transaction, and what has not changed does not hear of it.

use super::*;

const BEFORE: &str = r#"
test.node "source" { inputs = [test.node.sink.value] }
test.node "sink" { }
test.node "other" { inputs = [4] }
"#;

async fn before() -> World {
    World::run(BEFORE, &["source", "sink", "other"]).await
}

#[tokio::test]
async fn what_is_the_same_is_left_alone_whatever_its_text_and_its_place() {
    let world = before().await;
    world.export("sink", 2);
    world.journal.wait_for("update source [2]").await;
    world.journal.take();
    let text = r#"
        // Another order, another layout, an expression that comes to the same.
        test.node "other" {
            inputs = [2 + 2]
        }

        test.node "sink" { }
        test.node "source" { inputs = [test.node.sink.value] }
        "#;
    world.reload(text).await.unwrap();
    assert_eq!(world.journal.take(), Vec::<String>::new());
    world.export("sink", 3);
    world.journal.wait_for("update source [3]").await;
    world.end().await;
}

#[tokio::test]
async fn new_ones_are_made_first_and_old_ones_stopped_last_each_along_the_graph() {
    let world = before().await;
    world
        .reload(
            r#"
            test.node "source" { inputs = [test.node.new_sink.value, 8] }
            test.node "new_source" { inputs = [test.node.new_sink.value] }
            test.node "new_sink" { }
            test.node "other" { inputs = [4] }
            "#,
        )
        .await
        .unwrap();
    world.journal.wait_for("run new_source").await;
    let lines = world.journal.take();
    let expected = [
        "build new_sink []",
        "build new_source [1]",
        "update source [1, 8]",
        "run new_sink",
        "run new_source",
        "stopping sink",
        "stopped sink",
        "drop sink",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    let places: Vec<usize> = expected.iter().map(|line| place(&lines, line)).collect();
    assert_eq!(places[..3], [0, 1, 2], "{lines:?}");
    world.end().await;

    let world = before().await;
    world.reload("test.node \"other\" { inputs = [4] }").await.unwrap();
    let lines = world.journal.take();
    assert!(place(&lines, "stopped source") < place(&lines, "stopping sink"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("other")), "{lines:?}");
    world.end().await;
}

/// What was written although nothing may be touched.
async fn check_untouched(text: &str, expected: &[&str], allowed: &[&str]) {
    let world = before().await;
    let error = world.reload(text).await.expect_err("it is wrong");
    assert_eq!(headlines(&error), expected, "{error}");
    assert_eq!(world.journal.take(), allowed, "{text}");
    let mut page = Page::default();
    world.graph().collect(&mut page);
    let page = page.render();
    for line in [
        "alloy_config_last_load_successful 0",
        "alloy_config_load_failures_total 1",
        r#"alloy_component_controller_running_components{health_type="healthy"} 3"#,
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    world.export("sink", 2);
    world.journal.wait_for("update source [2]").await;
    world.reload(BEFORE).await.unwrap();
    let mut page = Page::default();
    world.graph().collect(&mut page);
    assert!(page.render().contains("alloy_config_last_load_successful 1"), "{}", page.render());
    world.end().await;
}

#[tokio::test]
async fn a_configuration_that_is_wrong_touches_nothing() {
    check_untouched(
        "test.node \"source\" {",
        &["main.alloy:1:21: expected \"}\", got the end of the file"],
        &[],
    )
    .await;
    check_untouched(
        "test.node \"new\" { }\ntest.node \"other\" { inputs = [13] }",
        &["main.alloy:2:30: 13 is never right"],
        &[],
    )
    .await;
    check_untouched(
        "test.node \"new\" { }\ntest.node \"newer\" { behaviour = \"fail\" }\ntest.node \"other\" { inputs = [5] }",
        &["main.alloy:2:1: test.node.newer: cannot be built"],
        &["build new []", "build newer []", "drop new"],
    )
    .await;
}

#[tokio::test]
async fn a_component_that_cannot_be_made_anew_takes_back_all_that_was_done() {
    let world = before().await;
    let text = r#"
        test.node "source" { inputs = [77] }
        test.node "sink" { inputs = [-100] }
        test.node "other" { inputs = [5] }
        test.node "new" { }
        "#;
    let error = world.reload(text).await.expect_err("the sink cannot be made of that");
    assert_eq!(headlines(&error), ["main.alloy:3:9: test.node.sink: cannot be built of that"]);
    world.journal.wait_for("run sink").await;
    let lines = world.journal.take();
    let expected = [
        "build new []",
        "update source [77]",
        "stopping sink",
        "stopped sink",
        "drop sink",
        "build sink [-100]",
        "build sink []",
        "update source [1]",
        "drop new",
        "run sink",
    ];
    let mut sorted = lines.clone();
    sorted.sort();
    let mut wanted = expected.map(str::to_owned);
    wanted.sort();
    assert_eq!(sorted, wanted, "{lines:?}");
    assert!(place(&lines, "build sink []") < place(&lines, "update source [1]"), "{lines:?}");
    world.export("sink", 2);
    world.journal.wait_for("update source [2]").await;
    world.end().await;
}

#[tokio::test]
async fn the_hash_is_that_of_the_file_and_of_what_runs() {
    let world = before().await;
    let hash = world.graph().hash();
    assert_eq!(hash.len(), 64);
    world.reload("test.node {").await.expect_err("it is wrong");
    assert_eq!(world.graph().hash(), hash);
    world.reload("").await.unwrap();
    assert_eq!(world.graph().hash(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let mut page = Page::default();
    world.graph().collect(&mut page);
    let line = format!("alloy_config_hash{{sha256=\"{}\",cluster_name=\"blue\"}} 1", world.graph().hash());
    assert!(page.render().contains(&line), "{}", page.render());
    world.end().await;
}

#[tokio::test]
async fn a_component_that_is_gone_owns_nothing() {
    let flags = ClusterFlags::default();
    let ownership = ownership::start(&flags, "host", ([127, 0, 0, 1], 1).into()).await.unwrap().ownership;
    let shard = ownership.shard("prometheus.scrape.a", Default::default());
    shard.set_keys(vec![(1, "one".to_owned())]);
    assert_eq!(ownership.list(&Default::default()).len(), 1);
    drop(shard);
    assert_eq!(ownership.list(&Default::default()).len(), 0);
}

/// Waits until a watched world has stopped `gone` and runs `new`.
async fn until_swapped(world: &World, new: &str, gone: &str) {
    world.journal.wait_for(&format!("run {new}")).await;
    world.journal.wait_for(&format!("stopped {gone}")).await;
    world.journal.take();
}

fn node(name: &str) -> String {
    format!("test.node {name:?} {{ }}\n")
}

#[tokio::test]
async fn a_file_is_watched_over_renames_writes_in_place_and_swapped_links() {
    for hints in [Hints::Kernel, Hints::None] {
        // Without hints it is looked at every few milliseconds; with them a look without one would come too late.
        let every = if hints == Hints::None { Duration::from_millis(20) } else { PATIENCE * 10 };
        let world = World::run(&node("a"), &["a"]).await;
        let graph = world.graph().clone();
        let watching = tokio::spawn(async move { watch(&graph, every, hints).await });

        // An editor writes a new file and renames it over the old one.
        world.write("main.alloy.tmp", &node("b"));
        std::fs::rename(world.path("main.alloy.tmp"), world.path("main.alloy")).unwrap();
        until_swapped(&world, "b", "a").await;

        world.write("main.alloy", &node("c"));
        until_swapped(&world, "c", "b").await;

        // What is wrong is tried once, and the next good one is taken.
        world.write("main.alloy", "test.node {");
        let failed = async {
            loop {
                let mut page = Page::default();
                world.graph().collect(&mut page);
                if page.render().contains("alloy_config_load_failures_total 1") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, failed).await.expect("it is tried");
        world.write("main.alloy", &node("d"));
        until_swapped(&world, "d", "c").await;
        let mut page = Page::default();
        world.graph().collect(&mut page);
        assert!(page.render().contains("alloy_config_load_failures_total 1"), "{}", page.render());

        // A file that is imported is watched, too; a new one from the load on that imports it.
        world.write("library.alloy", "declare \"l\" { test.node \"e\" { } }");
        world.write("main.alloy", "import.file \"m\" { filename = \"$HERE/library.alloy\" }\nm.l \"x\" { }");
        until_swapped(&world, "m.l.x/e", "d").await;
        world.write("library.alloy", "declare \"l\" { test.node \"f\" { } }");
        until_swapped(&world, "m.l.x/f", "m.l.x/e").await;
        watching.abort();
        world.end().await;
    }
}

/// Writes a volume as the kubelet does: a new folder, a new link, a rename, the links of the files.
fn write_volume(folder: &Path, version: usize, files: &[(&str, &str)]) {
    use std::os::unix::fs::symlink;
    let data = folder.join("..data");
    let old = std::fs::read_link(&data).ok();
    let new = format!("..2026_11_22_10_00_0{version}.{}", 100_000 + version);
    std::fs::create_dir_all(folder.join(&new)).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(&new).join(name), text).unwrap();
    }
    symlink(&new, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), &data).unwrap();
    for (name, _) in files {
        if std::fs::symlink_metadata(folder.join(name)).is_err() {
            symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
        }
    }
    let Some(old) = old else { return };
    for entry in std::fs::read_dir(folder.join(&old)).unwrap() {
        let name = entry.unwrap().file_name();
        if !files.iter().any(|(kept, _)| **kept == *name) {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
    }
    std::fs::remove_dir_all(folder.join(old)).unwrap();
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_as_a_file_and_as_a_folder() {
    for path in ["volume/config.alloy", "volume"] {
        let mut world = World::new("");
        world.config = path;
        let volume = world.path("volume");
        write_volume(&volume, 1, &[("config.alloy", &node("a"))]);
        let world = world.start(&["a"]).await;
        let graph = world.graph().clone();
        let watching = tokio::spawn(async move { watch(&graph, PATIENCE * 10, Hints::Kernel).await });
        let mut last = "a".to_owned();
        for version in 2..6 {
            let next = format!("v{version}");
            write_volume(&volume, version, &[("config.alloy", &node(&next))]);
            until_swapped(&world, &next, &last).await;
            last = next;
        }
        if path == "volume" {
            write_volume(&volume, 6, &[("config.alloy", ""), ("more.alloy", &node("more"))]);
            until_swapped(&world, "more", &last).await;
            write_volume(&volume, 7, &[("config.alloy", &node("last"))]);
            until_swapped(&world, "last", "more").await;
        }
        watching.abort();
        world.end().await;
    }
}
