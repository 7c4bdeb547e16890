//! One path over its rotations, while it is followed and while it is not.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::graph::Unfinished;
use crate::tailing::ledger::Ledger;
use crate::tailing::packed::pack;
use crate::telemetry::Labels;

mod copies;
mod takeover;

/// A folder with `app.log`, and what follows it. Its clock is moved by hand.
struct World {
    folder: TempDir,
    tail: Option<Tail>,
    now: Instant,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
}

impl World {
    fn new(begin: Begin) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World {
            folder,
            tail: None,
            now: Instant::now(),
            ledger: Arc::default(),
            metrics: Arc::default(),
        };
        world.follow(begin);
        world
    }

    /// Follows from the beginning what these lines are written to.
    fn with(text: &str) -> Self {
        let world = World::new(Begin::Beginning);
        world.append("app.log", text);
        world
    }

    fn follow(&mut self, begin: Begin) {
        self.tail = Some(self.another("app.log", begin));
    }

    fn another(&self, name: &str, begin: Begin) -> Tail {
        let reading = Reading { limits: Limits::new(64, 64), ..Reading::default() };
        let (path, metrics) = (Arc::from(self.path(name)), self.metrics.clone());
        let claims = Claims::new(self.ledger.clone(), &Labels::new([("filename", name)]), &path);
        Tail::new(path, begin, reading, self.now, claims, metrics)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = fs::File::options().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn tail(&mut self) -> &mut Tail {
        self.tail.as_mut().expect("followed")
    }

    /// Compresses a file, as rotation does: it is gone then.
    fn compress(&self, from: &str, to: &str) {
        pack(&self.path(to), &fs::read(self.path(from)).unwrap());
        fs::remove_file(self.path(from)).unwrap();
    }

    /// Everything that can be read now, also after all grace periods.
    fn lines(&mut self) -> Vec<String> {
        let mut lines = self.lines_now();
        for _ in 0..8 {
            self.now += ROTATION_GRACE;
            lines.extend(self.lines_now());
        }
        lines
    }

    /// Files as they are some time after they were written.
    fn age(&self) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            self.date(entry.unwrap().file_name().to_str().unwrap(), 60);
        }
    }

    /// As if it had been written so many seconds before the test.
    fn date(&self, name: &str, ago_s: u64) {
        let time = fs::metadata(&self.folder).unwrap().created().unwrap() - Duration::from_secs(ago_s);
        fs::File::options().append(true).open(self.path(name)).unwrap().set_modified(time).unwrap();
    }

    /// Everything that can be read without letting time pass.
    fn lines_now(&mut self) -> Vec<String> {
        let (now, mut lines) = (self.now, Vec::new());
        loop {
            match self.tail().step(now, 1_000, None) {
                Ok(Step::Batch(chunk)) => {
                    self.tail().handle_accepted(&chunk);
                    lines.extend(chunk.lines.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()));
                }
                Ok(Step::Idle) => return lines,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return lines,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Stops; somebody else, who sees the same files under another device number, follows from the same position.
    fn restart(&mut self, meanwhile: impl FnOnce(&World)) {
        let position = self.tail().position().expect("it was opened");
        self.tail = None;
        meanwhile(self);
        let mut position = Position::decode(&position.encode()).expect("it is sound");
        position.identity.device += 1;
        self.follow(Begin::At(position));
    }
}

#[test]
fn a_rotated_file_is_read_to_its_end_first() {
    let mut world = World::with("1\n2\n");
    assert_eq!(world.lines(), ["1", "2"]);
    world.append("app.log", "3\n");
    world.rename("app.log", "app.log.1");
    world.append("app.log", "5\n");
    assert_eq!(world.lines_now(), ["3"], "the program may not have opened the new file yet");
    world.append("app.log.1", "4\nno end");
    assert_eq!(world.lines(), ["4", "no end", "5"]);
    assert_eq!(world.metrics.rotations.load(Relaxed), 1);
}

#[test]
fn a_new_file_without_content_does_not_end_the_old_one() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    world.rename("app.log", "app.log.1");
    world.append("app.log", "");
    assert_eq!(world.lines(), [""; 0]);
    world.append("app.log.1", "2\n");
    assert_eq!(world.lines(), ["2"]);
}

