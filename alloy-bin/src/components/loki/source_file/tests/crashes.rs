//! The agent is killed, the machine loses power: what comes again, and that nothing is left out.

use proptest::prelude::*;

use super::*;

/// More than enough for the bookmarks to be saved.
const SAVED: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_killed_agent_goes_on_at_the_exact_line() {
    let world = World::new(&["app.log"]);
    // It is never saved: only the journal knows.
    world.receiver.not_durable.store(true, Relaxed);
    world.append("app.log", "1\n2\n");
    let first = world.run();
    world.receiver.wait_for(2).await;
    tokio::time::sleep(SAVED).await;
    first.kill().await;
    world.append("app.log", "3\n");
    let second = world.run();
    world.receiver.wait_for(3).await;
    tokio::time::sleep(SAVED).await;
    second.kill().await;
    world.rename("app.log", "app.log.1");
    world.append("app.log.1", "4\n");
    world.append("app.log", "5\n");
    let third = world.run();
    world.receiver.wait_for(5).await;
    third.kill().await;
    world.assert_lines(1..=5);
}

#[tokio::test(start_paused = true)]
async fn a_power_loss_repeats_only_what_was_not_saved_and_loses_nothing() {
    let world = World::new(&["app.log"]);
    world.append("app.log", "1\n");
    let first = world.run();
    world.receiver.wait_for(1).await;
    tokio::time::sleep(SAVED).await;
    // From here on the receiver has taken, but not synced: the bookmark must not move.
    world.receiver.not_durable.store(true, Relaxed);
    world.append("app.log", "2\n");
    world.receiver.wait_for(2).await;
    tokio::time::sleep(SAVED).await;
    first.kill().await;
    world.receiver.not_durable.store(false, Relaxed);
    world.append("app.log", "3\n");
    let second = world.run_as(world.another_boot());
    world.receiver.wait_for(4).await;
    second.stop().await;
    world.assert_lines([1, 2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_the_journal_gave_back_is_saved_although_nothing_new_comes() {
    let world = World::new(&["app.log"]);
    world.receiver.not_durable.store(true, Relaxed);
    world.append("app.log", "1\n");
    let first = world.run();
    world.receiver.wait_for(1).await;
    tokio::time::sleep(SAVED).await;
    first.kill().await;
    world.receiver.not_durable.store(false, Relaxed);
    let second = world.run();
    tokio::time::sleep(SAVED).await;
    second.kill().await;
    world.append("app.log", "2\n");
    let third = world.run_as(world.another_boot());
    world.receiver.wait_for(2).await;
    third.stop().await;
    world.assert_lines(1..=2);
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_knows_counts_though_the_node_had_read_more() {
    let world = World::new(&["app.log"]);
    let key = target(&world.folder, "app.log").key();
    world.append("app.log", "1\n");
    let first = world.run();
    world.receiver.wait_for(1).await;
    tokio::time::sleep(SAVED).await;
    let replica = first.table.0.states.lock().unwrap()[&key].clone();
    world.receiver.not_durable.store(true, Relaxed);
    world.append("app.log", "2\n");
    world.receiver.wait_for(2).await;
    tokio::time::sleep(SAVED).await;
    first.kill().await;
    world.append("app.log", "3\n");
    // What it had read more of, and not sent, it drops from its logs: here nobody does that.
    let second = world.run_from(world.base.clone(), replica, Origin::Replica);
    world.receiver.wait_for(4).await;
    second.kill().await;
    world.assert_lines([1, 2, 2, 3]);
}

/// What the successor knows of a file that has nothing new, before its owner is killed.
async fn replica_of_a_quiet_file(world: &World) -> Bytes {
    let node = world.run();
    tokio::time::sleep(SAVED).await;
    let replica = node.table.0.states.lock().unwrap().values().next().cloned();
    node.kill().await;
    replica.expect("the successor knows where the file begins")
}

#[tokio::test(start_paused = true)]
async fn a_successor_reads_a_file_that_was_empty_though_it_was_rotated_since() {
    let world = World::new(&["app.log"]);
    world.append("app.log", "");
    let replica = replica_of_a_quiet_file(&world).await;
    world.append("app.log", "1\n2\n");
    world.rename("app.log", "app.log.1");
    world.append("app.log", "3\n");
    let successor = world.run_from(base(&world.folder, "two"), replica, Origin::Replica);
    world.receiver.wait_for(3).await;
    successor.stop().await;
    world.assert_lines(1..=3);
}

#[tokio::test(start_paused = true)]
async fn a_successor_knows_how_far_a_file_was_read_before_its_owner_was_started() {
    let world = World::new(&["app.log"]);
    world.append("app.log", "1\n");
    let first = world.run();
    world.receiver.wait_for(1).await;
    first.stop().await;
    let replica = replica_of_a_quiet_file(&world).await;
    world.append("app.log", "2\n");
    let successor = world.run_from(base(&world.folder, "two"), replica, Origin::Replica);
    world.receiver.wait_for(2).await;
    successor.stop().await;
    world.assert_lines(1..=2);
}

#[tokio::test(start_paused = true)]
async fn files_that_are_left_are_forgotten_by_the_journal_and_not_by_the_bookmarks() {
    let world = World::new(&["app.log"]);
    let size = || fs::metadata(world.base.storage.join("bookmarks.journal")).unwrap().len();
    world.append("app.log", "1\n");
    let running = world.run();
    world.receiver.wait_for(1).await;
    for day in 0..5 {
        let name = format!("{day}.log");
        world.append(&name, "x\n");
        world.change(|arguments| arguments.targets.push(target(&world.folder, &name).into()));
        world.receiver.wait_for(day + 2).await;
        world.change(|arguments| arguments.targets.truncate(1));
        running.table.wait_for_stopped(target(&world.folder, &name).key()).await;
        tokio::time::sleep(SAVED).await;
    }
    running.kill().await;
    assert_eq!(size(), 3 * 256, "the header, one slot for the first, and one for the others in turn");
    world.change(|arguments| arguments.targets.push(target(&world.folder, "3.log").into()));
    let again = world.run();
    tokio::time::sleep(SAVED).await;
    again.stop().await;
    assert_eq!(world.receiver.lines().len(), 6);
}

/// Bytes of a line; some hundred lines are one block of 256 KiB.
const LINE_BYTES: usize = 1000;
const LINES: usize = 600;
const FILES: [&str; 2] = ["a.log", "b.log"];

/// An agent that is killed at these moments of a catch-up, again and again. All lines come; in each life at most one batch
/// of each file comes again, and it is the same batch with the same times.
async fn die_and_catch_up(deaths: Vec<(usize, Death)>) {
    let world = World::new(&FILES);
    let text: String = (0..LINES).map(|number| format!("{number:<LINE_BYTES$}\n")).collect();
    FILES.iter().for_each(|name| world.append(name, &text));
    // What is saved never moves.
    world.receiver.not_durable.store(true, Relaxed);
    let mut lives = 1;
    for death in deaths {
        *world.receiver.dies.lock().unwrap() = Some(death);
        world.receiver.is_dead.store(false, Relaxed);
        let running = world.run();
        let is_over =
            |receiver: &Receiver| receiver.is_dead.load(Relaxed) || receiver.distinct() == LINES * 2;
        world.receiver.wait(is_over).await;
        running.kill().await;
        lives += 1;
    }
    *world.receiver.dies.lock().unwrap() = None;
    let last = world.run();
    world.receiver.wait(|receiver| receiver.distinct() == LINES * 2).await;
    tokio::time::sleep(SAVED).await;
    last.kill().await;

    let batches = world.receiver.batches.lock().unwrap().clone();
    let distinct: BTreeSet<_> = batches.iter().collect();
    for name in FILES {
        let path = world.folder.path().join(name).display().to_string();
        let of = |batch: &&(String, i64, usize)| batch.0 == path;
        let lines: usize = distinct.iter().filter(|batch| of(batch)).map(|batch| batch.2).sum();
        assert_eq!(lines, LINES, "batches that come again are the same: {batches:?}");
        let repeated = batches.iter().filter(of).count() - distinct.iter().filter(|batch| of(batch)).count();
        assert!(repeated < lives, "{repeated} batches came again in {lives} lives");
    }
    let taken = world.receiver.taken.lock().unwrap();
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), LINES * 2, "each line has one time");
}

impl Receiver {
    /// How many different lines were taken.
    fn distinct(&self) -> usize {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|(path, _, line)| (path, line)).collect::<BTreeSet<_>>().len()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_crash_in_a_catch_up_loses_nothing_and_repeats_one_batch_exactly(
        deaths in proptest::collection::vec(
            (0usize..4, prop_oneof![Just(Death::BeforeTaken), Just(Death::AfterTaken)]), 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(die_and_catch_up(deaths));
    }
}
