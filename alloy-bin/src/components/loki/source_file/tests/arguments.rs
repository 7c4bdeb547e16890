//! The block's arguments: defaults, and errors that say where they are.

use super::*;
use crate::tailing::{Encoding, Format};

/// Decodes the body of a block; `sink` is a receiver.
fn decode(body: &str) -> Result<Arguments, String> {
    use crate::config::{Scope, decode_block};
    use crate::syntax::{Sources, ast::Statement, parse};
    let mut sources = Sources::default();
    let id = sources.add("test.alloy", format!("loki.source.file \"x\" {{\n{body}\n}}\n"));
    let (file, _) = parse(&sources, id);
    let Statement::Block(block) = &file.statements[0] else { panic!("a block") };
    let mut scope = Scope::default();
    let receiver: LogsReceiver = Arc::new(Receiver::default());
    scope.set("sink", receiver.into());
    decode_block(block, &scope).map_err(|errors| errors.render(&sources))
}

#[test]
fn arguments_have_the_defaults_of_the_page() {
    let arguments = decode("targets = [{\"__path__\" = \"/a\"}]\nforward_to = [sink]").unwrap();
    assert_eq!(arguments.targets[0].target().get("__path__"), Some("/a"));
    assert_eq!(arguments.forward_to.len(), 1);
    assert!(!arguments.tail_from_end);
    assert_eq!(arguments.on_positions_file_error, OnPositionsFileError::RestartFromBeginning);
    assert_eq!(arguments.file_watch, FileWatch::default());
    assert_eq!(arguments.sharing, Sharing::Alone);
}

#[test]
fn files_may_be_compressed_matched_and_encoded() {
    let body = r#"
        targets    = []
        forward_to = [sink]
        encoding   = "UTF-16LE"
        legacy_positions_file = "/positions.yml"
        decompression {
          enabled       = true
          initial_delay = "10s"
          format        = "bz2"
        }
        file_match {
          enabled           = true
          ignore_older_than = "1h"
        }
    "#;
    let arguments = decode(body).unwrap();
    let options = arguments.pool_options();
    assert_eq!(options.reading.format, Some(Format::Bzip2));
    assert_eq!(options.initial_delay, Duration::from_secs(10));
    assert_eq!(Some(options.reading.encoding), Encoding::by_name("utf-16le"));
    let [period, age] = [10, 3600].map(Duration::from_secs);
    assert_eq!(arguments.file_match, Some(FileMatch { sync_period: period, ignore_older_than: age }));
    assert_eq!(arguments.legacy_positions_file, Some("/positions.yml".into()));
    let off = decode(&body.replace("= true", "= false")).unwrap();
    assert_eq!((off.file_match, off.decompression), (None, None));
}

#[test]
fn wrong_arguments_are_told_where_they_are() {
    let check = |body: &str, expected: &str| {
        let Err(errors) = decode(&format!("targets = []\nforward_to = [sink]\n{body}")) else {
            panic!("{body} is accepted");
        };
        assert!(errors.contains(expected), "{errors}");
    };
    check("encoding = \"utf-32\"", "there is no encoding \"utf-32\"");
    check("on_positions_file_error = \"stop\"", "expected one of \"restart_from_beginning\"");
    check("file_watch {\nmin_poll_frequency = \"0s\"\n}", "must be longer than nothing");
    check("file_watch {\nmax_poll_frequency = \"1ms\"\n}", "must not be shorter");
    check("decompression {\nenabled = true\n}", "missing required attribute \"format\"");
    check("decompression {\nenabled = true\nformat = \"xz\"\n}", "must be \"gz\"");
    check("file_match {\nsync_period = \"0s\"\n}", "must be longer than nothing");
    check("forward = 1", "unrecognized attribute name");
    check("clustering { }", "missing required attribute \"enabled\"");
}

#[tokio::test(start_paused = true)]
async fn what_a_glob_matches_is_looked_for_again() {
    let world = World::new(&["*.log"]);
    let (sync_period, ignore_older_than) = (Duration::from_secs(5), Duration::ZERO);
    world.change(|arguments| arguments.file_match = Some(FileMatch { sync_period, ignore_older_than }));
    world.append("a.log", "1\n");
    let running = world.run();
    world.receiver.wait_for(1).await;
    // Looks that find what is known change nothing.
    tokio::time::sleep(3 * sync_period).await;
    world.append("b.log", "2\n");
    world.receiver.wait_for(2).await;
    world.append("a.log", "3\n");
    world.receiver.wait_for(3).await;
    running.stop().await;
    world.assert_lines(1..=3);
}