#[test]
fn several_rotations_between_two_looks_lose_nothing() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    world.append("app.log", "2\n");
    world.rename("app.log", "app.log.2");
    world.append("app.log.1", "3\n");
    world.append("app.log", "4\n");
    world.append("app.log.3", "older, from before\n");
    world.date("app.log.3", 60);
    assert_eq!(world.lines(), ["2", "3", "4"]);
}

#[test]
fn a_file_that_is_removed_is_followed_until_another_comes() {
    let mut world = World::with("1\nno end");
    assert_eq!(world.lines(), ["1"]);
    fs::remove_file(world.path("app.log")).unwrap();
    assert_eq!(world.lines(), [""; 0]);
    world.append("app.log", "2\n");
    assert_eq!(world.lines(), ["no end", "2"]);
}

#[test]
fn the_end_is_where_the_first_incomplete_line_begins() {
    let check = |text: &str, expected: &[&str]| {
        let mut world = World::new(Begin::End);
        world.append("app.log", text);
        assert_eq!(world.lines(), [""; 0]);
        world.append("app.log", "x\n");
        assert_eq!(world.lines(), expected, "{text:?}");
    };
    check("1\n2\n", &["x"]);
    check("1\n2", &["2x"]);
    check("1", &["1x"]);
    check("", &["x"]);
}

#[test]
fn what_was_rotated_while_nobody_looked_is_found() {
    let check = |name: &str, meanwhile: fn(&World), expected: &[&str]| {
        let mut world = World::with("1\n2\n");
        assert_eq!(world.lines(), ["1", "2"]);
        world.restart(meanwhile);
        assert_eq!(world.lines(), expected, "{name}");
        world.append("app.log", "last\n");
        assert_eq!(world.lines(), ["last"], "{name}");
    };
    check("nothing happened", |_| {}, &[]);
    check("grown", |world| world.append("app.log", "3\n"), &["3"]);
    check(
        "renamed",
        |world| {
            world.append("app.log", "3\n");
            world.rename("app.log", "app.log.1");
            world.append("app.log", "4\n");
        },
        &["3", "4"],
    );
    check(
        "renamed three times, the newest by date",
        |world| {
            world.append("app.log", "3\n");
            world.rename("app.log", "app.log-20260101");
            world.append("app.log-20260102", "4\n");
            world.append("app.log-20260103", "5\n");
            world.append("app.log-20251231", "older\n");
            world.append("app.log", "6\n");
        },
        &["3", "4", "5", "6"],
    );
    check(
        "renamed three times, with numbers that go up",
        |world| {
            world.append("app.log", "3\n");
            world.rename("app.log", "app.log.8");
            for (name, line, ago_s) in [("7", "older", 90), ("9", "4", 60), ("10", "5", 50)] {
                world.append(&format!("app.log.{name}"), &format!("{line}\n"));
                world.date(&format!("app.log.{name}"), ago_s);
            }
            world.date("app.log.8", 70);
            world.compress("app.log.8", "app.log.8.gz");
            world.append("app.log", "6\n");
        },
        &["3", "4", "5", "6"],
    );
    check(
        "copied and truncated",
        |world| {
            world.append("app.log", "3\n");
            fs::copy(world.path("app.log"), world.path("app.log.1")).unwrap();
            fs::write(world.path("app.log"), "4\n").unwrap();
        },
        &["3", "4"],
    );
    check(
        "renamed and compressed",
        |world| {
            world.append("app.log", "3\n");
            world.compress("app.log", "app.log.1.gz");
            world.append("app.log", "4\n");
        },
        &["3", "4"],
    );
    check(
        "several times, and compressed in different ways",
        |world| {
            world.append("app.log", "3\n");
            world.compress("app.log", "app.log.3.zst");
            world.append("4", "4\n");
            world.compress("4", "app.log.2.bz2");
            world.append("older", "older\n");
            world.compress("older", "app.log.4.gz");
            world.append("app.log.1", "5\n");
            world.append("app.log", "6\n");
        },
        &["3", "4", "5", "6"],
    );
    check(
        "renamed to what is no compressed file",
        |world| {
            world.rename("app.log", "app.log.1.gz");
            world.append("app.log", "4\n");
        },
        &["4"],
    );
    check(
        "rewritten",
        |world| fs::write(world.path("app.log"), "other\nlines\n").unwrap(),
        &["other", "lines"],
    );
}

