//! Reads the log from the first record that is not acknowledged, and fills the lanes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloy_wal::{Item, Position};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::custody::Custody;
use super::lane::{Lane, Pending};
use super::{Batching, Clearance, Options, Piece};

/// Records on their way, over all lanes: inside the log's window, which is eight times as many.
const IN_FLIGHT_MAX: usize = 8192;

/// Reads, sends, acknowledges.
pub(super) struct Sender {
    custody: Arc<Custody>,
    options: Arc<Options>,
    client: Arc<Client>,
    lanes: Arc<Lanes>,
    url: String,
}

/// The lanes, and whether somebody waits for them to be empty.
#[derive(Default)]
struct Lanes {
    all: Vec<Lane>,
    hurrying: AtomicUsize,
}

impl Sender {
    pub(super) fn new(custody: Arc<Custody>, options: Arc<Options>) -> Self {
        let client = Client::new(options.endpoint.clone(), options.retry.on_too_many_requests);
        let all = (0..options.batching.lanes.max(1)).map(|_| Lane::default()).collect();
        let url = options.endpoint.url.to_string();
        let lanes = Arc::new(Lanes { all, hurrying: AtomicUsize::new(0) });
        Sender { custody, options, client: Arc::new(client), lanes, url }
    }

    pub(super) fn name(&self) -> &str {
        &self.options.endpoint.name
    }

    pub(super) fn clearance(&self) -> Option<&dyn Clearance> {
        self.options.clearance.as_deref()
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn wants_newer(&self) -> bool {
        self.options.endpoint.newer_headers.is_some()
            && !self.custody.figures().newer_refused.load(Ordering::Relaxed)
    }

    /// Sends until `stop`, then what is left for at most `patience`.
    pub(super) async fn run(&self, stop: CancellationToken, patience: Duration) {
        let (mut reading, mut sending) = (JoinSet::new(), JoinSet::new());
        let closing = CancellationToken::new();
        for index in 0..self.lanes.all.len() {
            let (lanes, custody, closing) = (self.lanes.clone(), self.custody.clone(), closing.clone());
            let (client, options) = (self.client.clone(), self.options.clone());
            sending.spawn(async move {
                let run = lanes.all[index].run(&custody, &client, &options, &lanes.hurrying, &closing);
                run.await;
            });
        }
        let (lanes, custody, options) = (self.lanes.clone(), self.custody.clone(), self.options.clone());
        reading.spawn(async move { read(&custody, &lanes.all, &options).await });
        stop.cancelled().await;
        let deadline = Instant::now() + patience;
        self.flush(patience).await;
        // What came meanwhile stays in the log. What is on its way is waited for: cut off, it would be sent twice.
        closing.cancel();
        let _ =
            tokio::time::timeout_at(deadline, async { while sending.join_next().await.is_some() {} }).await;
        // Dropping the sets ends the tasks; what they had not acknowledged is read again at the next start.
    }

    /// Sends without waiting for requests to fill up, until what is in the log now is delivered.
    pub(super) async fn flush(&self, patience: Duration) {
        self.lanes.hurrying.fetch_add(1, Ordering::Relaxed);
        self.lanes.all.iter().for_each(Lane::wake);
        let _ = tokio::time::timeout(patience, self.custody.delivered()).await;
        self.lanes.hurrying.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the log into the lanes, for ever; waits while too much is on its way.
async fn read(custody: &Custody, lanes: &[Lane], options: &Options) {
    let Batching { in_flight_bytes, form, .. } = options.batching;
    let most = in_flight_bytes.clamp(IN_FLIGHT_MAX, u32::MAX as usize);
    let room = Arc::new(Semaphore::new(most));
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
            let size = (form.weigh)(&piece.body).clamp(most / IN_FLIGHT_MAX, most);
            let permits = u32::try_from(size).expect("the most fits");
            let permit = room.clone().acquire_many_owned(permits).await.expect("never closed");
            if let (Some(clearance), Some(origin)) = (&options.clearance, &piece.origin) {
                clearance.waits(origin);
            }
            let lane = &lanes[(piece.lane % lanes.len() as u64) as usize];
            lane.push(Pending {
                position: Some(record.position),
                piece,
                since: Instant::now(),
                _room: Some(permit),
            });
        }
    }
}
