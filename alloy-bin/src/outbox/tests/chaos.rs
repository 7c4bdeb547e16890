//! Everything that can go wrong between an outbox and its endpoint, at random: in the end every record is there, each lane in
//! its order, and what the endpoint refused for good is counted to the last one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

/// Literal, and printed when a test fails.
const SEEDS: [u64; 3] = [0x5eed_0001, 0x5eed_0002, 0x5eed_0003];
const ROUNDS: u64 = 12;
const LANES: u64 = 6;
/// Records of each lane in a round.
const RECORDS: i64 = 8;

/// Numbers that look like chance and are the same in each run.
#[derive(Clone)]
struct Chance {
    seed: u64,
    drawn: Arc<AtomicU64>,
}

impl Chance {
    fn new(seed: u64) -> Self {
        Chance { seed, drawn: Arc::default() }
    }

    fn below(&self, limit: u64) -> u64 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        twox_hash::XxHash64::oneshot(self.seed, &drawn.to_le_bytes()) % limit
    }
}

/// A way to the endpoint on which connections break in all the ways that they can.
struct Way {
    address: SocketAddr,
    is_bad: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Way {
    async fn to(endpoint: SocketAddr, chance: Chance) -> Way {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_bad = Arc::new(AtomicBool::new(true));
        let mut task = JoinSet::new();
        task.spawn({
            let is_bad = is_bad.clone();
            async move {
                let mut connections = JoinSet::new();
                while let Ok((near, _)) = listener.accept().await {
                    let fate = if is_bad.load(Ordering::Relaxed) { chance.below(8) } else { u64::MAX };
                    connections.spawn(pass(near, endpoint, fate, 1 + chance.below(400)));
                }
            }
        });
        Way { address, is_bad, _task: task }
    }
}

/// One connection. How it ends is what the test is about, so its errors are nobody's.
async fn pass(mut near: TcpStream, endpoint: SocketAddr, fate: u64, bytes: u64) {
    let Ok(mut far) = TcpStream::connect(endpoint).await else { return };
    match fate {
        // Cut in the middle of a request.
        0 => drop(copy(&mut (&mut near).take(bytes), &mut far).await),
        // The endpoint's side of the connection ends in the middle of a request; its answer still comes through.
        1 => {
            let _ = copy(&mut (&mut near).take(bytes), &mut far).await;
            let _ = far.shutdown().await;
            let _ = copy(&mut far, &mut near).await;
        }
        // The agent's side ends before the answer; what it still sends arrives.
        2 => {
            let _ = near.shutdown().await;
            let _ = copy(&mut near, &mut far).await;
        }
        // Cut in the middle of an answer.
        3 => {
            let (mut from_near, mut to_near) = near.split();
            let (mut from_far, mut to_far) = far.split();
            tokio::select! {
                _ = copy(&mut from_near, &mut to_far) => {}
                _ = async { copy(&mut (&mut from_far).take(bytes % 30), &mut to_near).await } => {}
            }
        }
        // Nothing moves any more, and nobody says so.
        4 => drop((near.read(&mut [0; 16]).await, std::future::pending::<()>().await)),
        _ => drop(copy_bidirectional(&mut near, &mut far).await),
    }
}

fn answer(chance: &Chance) -> Answer {
    match chance.below(11) {
        0 => Answer::Refuse(500),
        1 => Answer::Refuse(503),
        2 => Answer::RefuseFor(429, 0),
        3 => Answer::RefuseFor(429, 1),
        4 => Answer::Refuse(429),
        5 => Answer::AcceptAfter(Duration::from_millis(chance.below(40))),
        6 => Answer::AcceptButSay(502),
        7 => Answer::AcceptButHangUp,
        8 => Answer::HangUp,
        _ => Answer::Accept,
    }
}

/// What the crashes of the outbox do to its counters.
#[derive(Clone, Copy, PartialEq)]
enum Life {
    One,
    Many,
}

/// What is spoken; the endpoint takes both.
#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    First,
    Second,
}

impl Protocol {
    fn record(self, name: &str, lane: u64, number: i64) -> Piece {
        match self {
            Protocol::First => record(name, lane, number),
            Protocol::Second => newer::in_newer(record(name, lane, number)),
        }
    }
}

async fn chaos(seed: u64, life: Life, protocol: Protocol) {
    println!("seed {seed:#x}");
    let chance = Chance::new(seed);
    let mut world = World::new().await;
    let way = Way::to(world.receiver.address(), Chance::new(!seed)).await;
    world.options.endpoint.url = format!("http://{}/api/v1/write", way.address).parse().unwrap();
    world.options.endpoint.timeout = Duration::from_millis(300);
    world.options.batching.lanes = 3;
    world.options.batching.deadline = Duration::from_millis(5);
    if protocol == Protocol::Second {
        newer::speak_newer(&mut world.options);
    }
    let mut outbox = world.open().await;
    let mut sending = send(&outbox);
    let mut bad = 0;
    for round in 0..ROUNDS {
        world.receiver.answer_next((0..6).map(|_| answer(&chance)));
        let is_down = chance.below(4) == 0;
        if is_down {
            world.receiver.down().await;
        }
        let tried = count(&outbox.figures().requests);
        for number in (round as i64 * RECORDS..).take(RECORDS as usize) {
            for lane in 0..LANES {
                outbox.accept(&[protocol.record("test", lane, number)]).await.unwrap();
            }
            if chance.below(8) == 0 {
                // The endpoint answers 400 to every request that has it.
                outbox.accept(&[protocol.record("", chance.below(LANES), number)]).await.unwrap();
                bad += 1;
            }
        }
        // A try at least, good or bad, belongs to each round.
        let has_tried = async || (count(&outbox.figures().requests) > tried).then_some(());
        eventually("it is tried", has_tried).await;
        if is_down {
            world.receiver.up().await.unwrap();
        }
        if life == Life::Many && chance.below(3) == 0 {
            sending.crash().await;
            drop(outbox);
            outbox = world.open().await;
            sending = send(&outbox);
        }
    }
    way.is_bad.store(false, Ordering::Relaxed);
    let empty = async || (outbox.log().lag_records == 0).then_some(());
    eventually("the log is empty", empty).await;

    let expected = Vec::from_iter(0..ROUNDS as i64 * RECORDS);
    for lane in 0..LANES {
        let mut seen = std::collections::HashSet::new();
        let mut first = arrived(&world.receiver, lane);
        first.retain(|number| seen.insert(*number));
        assert_eq!(first, expected, "lane {lane}");
    }
    assert_eq!(world.receiver.counts().conflicting_samples, 0);
    let figures = outbox.figures();
    if life == Life::One {
        let all = LANES * ROUNDS * RECORDS as u64;
        assert_eq!((count(&figures.accepted_items), count(&figures.sent_items)), (all + bad, all));
        assert_eq!(count(&figures.rejected_items), bad);
        assert_eq!(count(&figures.rejected_by_reason[Rejection::Invalid as usize]), bad);
    }
    sending.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_on_the_way_all_arrives_in_order_and_is_counted() {
    chaos(SEEDS[0], Life::One, Protocol::First).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_on_the_way_a_crash_loses_nothing() {
    chaos(SEEDS[1], Life::Many, Protocol::First).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_on_the_way_all_arrives_in_2_0_as_well() {
    chaos(SEEDS[2], Life::One, Protocol::Second).await;
}