#[test]
fn a_file_that_had_no_line_yet_is_found_when_it_is_rotated_with_its_first_ones() {
    let mut world = World::with("");
    assert_eq!(world.lines(), [""; 0]);
    let rotate = |world: &World| {
        world.append("app.log", "1\n");
        world.rename("app.log", "app.log.1");
        world.append("app.log", "2\n");
    };
    assert!(world.tail().poll_beginning(), "others have to know of it");
    assert!(!world.tail().poll_beginning(), "once");
    world.restart(rotate);
    assert_eq!(world.lines(), ["1", "2"], "nobody looked");

    let mut world = World::with("");
    assert_eq!(world.lines(), [""; 0]);
    world.restart(|_| {});
    assert_eq!(world.lines(), [""; 0]);
    rotate(&world);
    assert_eq!(world.lines(), ["1", "2"], "the next had looked");
}

#[test]
fn a_batch_that_was_under_way_is_repeated_exactly_by_the_next() {
    let mut world = World::with("1\n2\n");
    let now = world.now;
    let Ok(Step::Batch(first)) = world.tail().step(now, 1_000, None) else { panic!("two lines") };
    world.restart(|world| world.append("app.log", "3\n"));
    let Ok(Step::Batch(second)) = world.tail().step(now, 9_000, None) else { panic!("two lines") };
    assert_eq!(first, second);
    world.tail().handle_accepted(&second);
    let Ok(Step::Batch(third)) = world.tail().step(now, 9_000, None) else { panic!("one line") };
    assert_eq!((third.lines.len(), third.base_ns), (1, 9_000));
}

#[test]
fn quiet_files_are_closed_and_found_again() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    world.now += CLOSE_AFTER;
    let now = world.now;
    world.tail().close_if_quiet(now, CLOSE_AFTER);
    assert!(world.tail().open.is_none());
    let seen = disk::look(&world.path("app.log")).unwrap();
    assert!(world.tail().is_caught_up(&seen), "an idle closed file costs no more than a look");
    world.append("app.log", "2\n");
    world.rename("app.log", "app.log.1");
    world.append("app.log", "3\n");
    assert_eq!(world.lines(), ["2", "3"]);
}

#[test]
fn timestamps_grow_by_line_over_rotations_and_restarts() {
    let mut world = World::with("1\n2\n");
    assert_eq!(world.lines(), ["1", "2"]);
    assert_eq!(world.tail().position().unwrap().last_ns, 1_001);
    world.restart(|world| {
        world.rename("app.log", "app.log.1");
        world.append("app.log", "3\n");
    });
    assert_eq!(world.lines(), ["3"]);
    assert_eq!(world.tail().position().unwrap().last_ns, 1_002);
}

