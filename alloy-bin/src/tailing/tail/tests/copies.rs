//! Files that are copied, truncated, compressed, written in another way, or rotated between two looks.

use super::*;

#[test]
fn what_was_written_before_a_truncation_is_read_in_the_copy() {
    let mut world = World::with("1\n2\n");
    assert_eq!(world.lines(), ["1", "2"]);
    world.append("app.log", "3\n");
    fs::copy(world.path("app.log"), world.path("app.log.1")).unwrap();
    fs::write(world.path("app.log"), "4\n5\n6\n7\n8\n9\n").unwrap();
    assert_eq!(
        world.lines(),
        ["3", "4", "5", "6", "7", "8", "9"],
        "it has already grown beyond what was read"
    );
    world.append("app.log", "10\n");
    fs::rename(world.path("app.log.1"), world.path("app.log.2")).unwrap();
    world.append("copy", &fs::read_to_string(world.path("app.log")).unwrap());
    world.compress("copy", "app.log.1.gz");
    fs::write(world.path("app.log"), "11\n").unwrap();
    assert_eq!(world.lines(), ["10", "11"]);
    assert_eq!(world.metrics.truncations.load(Relaxed), 2);
}

#[test]
fn what_was_written_between_two_truncations_is_read_in_the_copy() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    let truncate = |world: &World, copy: &str| {
        fs::copy(world.path("app.log"), world.path(copy)).unwrap();
        fs::write(world.path("app.log"), "").unwrap();
    };
    truncate(&world, "app.log.3");
    assert_eq!(world.lines(), [""; 0], "it is seen empty");
    world.append("app.log", "2\n");
    truncate(&world, "app.log.2");
    world.append("app.log", "3\n");
    assert_eq!(world.lines(), ["2", "3"]);
    truncate(&world, "app.log.1");
    assert_eq!(world.lines(), [""; 0], "it is seen empty");
    world.restart(|world| {
        world.append("app.log", "4\n");
        fs::copy(world.path("app.log"), world.path("app.log.0")).unwrap();
        fs::write(world.path("app.log"), "5\n").unwrap();
    });
    assert_eq!(world.lines(), ["4", "5"]);
}

#[test]
fn a_file_that_is_truncated_while_it_waits_in_line_is_read_in_its_copy() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    world.append("app.log", "2\n");
    world.rename("app.log", "app.log.1");
    world.append("app.log", "3\n");
    world.restart(|_| ());
    assert_eq!(world.lines_now(), ["2"], "the other one is in line");
    world.rename("app.log.1", "app.log.2");
    fs::copy(world.path("app.log"), world.path("app.log.1")).unwrap();
    fs::write(world.path("app.log"), "4\n5\n").unwrap();
    assert_eq!(world.lines(), ["3", "4", "5"]);
}

#[test]
fn a_copy_is_not_read_besides_its_original() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    let position = world.tail().position().unwrap();
    world.rename("app.log", "app.log.2");
    world.append("app.log", "2\n");
    fs::copy(world.path("app.log"), world.path("app.log.1")).unwrap();
    world.follow(Begin::At(position));
    let now = world.now;
    let error = world.tail().step(now, 1_000, None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    fs::write(world.path("app.log"), "3\n").unwrap();
    assert_eq!(world.lines(), ["2", "3"]);
}

#[test]
fn files_that_begin_alike_are_all_read() {
    let mut world = World::with("banner\n1\n");
    assert_eq!(world.lines(), ["banner", "1"]);
    world.restart(|world| {
        world.rename("app.log", "app.log.2");
        world.append("app.log.1", "banner\n2\n");
        world.append("app.log", "banner\n");
        world.age();
    });
    assert_eq!(world.lines().len(), 3);
}

#[test]
fn files_in_line_are_read_whatever_is_done_to_their_names() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    world.restart(|world| {
        world.rename("app.log", "app.log.3");
        world.append("app.log.3", "2\n");
        world.append("app.log.2", "3\n");
        world.append("app.log.1", "4\n");
        world.append("app.log", "5\n");
    });
    assert_eq!(world.lines_now()[..1], ["2"]);
    // While the first of them is read: one more rotation, and the oldest are compressed or removed.
    fs::remove_file(world.path("app.log.3")).unwrap();
    world.compress("app.log.2", "app.log.3.gz");
    world.rename("app.log.1", "app.log.2");
    world.rename("app.log", "app.log.1");
    world.append("app.log", "6\n");
    let rest = world.lines();
    assert_eq!(rest[rest.len() - 2..], ["5", "6"], "{rest:?}");
    let again = world.lines();
    assert_eq!(again, [""; 0]);
}

#[test]
fn a_first_line_without_end_is_found_again_after_compression() {
    let mut world = World::with("first, no end");
    assert_eq!(world.lines(), [""; 0]);
    world.restart(|world| {
        world.append("app.log", " yet\n");
        world.compress("app.log", "app.log.1.gz");
        world.append("app.log", "2\n");
    });
    assert_eq!(world.lines(), ["first, no end yet", "2"]);
}

