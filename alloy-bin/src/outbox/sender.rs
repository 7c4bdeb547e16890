//! Reads the log from the first record that is not acknowledged, and fills the lanes.

use std::sync::Arc;
use std::time::Duration;

use alloy_wal::{Item, Position};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::custody::Custody;
use super::lane::{Lane, Pending};
use super::{Options, Piece};

/// Bytes of records on their way, over all lanes. Two full requests of 1 MiB for each of four lanes.
const IN_FLIGHT_BYTES: usize = 8 << 20;
/// What each record counts at least: bounds the records on their way to 8,192, inside the log's window.
const RECORD_BYTES_MIN: usize = 1 << 10;

/// Reads, sends, acknowledges.
pub(super) struct Sender {
    custody: Arc<Custody>,
    options: Arc<Options>,
    client: Arc<Client>,
    url: String,
}

impl Sender {
    pub(super) fn new(custody: Arc<Custody>, options: Arc<Options>) -> anyhow::Result<Self> {
        let client = Client::new(options.endpoint.clone(), options.retry.on_too_many_requests);
        let url = options.endpoint.url.to_string();
        Ok(Sender { custody, options, client: Arc::new(client), url })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Sends until `stop`, then what is left for at most `flush`.
    pub(super) async fn run(&self, stop: CancellationToken, flush: Duration) {
        let hurry = CancellationToken::new();
        let lanes: Arc<[Lane]> = (0..self.options.batching.lanes.max(1)).map(|_| Lane::default()).collect();
        let mut tasks = JoinSet::new();
        for index in 0..lanes.len() {
            let (lanes, hurry) = (lanes.clone(), hurry.clone());
            let (custody, client, options) =
                (self.custody.clone(), self.client.clone(), self.options.clone());
            tasks.spawn(async move { lanes[index].run(&custody, &client, &options, &hurry).await });
        }
        let (reader_lanes, custody) = (lanes.clone(), self.custody.clone());
        tasks.spawn(async move { read(&custody, &reader_lanes).await });
        stop.cancelled().await;
        hurry.cancel();
        lanes.iter().for_each(Lane::wake);
        let _ = tokio::time::timeout(flush, self.custody.delivered()).await;
        // Dropping the set ends the tasks; what they had not acknowledged is read again at the next start.
    }
}

/// Reads the log into the lanes, for ever; waits while too much is on its way.
async fn read(custody: &Custody, lanes: &[Lane]) {
    let room = Arc::new(Semaphore::new(IN_FLIGHT_BYTES));
    let mut next: Position = 0;
    loop {
        next = custody.next_to_send(next);
        let items = custody.read(next).await;
        if items.is_empty() {
            custody.written_behind(next).await;
        }
        for item in items {
            next = item.next();
            let record = match item {
                Item::Record(record) => record,
                Item::Gap(gap) => {
                    custody.lost(gap);
                    continue;
                }
            };
            if custody.next_to_send(record.position) != record.position {
                continue;
            }
            let Some(piece) = Piece::decode(&record.payload) else {
                custody.undecodable(record.position);
                continue;
            };
            let size = piece.body.len().clamp(RECORD_BYTES_MIN, IN_FLIGHT_BYTES);
            let permits = u32::try_from(size).expect("IN_FLIGHT_BYTES fits");
            let permit = room.clone().acquire_many_owned(permits).await.expect("never closed");
            let lane = &lanes[(piece.lane % lanes.len() as u64) as usize];
            lane.push(Pending { position: record.position, piece, since: Instant::now(), _room: permit });
        }
    }
}