#[test]
fn a_rotated_file_that_is_a_target_too_is_not_read_again() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    world.append("app.log", "2\n");
    world.rename("app.log", "app.log.1");
    // The glob finds it under its new name while it is still read under the old one.
    let mut first = world.tail.take().unwrap();
    world.tail = Some(world.another("app.log.1", Begin::Beginning));
    assert_eq!(world.lines(), [""; 0]);
    // The first tail reads the rest and moves on; only then the second has the file.
    world.append("app.log", "3\n");
    std::mem::swap(world.tail(), &mut first);
    assert_eq!(world.lines(), ["2", "3"]);
    std::mem::swap(world.tail(), &mut first);
    world.append("app.log.1", "late\n");
    assert_eq!(world.lines(), ["late"]);
}

#[test]
fn a_file_with_two_names_is_read_under_both() {
    let mut world = World::with("1\n");
    assert_eq!(world.lines(), ["1"]);
    fs::hard_link(world.path("app.log"), world.path("link.log")).unwrap();
    let first = world.tail.take();
    world.tail = Some(world.another("link.log", Begin::Beginning));
    assert_eq!(world.lines(), ["1"]);
    drop(first);
}

/// Lines that end with `+` go on in the next.
fn goes_on(chunk: &Chunk) -> Option<Unfinished> {
    let open = chunk.lines.iter().rev().take_while(|line| line.ends_with(b"+")).count();
    (open > 0).then_some(Unfinished { from: chunk.lines.len() - open, wait: Duration::from_secs(3) })
}

impl World {
    /// One step of a receiver that joins lines; nothing if there is nothing to take.
    fn joined(&mut self) -> Vec<String> {
        let now = self.now;
        match self.tail().step(now, 1_000, Some(&goes_on)).unwrap() {
            Step::Idle => Vec::new(),
            Step::Batch(chunk) => {
                self.tail().handle_accepted(&chunk);
                chunk.lines.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
            }
        }
    }
}

/// What is left for later is neither taken nor behind the position: who follows after a crash reads it again.
#[test]
fn unfinished_lines_stay_in_the_file_until_they_go_on() {
    let mut world = World::with("1\n2+\n");
    assert_eq!(world.joined(), ["1"]);
    assert_eq!(world.tail().position().unwrap().offset, 2);
    assert!(world.joined().is_empty());
    world.restart(|_| ());
    assert!(world.joined().is_empty());
    world.append("app.log", "3\n4+\n");
    assert_eq!(world.joined(), ["2+", "3"]);
    assert!(world.joined().is_empty());
}

#[test]
fn unfinished_lines_are_taken_as_they_are_when_nothing_follows() {
    let mut world = World::with("1+\n");
    assert!(world.joined().is_empty());
    world.now += Duration::from_millis(2999);
    assert!(world.joined().is_empty());
    world.now += Duration::from_millis(1);
    assert_eq!(world.joined(), ["1+"]);
    world.append("app.log", "2+\n");
    assert!(world.joined().is_empty(), "the next has a wait of its own");
    // Nobody waits when the file is no longer wanted.
    assert_eq!(world.lines_now(), ["2+"]);
}

#[test]
fn a_block_that_has_no_room_for_more_and_a_rotated_file_are_taken_as_they_are() {
    let mut world = World::with(&"123456+\n".repeat(9));
    assert_eq!(world.joined().len(), 8, "64 bytes are read at once");
    assert!(world.joined().is_empty());
    world.rename("app.log", "app.log.1");
    world.append("app.log", "new\n");
    world.now += ROTATION_GRACE;
    assert_eq!(world.joined(), ["123456+"]);
    assert_eq!(world.joined(), ["new"]);
}

#[test]
fn a_batch_that_was_under_way_is_repeated_with_its_unfinished_lines() {
    let mut world = World::with("1+\n");
    assert!(world.joined().is_empty());
    world.now += Duration::from_secs(3);
    let now = world.now;
    let Ok(Step::Batch(first)) = world.tail().step(now, 1_000, Some(&goes_on)) else { panic!("one line") };
    world.restart(|world| world.append("app.log", "2\n"));
    let Ok(Step::Batch(second)) = world.tail().step(now, 9_000, Some(&goes_on)) else { panic!("one line") };
    assert_eq!(first, second);
}