#[test]
fn a_batch_that_was_under_way_is_repeated_from_the_compressed_file() {
    let mut world = World::with("1\n2\n");
    let now = world.now;
    let Ok(Step::Batch(first)) = world.tail().step(now, 1_000, None) else { panic!("two lines") };
    world.restart(|world| {
        world.append("app.log", "3\n");
        world.compress("app.log", "app.log.1.gz");
        world.append("app.log", "4\n");
    });
    let Ok(Step::Batch(second)) = world.tail().step(now, 9_000, None) else { panic!("two lines") };
    assert_eq!(first, second);
    world.tail().handle_accepted(&second);
    assert_eq!(world.lines(), ["3", "4"]);
}

#[test]
fn a_compressed_file_is_read_once_and_what_is_added_to_it_later() {
    let mut world = World::new(Begin::Beginning);
    let reading = Reading { format: Some(Format::Gzip), ..world.tail().reading };
    world.tail().reading = reading;
    pack(&world.path("app.log.gz"), b"1\n2\nno end");
    let path = Arc::from(world.path("app.log.gz"));
    let claims = Claims::new(world.ledger.clone(), &Labels::new([("a", "b")]), &path);
    let (now, metrics) = (world.now, world.metrics.clone());
    world.tail = Some(Tail::new(path, Begin::Beginning, reading, now, claims, metrics));
    assert_eq!(world.lines(), ["1", "2", "no end"]);
    let seen = disk::look(&world.path("app.log.gz")).unwrap();
    assert!(world.tail().is_caught_up(&seen));
    pack(&world.path("more.gz"), b"\n3\n");
    let more = fs::read(world.path("more.gz")).unwrap();
    fs::File::options().append(true).open(world.path("app.log.gz")).unwrap().write_all(&more).unwrap();
    assert_eq!(world.lines(), ["", "3"]);
}

#[test]
fn positions_of_other_programs_are_offsets() {
    let check = |offset, expected: &[&str]| {
        let mut world = World::new(Begin::Byte(offset));
        world.append("app.log", "1\n2\n");
        assert_eq!(world.lines(), expected, "from {offset}");
        assert!(world.tail().position().unwrap().is_sound());
    };
    check(2, &["2"]);
    check(4, &[]);
    check(5, &["1", "2"]);
}

#[test]
fn a_file_in_another_encoding_is_followed_in_its_own_bytes() {
    let mut world = World::new(Begin::Beginning);
    let write = |text: &str| {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut file = fs::File::options().append(true).create(true).open(world.path("app.log")).unwrap();
        file.write_all(&bytes).unwrap();
    };
    write("\u{feff}1\u{e4}\r\n2");
    write("");
    assert_eq!(world.lines(), ["1\u{e4}"]);
    assert_eq!(world.tail().position().unwrap().offset, 10);
}

/// The program has nothing more to say: the next line would be too late, if there is none.
#[test]
fn what_was_rotated_between_two_looks_is_read_although_the_new_file_is_empty() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    world.append("app.log", "2\n");
    world.rename("app.log", "app.log.2");
    world.append("app.log.1", "3\n");
    world.append("app.log", "");
    assert_eq!(world.lines(), ["2", "3"]);
    world.append("app.log.1", "4\n");
    assert_eq!(world.lines(), ["4"]);
    world.rename("app.log", "app.log.0");
    world.append("app.log.0", "5\n");
    world.append("app.log", "6\n");
    assert_eq!(world.lines(), ["5", "6"]);
}

#[test]
fn truncated_and_rewritten_files_are_read_from_their_beginning() {
    let mut world = World::with("1\n2\n");
    assert_eq!(world.lines(), ["1", "2"]);
    fs::write(world.path("app.log"), "3\n").unwrap();
    assert_eq!(world.lines(), ["3"], "shorter");
    fs::write(world.path("app.log"), "4\n5\n6\n").unwrap();
    assert_eq!(world.lines(), ["4", "5", "6"], "longer");
    assert_eq!(world.metrics.truncations.load(Relaxed), 2);
}

/// The program is fast: it has written more than was read before.
#[test]
fn what_is_truncated_between_a_look_and_the_read_is_not_mixed_up() {
    let mut world = World::with("one\n");
    assert_eq!(world.lines(), ["one"]);
    world.append("app.log", "two\n");
    let seen = world.tail().compare().unwrap().expect("it has grown");
    fs::copy(world.path("app.log"), world.path("app.log.1")).unwrap();
    fs::write(world.path("app.log"), "three\nfour\n").unwrap();
    let read = world.tail().read_seen(seen, Ending::Open, 1_000, None).unwrap();
    assert_eq!(read, None, "the end of a line of another file");
    assert_eq!(world.lines(), ["two", "three", "four"]);
}
