//! Another node takes over, with batches on their way.

use super::*;

impl World {
    /// What can be read now: where each batch begins, with its intent, the time of its first line, its lines.
    fn batches(&mut self, now_ns: i64) -> Vec<(Position, i64, Vec<Bytes>)> {
        let mut batches = Vec::new();
        for _ in 0..8 {
            while let Step::Batch(chunk) = {
                let now = self.now;
                self.tail().step(now, now_ns, None).unwrap()
            } {
                let position = self.tail().offered().expect("a file is open");
                batches.push((position, chunk.base_ns, chunk.lines.clone()));
                self.tail().handle_accepted(&chunk);
            }
            self.now += ROTATION_GRACE;
        }
        batches
    }

    /// Another node takes over with these batches on their way.
    fn take_over(&mut self, batches: &[(Position, i64, Vec<Bytes>)]) {
        self.ledger = Arc::default();
        let mut tail = self.another("app.log", Begin::At(batches[0].0));
        tail.repeat(batches[1..].iter().map(|(position, ..)| *position).collect());
        self.tail = Some(tail);
    }
}

#[test]
fn batches_on_their_way_are_given_again_as_they_were_over_a_rotation() {
    let mut world = World::with("1\n2\n");
    let mut batches = world.batches(1000);
    world.append("app.log", "3\n");
    batches.extend(world.batches(2000));
    world.append("app.log", "4");
    world.rename("app.log", "app.log.1");
    world.append("app.log", "5\n");
    batches.extend(world.batches(3000));
    world.append("app.log", "6\n");
    batches.extend(world.batches(4000));
    assert_eq!(batches.len(), 5, "{batches:?}");
    for first in 0..batches.len() {
        world.take_over(&batches[first..]);
        let again = world.batches(9000);
        let place = |(position, base_ns, lines): &(Position, i64, Vec<Bytes>)| {
            (position.identity, position.offset, position.intent, *base_ns, lines.clone())
        };
        assert!(again.iter().map(place).eq(batches[first..].iter().map(place)), "from {first}: {again:?}");
    }
    world.append("app.log", "7\n");
    let next = world.batches(9001);
    assert_eq!((next[0].1, &next[0].2[..]), (9001, &[Bytes::from_static(b"7")][..]));
}

#[test]
fn what_is_not_in_the_file_any_more_is_not_given_as_it_was() {
    let mut world = World::with("1\n2\n");
    let mut batches = world.batches(1000);
    world.append("app.log", "3\n");
    batches.extend(world.batches(2000));
    fs::write(world.path("app.log"), "4\n").unwrap();
    world.take_over(&batches);
    let again = world.batches(9000);
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!((again[0].1, &again[0].2[..]), (9000, &[Bytes::from_static(b"4")][..]));
}
