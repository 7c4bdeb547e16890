//! What is not delivered is counted by its reason, and does not stand in the way.

use super::*;

fn by_reason(outbox: &Outbox, reason: Rejection) -> u64 {
    count(&outbox.figures().rejected_by_reason[reason as usize])
}

#[tokio::test]
async fn what_came_too_late_is_counted_as_out_of_order() {
    let world = World::new().await;
    // The request of ten, its first five, and what these are taken apart to; the other five are taken together.
    world.receiver.answer_next(vec![Answer::RefuseSaying(400, "out of order sample\n"); 10]);
    let outbox = world.open().await;
    accept(&outbox, 0..20).await;
    let sending = send(&outbox);
    world.counts(|counts| counts.samples == 15).await;
    sending.stop().await;
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(5..20));
    assert_eq!(by_reason(&outbox, Rejection::OutOfOrder), 5);
    assert_eq!(count(&outbox.figures().rejected_items), 5);
    let mut page = Page::default();
    outbox.figures().collect_rejected(&mut page, "x_total", &[("url", "u")]);
    assert!(page.render().contains("x_total{url=\"u\",reason=\"out_of_order\"} 5\n"), "{}", page.render());
}

/// An endpoint that would answer so for ever, to whatever is in one request with the old sample.
#[tokio::test]
async fn what_prometheus_will_never_take_does_not_stand_in_the_way() {
    let world = World::new().await;
    let old = Answer::RefuseSaying(500, "too old sample\n");
    world.receiver.answer_next(vec![old; 4]);
    let outbox = world.open().await;
    accept(&outbox, 0..20).await;
    let sending = send(&outbox);
    world.counts(|counts| counts.samples == 19).await;
    sending.stop().await;
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(1..20));
    assert_eq!((by_reason(&outbox, Rejection::OutOfOrder), count(&outbox.figures().retried_items)), (1, 0));
}

/// Loki has taken the other streams then, and would say it for ever, whether 429 is tried again or not.
#[tokio::test]
async fn a_stream_too_many_does_not_stand_in_the_way() {
    let world = World::new().await;
    let limit =
        Answer::RefuseSaying(429, "Maximum active stream limit exceeded when trying to create stream");
    // Halves of ten, five, two: until it is the one.
    world.receiver.answer_next(vec![limit; 4]);
    let outbox = world.open().await;
    accept(&outbox, 0..20).await;
    let sending = send(&outbox);
    world.counts(|counts| counts.samples == 19).await;
    sending.stop().await;
    assert_eq!((by_reason(&outbox, Rejection::StreamLimit), count(&outbox.figures().retried_items)), (1, 0));
}

#[tokio::test]
async fn a_request_without_the_right_to_send_is_not_taken_apart() {
    let world = World::new().await;
    world.receiver.answer_next([Answer::Refuse(401), Answer::Refuse(404)]);
    let outbox = world.open().await;
    accept(&outbox, 0..30).await;
    let sending = send(&outbox);
    let counts = world.counts(|counts| counts.samples == 10).await;
    sending.stop().await;
    assert_eq!(counts.requests, 3);
    assert_eq!(by_reason(&outbox, Rejection::Unauthorized), 10);
    assert_eq!(by_reason(&outbox, Rejection::Other), 10);
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(20..30));
    assert_eq!(outbox.log().lag_records, 0);
}

/// The endpoint is down until a record has grown too old; what is young enough is sent all the same.
#[tokio::test]
async fn what_grows_too_old_on_the_way_is_dropped_and_counted() {
    let mut world = World::new().await;
    let limit = Duration::from_millis(500);
    world.options.retry.age_limit = Some(limit);
    world.receiver.answer(Answer::Refuse(503));
    let outbox = world.open().await;
    let now = custody::now_ms() as i64;
    let young = now + 3_600_000;
    for number in [now - 3_600_000, now, young] {
        outbox.accept(&[record("test", 7, number)]).await.unwrap();
    }
    let sending = send(&outbox);
    let flushing = outbox.flush(PATIENCE);
    let healing = async {
        figure(&outbox, |figures| &figures.expired_items, 2).await;
        world.receiver.answer(Answer::Accept);
    };
    bounded(async { tokio::join!(flushing, healing) }).await;
    sending.stop().await;
    assert_eq!(arrived(&world.receiver, 7), [young]);
    assert!(count(&outbox.figures().retried_items) > 0, "the second one was tried while it was young");
    assert_eq!((count(&outbox.figures().sent_items), count(&outbox.figures().rejected_items)), (1, 0));
    assert_eq!(outbox.log().lag_records, 0);
}

/// Nothing is sent at all, and the log lets go of whole segments by itself.
#[tokio::test]
async fn what_is_kept_too_long_leaves_the_log_and_is_counted() {
    let mut world = World::new().await;
    world.options.log.max_age = Some(Duration::from_millis(100));
    let outbox = world.open().await;
    for number in 0..600 {
        outbox.accept(&[large_record(number)]).await.unwrap();
    }
    let dropped = || outbox.log().dropped_records;
    eventually("old segments go", async || (dropped() > 0).then_some(())).await;
    eventually("they leave the disk", async || {
        (outbox.log().disk_bytes <= 4 * world.options.log.segment_bytes).then_some(())
    })
    .await;
    let sending = send(&outbox);
    bounded(outbox.flush(PATIENCE)).await;
    sending.stop().await;
    let arrived = arrived(&world.receiver, 7);
    assert_eq!(arrived.len() as u64 + dropped(), 600, "delivered or counted");
    assert!(arrived.is_empty() || arrived.last() == Some(&599), "the oldest went: {:?}", arrived.first());
}
