//! A process that is killed with SIGKILL at random moments loses nothing that it was told is written, under each durability
//! level.
//!
//! The test runs itself as the child: it appends, makes that as durable as the level says, and prints each position that was
//! covered. 20 rounds a level; `ALLOY_WAL_KILLS=1000 cargo test --release -p alloy-wal --test killed` for thousands.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use alloy_wal::conformance::{append, payload, read_all, small_options};
use alloy_wal::{Item, Log, Options, Policy, Result, Start, Wal, Watermarks};

const DIRECTORY: &str = "ALLOY_WAL_KILLED_DIRECTORY";
const KILLS: &str = "ALLOY_WAL_KILLS";
const ROUNDS: u64 = 20;
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How the child makes its records durable: what lib.rs calls the three levels.
#[derive(Debug, Clone, Copy)]
enum Level {
    None,
    Interval,
    Commit,
}

impl Level {
    /// What a caller does after each batch.
    fn reach(self, log: &Log, step: u64) -> Result<Watermarks> {
        match self {
            Level::None => log.write(),
            Level::Interval if step % 8 != 7 => log.write(),
            Level::Interval | Level::Commit => log.sync(),
        }
    }
}

fn options() -> Options {
    Options { policy: Policy::DropOldest, max_bytes: 2 << 20, ..small_options() }
}

#[test]
fn a_killed_process_keeps_what_it_wrote_when_it_never_syncs() {
    kill_at_random("a_killed_process_keeps_what_it_wrote_when_it_never_syncs", Level::None);
}

#[test]
fn a_killed_process_keeps_what_it_wrote_when_it_syncs_now_and_then() {
    kill_at_random("a_killed_process_keeps_what_it_wrote_when_it_syncs_now_and_then", Level::Interval);
}

#[test]
fn a_killed_process_keeps_what_it_committed() {
    kill_at_random("a_killed_process_keeps_what_it_committed", Level::Commit);
}

fn kill_at_random(test: &str, level: Level) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return child(directory.as_ref(), level);
    }
    // NOTE: a child that another thread is about to start holds, until its exec, a copy of this process's open files, the lock
    // of a log among them, and the next child would find it locked.
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let rounds = std::env::var(KILLS).ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([test, "--exact", "--nocapture", "-q"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        // How far it may come varies by round; the moment itself is the scheduler's.
        let mut lines = String::new();
        for _ in 0..round * 37 % 300 + 10 {
            output.read_line(&mut lines).expect("readable");
        }
        child.kill().expect("killed");
        child.wait().expect("dead");
        output.read_to_string(&mut lines).expect("readable");
        check(directory.path(), &lines, round);
    }
}

fn child(directory: &std::path::Path, level: Level) {
    let log = Log::open(directory, options()).expect("opens");
    let consumer = log.consumer("c", Start::Oldest).expect("created");
    println!();
    for step in 0.. {
        append(&log, 1 + step % 3).expect("room");
        let now = level.reach(&log, step).expect("the disk works");
        println!("written {}", now.written);
        let low = log.cursor(consumer).expect("known").acknowledged;
        log.acknowledge(consumer, low..(low + step % 5).min(now.written)).expect("in the window");
        log.note_cursors().expect("the disk works");
        println!("noted {}", log.cursor(consumer).expect("known").acknowledged);
        if step % 16 == 0 {
            log.save_cursors().expect("the disk works");
            println!("saved {}", log.cursor(consumer).expect("known").saved);
            log.release(0).expect("the disk works");
        }
        std::io::stdout().flush().expect("the parent reads");
    }
}

fn check(directory: &std::path::Path, lines: &str, round: u64) {
    // The last line may be cut.
    let complete = lines.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let last = |word: &str| {
        let numbers = complete.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse::<u64>().ok());
        numbers.max().unwrap_or(0)
    };
    let (written, noted, saved) = (last("written"), last("noted"), last("saved"));
    assert!(written > 0, "round {round}: the child came to nothing: {lines}");
    let log = Log::open(directory, options()).expect("opens");
    let now = log.watermarks();
    assert!(now.durable >= written, "round {round}: {now:?} but {written} was written");
    let items = read_all(&log, now.released).expect("readable");
    assert_eq!(items.len() as u64, now.written - now.released, "round {round}");
    for item in items {
        let Item::Record(record) = item else { panic!("round {round}: {item:?}") };
        assert_eq!(record.payload, payload(record.position), "round {round}");
    }
    let consumer = log.consumer("c", Start::Newest).expect("known");
    let cursor = log.cursor(consumer).expect("known");
    assert!(
        cursor.acknowledged >= noted.max(saved) && cursor.acknowledged <= now.durable,
        "round {round}: {cursor:?}"
    );
}
