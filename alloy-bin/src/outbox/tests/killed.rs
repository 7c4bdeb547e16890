//! What a kill costs.

use super::*;

/// The files as they are while the agent runs are what `kill -9` leaves.
#[tokio::test]
async fn after_a_kill_at_most_the_request_in_flight_is_sent_again() {
    let world = World::new().await;
    let outbox = world.open().await;
    let sending = send(&outbox);
    for round in 0..5 {
        for request in 0..8 {
            let first = (round * 8 + request) * 10;
            accept(&outbox, first..first + 10).await;
            bounded(outbox.flush(PATIENCE)).await;
        }
        let left = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&world.options.directory).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, left.path().join(path.file_name().unwrap())).unwrap();
        }
        let log = alloy_wal::Log::open(left.path(), alloy_wal::Options::default()).unwrap();
        let again = alloy_wal::Wal::consumers(&log)[0].cursor.lag_records;
        assert!(again <= 10, "{again} records would be sent again in round {round}");
    }
    sending.stop().await;
    assert_eq!(arrived(&world.receiver, 7), Vec::from_iter(0..400));
}
